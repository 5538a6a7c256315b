// BAMM's base-layer model (generators.md 4): MoMask's trunk with an end token, a hybrid attention
// mask, and generation in two left-to-right passes, the first unidirectional, the second seeing
// known tokens on both sides.
#pragma once

#include <limits>

#include "models/momask/trunk.h"
#include "models/motion_generator.h"
#include "models/token_loss.h"
#include "tensor/graph.h"

namespace mc::bamm {

struct Config : momask::TransformerConfig {
    bool gpt_blocks = false;  // the unreleased "t2mgpt" stack (type B) for the "official" one
    // Generation as the original has it: plain draws whatever the options say (QUIRK Q25), the
    // second pass makes the first half of the motion anew (Q26 with a stable sort) and overwrites
    // the known tokens while it runs (Q27). Off: temperature and top_k are heeded, the half is
    // random, known tokens stay.
    bool reference_sampling = true;
};

class Transformer : public momask::Trunk {
  public:
    static constexpr double kSecondGuidance = 3;

    Transformer(const Config& config, Generator* init);

    int64_t end_id() const { return config_.num_tokens; }
    int64_t pad_id() const { return config_.num_tokens + 1; }
    const Config& config() const { return own_config_; }

    // ids (B, N) in [0, num_tokens + 3), cond (B, clip_dim) -> (B, N + 1, num_tokens + 1): row k
    // predicts token k. `known` (B, N): tokens that all rows may see, pad_id where there is none;
    // undefined: purely causal.
    Var logits(const Tensor& ids, const Tensor& cond, const Tensor& known = {},
               const nn::Pass& pass = {}) const;
    Tensor guided_logits(const Tensor& ids, const Tensor& cond, const Tensor& known,
                         double scale) const;
    // bool (B, N + 1, N + 1), true = not attended. The condition and the known tokens see one
    // another alone; every other row sees all before it and all of them.
    Tensor hybrid_mask(const Tensor& known) const;

    struct Step {
        Var loss;                // () each motion weighs the same; the end token counts
        TokenAccuracy accuracy;  // up to the end token
        Tensor ids, known;       // (B, n + 1): what was fed; known tokens, pad_id elsewhere
        Tensor logits;           // (B, n + 1, num_tokens + 1)
    };
    // ids (B, n) of the base layer (anything beyond the lengths). Draws in order: draw.occur (1),
    // draw.cond_rate (1), draw.cond_pos (B, n + 1), draw.rid_rate (1), draw.rid (B, n + 1),
    // draw.rand_id (B, n + 1), draw.cond_drop (B).
    Step train_step(const Tensor& ids, const std::vector<int64_t>& lengths, const Tensor& cond,
                    const nn::Pass& pass, UniformSource& draws) const;

    // One pass of generation: tokens 0 .. N-2 of ids (B, N) drawn one after the other. Draws
    // "noise.draw{first + k}" (B) for every place, whether its token is drawn or not.
    struct SweepPlan {
        double guidance;
        int64_t first = 0;
        bool with_end = false;  // of all classes; otherwise without the end
        // What is in `known` stays (its probability reads 1), where the original draws over it and
        // restores it at the end (QUIRK Q27).
        bool keep = false;
        int64_t places = kAll;  // of the first so many
        bool to_ends = false;   // on the CPU: not where every motion has its end already
        static constexpr int64_t kAll = std::numeric_limits<int64_t>::max();
    };
    struct Sweep {
        Tensor ids;            // (B, N)
        Tensor probabilities;  // (B, N - 1) of what was drawn, else 1
    };
    Sweep sweep(const Tensor& ids, const Tensor& cond, const Tensor& known, const SweepPlan& plan,
                const GenerationOptions& options, UniformSource& draws) const;

    struct Draft {
        Sweep sweep;
        std::vector<int64_t> lengths;  // where the end stands
        Tensor ids;                    // (B, N): the sweep's, the end in place
    };
    // The unidirectional pass over N - 1 tokens. No lengths: where the model first says end, at
    // least 1; what follows becomes pad. `whole`: tokens after the lengths too, as the original
    // does; no other depends on them.
    Draft draft(const Tensor& cond, const std::vector<int64_t>& lengths, int64_t tokens,
                const GenerationOptions& options, UniformSource& draws, bool whole = true) const;
    // What the second pass keeps of a draft: (B, N), pad_id where it draws anew. Draws "draw.half"
    // (B, N) without reference_sampling.
    Tensor kept_half(const Draft& draft, UniformSource& draws) const;
    // The bidirectional pass: the draft's tokens that are not in `known`, anew. `whole`: also after
    // the last of them before a length, as the original does, which then restores or ignores these.
    Sweep refine(const Draft& draft, const Tensor& known, const Tensor& cond,
                 const GenerationOptions& options, UniformSource& draws, bool whole = true) const;
    static Tensor restored(const Tensor& ids, const Tensor& known, int64_t pad_id);

    struct Generated {
        Tensor ids;                    // (B, tokens + 1): the end after each length, then anything
        std::vector<int64_t> lengths;  // (B)
    };
    // Draft, then refinement. cond (B, clip_dim); lengths (B) in tokens, or empty: predicted.
    Generated generate(const Tensor& cond, const std::vector<int64_t>& lengths, int64_t tokens,
                       const GenerationOptions& options, UniformSource& draws) const;

    // Editing (generators.md 4.6): the tokens that keep (B, n; -1 = make) lacks, in one
    // bidirectional pass that leaves the others. -> (B, n). The original's second mask makes it
    // blind to its text by accident (QUIRK Q28), which is repaired here.
    Tensor fill(const Tensor& cond, const Tensor& keep, const GenerationOptions& options,
                UniformSource& draws) const;

  private:
    double second_guidance(const GenerationOptions& options) const;
    // The places [first, end) outside which no motion has a token in `known` (B, N); N, 0 without.
    struct Places {
        int64_t first, end;
    };
    Places known_places(const Tensor& known) const;
    // ids (B, N), cond (C B, 1, D) the conditions' tokens, each C in turn of the same ids -> (C B,
    // N + 1, D).
    Var attend(const Tensor& ids, const Var& cond, const AttentionOptions& options,
               const nn::Pass& pass) const;
    // What a sweep's drawing of one place works on.
    struct PlaceWork {
        explicit PlaceWork(DeviceType device) : graph(device) {}
        Graph graph;
        Tensor cond;         // (B, 1, D) or, guided, (2 B, 1, D): the conditions' tokens
        Tensor mask;         // bool (B, S + 1, S + 1), S tokens seen, or undefined: causal
        Tensor tokens;       // i64 (N, B)
        Tensor row;          // i64 (B) or, guided, (2 B): the place's row of what attend() gives
        Tensor drawn;        // bool (B)
        Tensor noise;        // f32 (B)
        Tensor id;           // i64 (B): the token, before and after
        Tensor probability;  // f32 (B)
        std::vector<nn::KeyValues> kept;  // by layer, (C B, S + 1, D): on the CPU
    };

    // Rows [begin, end) of what attend() gives, (C B, end - begin, D), where the others before
    // them, and those that `mask` shows, are kept.
    Var attend_kept(PlaceWork& work, int64_t begin, int64_t end) const;

    Config own_config_;
    nn::Embedding token_emb_;  // (num_tokens + 3, code_dim)
    mutable GraphCache<PlaceWork> graphs_;
};

}  // namespace mc::bamm
