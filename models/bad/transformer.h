// BAD's transformer (generators.md 7): motion tokens corrupted by numbered masks, a hybrid
// attention mask that lets each masked token see those after it in a random order, word features by
// cross-attention; sampling in random order (OAAS) or by confidence (CBS).
#pragma once

#include <functional>

#include "models/bad/config.h"
#include "models/motion_generator.h"
#include "models/token_loss.h"
#include "nn/gpt_block.h"
#include "tensor/graph.h"
#include "tensor/uniform_source.h"

namespace mc::bad {

struct Text {
    Tensor sentence;  // (B, clip_dim)
    Tensor words;     // (B, W, word_dim)
};

class Transformer : public nn::Module {
  public:
    // `codebook` (nb_code, code_dim): the frozen tokenizer's, which embeds the motion tokens; it is
    // no part of the state.
    Transformer(const Config& config, Tensor codebook, Generator* init);

    int64_t end_id() const { return config_.nb_code; }
    int64_t pad_id() const { return config_.nb_code + 1; }
    int64_t mask_id(int64_t rank) const { return config_.nb_code + 2 + rank; }
    const Config& config() const { return config_; }

    // ids (B, N) with the end at its place and pads after it, text, `hidden` (B, N + 2, N + 2)
    // bool, true = not attended, rows and columns [sentence, rate, tokens] -> (B, N, nb_code).
    Var logits(const Tensor& ids, const Text& text, const Tensor& hidden,
               const nn::Pass& pass = {}) const;

    // The hybrid mask of ids (B, N), where they are (kernels/mask.h).
    Tensor hidden_mask(const Tensor& ids) const;
    // Everything up to the end, for all rows: the evaluation forward of the original.
    Tensor open_mask(const std::vector<int64_t>& lengths, int64_t n) const;

    struct Step {
        Var loss;                // () over all motion tokens, each motion weighs the same
        TokenAccuracy accuracy;  // over them
        Tensor ids;              // (B, n + 1): what was fed
        Tensor masked;           // (B, n + 1) bool: which of them are masked,
        Tensor ranks;            // (B, n + 1) i64: and in what order those see one another
        Tensor hidden;           // (B, n + 3, n + 3), where the model is
        Tensor logits;           // (B, n + 1, nb_code)
    };
    // ids (B, n) (anything beyond the lengths). Draws in order: draw.rand0 (1), draw.uniform0 (B),
    // draw.bernoulli0, draw.randint0 (B, n + 1), draw.uniform1 (B), draw.rand1, draw.rand2
    // (B, n + 1).
    Step train_step(const Tensor& ids, const std::vector<int64_t>& lengths, const Text& text,
                    const nn::Pass& pass, UniformSource& draws) const;

    // What a sampler saw at a step, for those who compare.
    struct View {
        int64_t step;
        const Tensor& ids;     // (B, N)
        const Tensor& hidden;  // (B, N + 2, N + 2)
        const Tensor& logits;  // (B, N, nb_code)
    };
    using Watch = std::function<void(const View&)>;
    // ids (B, tokens()), the end after each length, pads after that. Steps and temperature are the
    // options'; temperature 0 takes the likeliest. options.order_agnostic: OAAS, drawing
    // categorically of the options.top_k likeliest; else CBS, drawing with Gumbel noise of all.
    // Draws draw.uniform0 (B), draw.rand0, draw.rand1 (B, N), then at temperatures above 0
    // "noise.step{k}": (B, N) for OAAS, (B, N, nb_code) for CBS. With `keep` (B, n; -1 = generate;
    // generators.md 7.5, editing) the given ids stay and only the rest is made, counted and ordered
    // among itself (the original forgets one of them when it counts, QUIRK Q37).
    Tensor generate(const Text& text, const std::vector<int64_t>& lengths,
                    const GenerationOptions& options, UniformSource& draws, const Watch& watch = {},
                    const Tensor& keep = {}) const;

  private:
    struct ScalarEmbedder : nn::Module {  // a number to a vector, as diffusion models embed times
        struct Mlp : nn::Module {
            nn::Linear in, out;
            Mlp(int64_t width, Generator* init);
        } mlp;
        ScalarEmbedder(int64_t width, Generator* init);
        Var operator()(const Tensor& features) const;  // (B, 256) -> (B, 1, width)
    };
    struct Base : nn::Module {
        nn::Embedding learn_tok_emb;  // (2 + tokens(), code_dim): end, pad, masks by rank
        nn::Linear to_emb, cond_emb, word_emb;
        ScalarEmbedder t_embedder, l_embedder;  // number of masks, place of the end
        nn::ModuleList<nn::GptCrossBlock> cross_att;
        nn::ModuleList<nn::GptBlock> blocks;
        Base(const Config& config, Generator* init);
    };
    struct Head : nn::Module {
        nn::ModuleList<nn::GptBlock> blocks;
        nn::LayerNorm ln_f;
        nn::Linear head;
        Head(const Config& config, Generator* init);
    };

    // What logits() computes with, on the device, and what it is told of the ids: features of how
    // many are masked and of where the end is (scalar_features), (B, 256) each.
    struct Input {
        Text text;
        Tensor ids, hidden, masks, ends;
    };
    void check(const Text& text) const;
    // Without `hidden`: the ids' own.
    Input input(const Tensor& ids, const Text& text, const Tensor& hidden = {}) const;
    std::pair<Tensor, Tensor> features(const Tensor& ids) const;  // masks, ends; all on the CPU
    Var forward(const Input& input, const nn::Pass& pass) const;
    // What a step of generate() works on.
    struct StepWork {
        explicit StepWork(DeviceType device) : graph(device) {}
        Graph graph;
        Input input;
        Tensor start;        // i64 (B, N): the ids of the first step
        Tensor open;         // i64 (B): the last motion token's place
        Tensor drawn;        // bool (B N)
        Tensor noise;        // f32 (B, N), (B, N, nb_code) or undefined
        Tensor tokens;       // i64 (B N): what was drawn
        Tensor probability;  // f32 (B N)
    };

    Config config_;
    Tensor codebook_;   // (nb_code, code_dim)
    Tensor positions_;  // (block_size, embed_dim)
    Base base_;
    Head head_;
    mutable GraphCache<StepWork> graphs_;
};

// [cos, sin] of value * exp(-ln(10000) i / 128), i < 128: (values, 256) f32.
Tensor scalar_features(const std::vector<int64_t>& values);
// Steps of `steps` in which all of `length` tokens were meant to be made: round(steps / 49 length).
// In f32, 1e-8 added, as the original divides by it.
float step_span(int64_t steps, int64_t length);
// Tokens masked before the forward of a step: trunc(cos(pi t / 2) length), at least 1.
int64_t masked_before(int64_t step, float span, int64_t length);

// Names of a public checkpoint that this module lacks: the tokenizer's copy, unused and computed
// tables.
bool is_foreign_key(const std::string& name);

}  // namespace mc::bad
