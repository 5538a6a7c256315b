// MoMask's base-layer model: predicts masked tokens of the first quantiser from text
// (generators.md 3.3, 3.6, 3.7).
#pragma once

#include "models/momask/first_step.h"
#include "models/momask/trunk.h"
#include "models/motion_generator.h"
#include "models/token_loss.h"
#include "tensor/graph.h"
#include "tensor/uniform_source.h"
#include "tensor/watch.h"

namespace mc::momask {

class MaskTransformer : public Trunk {
  public:
    MaskTransformer(const TransformerConfig& config, Generator* init);

    int64_t mask_id() const { return config_.num_tokens; }
    int64_t pad_id() const { return config_.num_tokens + 1; }
    const TransformerConfig& config() const { return config_; }

    // ids (B, n) in [0, num_tokens + 2), cond (B, clip_dim), padding (B, n) -> logits (B, n,
    // num_tokens) on the model's device; cond (C B, clip_dim) -> (C B, n, num_tokens), as run() has
    // it. `wanted`, bool (B, n) on the CPU: where it is false the logits are zeros, and less is
    // computed.
    Var logits(const Tensor& ids, const Tensor& cond, const Tensor& padding,
               const nn::Pass& pass = {}, const Tensor& wanted = {}) const;
    // Guided: uncond + scale (cond - uncond), both branches in one batch; scale 1 skips the second.
    Tensor guided_logits(const Tensor& ids, const Tensor& cond, const Tensor& padding, double scale,
                         const Tensor& wanted = {}) const;

    struct Step {
        Var loss;                // () mean cross-entropy over masked positions
        TokenAccuracy accuracy;  // over masked positions
        Tensor ids, labels;      // (B, n): what was fed, what was asked (mask_id = not asked)
        Tensor logits;           // (B, n, num_tokens)
    };
    // ids (B, n) of the base layer (anything beyond the lengths) and cond are on the CPU. Draws in
    // order: draw.rand_time
    // (B), draw.randperm (B, n), draw.subset0 (B, n), draw.rand_id (B, n), draw.subset1 (B, n),
    // draw.cond_drop (B). `reference_counts`: the number masked follows n, not the true length
    // (QUIRK Q15).
    Step train_step(const Tensor& ids, const std::vector<int64_t>& lengths, const Tensor& cond,
                    const nn::Pass& pass, UniformSource& draws, bool reference_counts = true) const;

    // Generates ids (B, max length), -1 beyond a row's length. cond (B, clip_dim). Draws
    // "noise.step{k}" (B, n) or, with options.gumbel, (B, n, num_tokens). With `keep` (B, n; -1 =
    // generate) the given ids stay and only the rest is made. `watch` sees of each step k
    // "step{k}.input_ids" (B, n), "step{k}.logits" (B, n, num_tokens), "step{k}.pred_ids" (B, n),
    // the ids after the draw. The logits stay on the model's device but for `watch`. On a device
    // that has graphs (tensor/graph.h) a step is one, kept for further motions of the same shape;
    // with `watch` none is used. On the CPU a single motion keeps its first step (first_step.h).
    Tensor generate(const Tensor& cond, const std::vector<int64_t>& lengths,
                    const GenerationOptions& options, UniformSource& draws, const Tensor& keep = {},
                    const Watch& watch = {}) const;

  private:
    struct StepWork {
        explicit StepWork(DeviceType device) : graph(device) {}
        Graph graph;
        Tensor prefix;           // (B, 1, D) or, guided, (2 B, 1, D): the conditions' tokens
        Tensor padding, masked;  // bool (B, n)
        Tensor ids;              // i64 (B, n)
        Tensor score;            // f32 (B, n): how sure each token is
        Tensor count;            // i64 (B): how many are to be masked
        Tensor noise;            // f32 (B, n), (B, n, num_tokens) or undefined
    };

    // logits() after the conditions' tokens (C B, 1, D).
    Var logits_after(const Var& prefix, const Tensor& ids, const Tensor& padding,
                     const nn::Pass& pass, const Tensor& wanted) const;
    // The branches' logits in the first step of a motion for cond, on the CPU: from what others
    // began with.
    Branches first_logits(const StepWork& work, const Tensor& cond, double scale,
                          const std::vector<uint64_t>& weights) const;

    nn::Embedding token_emb_;  // (num_tokens + 2, code_dim)
    mutable FirstStep first_step_;
    mutable GraphCache<StepWork> step_graphs_;
};

}  // namespace mc::momask
