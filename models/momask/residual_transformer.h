// MoMask's second stage: predicts quantiser layers 1..Q-1 one after another (generators.md 3.4).
#pragma once

#include "models/momask/trunk.h"
#include "models/motion_generator.h"
#include "models/token_loss.h"
#include "tensor/graph.h"
#include "tensor/uniform_source.h"
#include "tensor/watch.h"

namespace mc::momask {

class ResidualTransformer : public Trunk {
  public:
    ResidualTransformer(const TransformerConfig& config, Generator* init);

    int64_t pad_id() const { return config_.num_tokens; }
    const TransformerConfig& config() const { return config_; }

    // h (B, n, code_dim): sum of the embedded layers below; layer (B) in 1..Q-1 -> logits (B, n,
    // num_tokens + 1), on the model's device as h.
    Var logits(const Var& h, const std::vector<int64_t>& layer, const Tensor& cond,
               const Tensor& padding, const nn::Pass& pass = {}) const;

    struct Step {
        Var loss;
        TokenAccuracy accuracy;  // over valid positions
        std::vector<int64_t> layer;
        Tensor labels;  // (B, n), pad_id beyond the lengths
        Tensor logits;  // (B, n, num_tokens + 1)
    };
    // ids (B, n, Q) with true ids of all layers and cond are on the CPU. Draws: draw.q_schedule
    // (B), draw.cond_drop (B).
    Step train_step(const Tensor& ids, const std::vector<int64_t>& lengths, const Tensor& cond,
                    const nn::Pass& pass, UniformSource& draws) const;

    // base ids (B, n) -> all layers (B, n, Q), -1 beyond the lengths and where the pad class was
    // drawn (QUIRK Q18). Draws "noise.res.step{j}" (B, n, num_tokens + 1). With `keep` (B, n, Q; -1
    // = generate) the given ids of the upper layers stay. `watch` sees "step{j}.logits" (B, n,
    // num_tokens + 1). On a device that has graphs (tensor/graph.h) all layers together are one,
    // kept for further motions of the same shape; with `watch` none is used.
    Tensor generate(const Tensor& base, const Tensor& cond, const std::vector<int64_t>& lengths,
                    const GenerationOptions& options, UniformSource& draws, const Tensor& keep = {},
                    const Watch& watch = {}) const;

  private:
    // Table that embeds layer j (0..Q-2), table that scores layer j (1..Q-1): the middle ones are
    // shared.
    Var embedding_table(int64_t layer) const;
    Var projection_table(int64_t layer) const;
    // What the blocks make of h (B, n, code_dim); one_hot (C B, 1, Q) is the layer, cond (C B, 1,
    // D) the conditions' tokens -> (C B, n, code_dim).
    Var hidden(const Var& h, const Tensor& one_hot, const Var& cond, const Tensor& padding,
               const nn::Pass& pass) const;
    struct LayersWork {
        explicit LayersWork(DeviceType device) : graph(device) {}
        Graph graph;
        Tensor cond;                // (B, 1, D) or, guided, (2 B, 1, D)
        Tensor padding;             // bool (B, n)
        Tensor ids;                 // i64 (Q, B n): what is known
        Tensor drawn;               // bool (Q, B n): where a token is drawn
        std::vector<Tensor> noise;  // by layer: f32 (B, n, num_tokens + 1), or undefined
    };
    // logits() of one layer for all, in inference, after the conditions' tokens (C B, 1, D).
    Tensor logits_after(const Tensor& cond, const Var& h, int64_t layer,
                        const Tensor& padding) const;

    Var embed_proj_shared_weight_;  // (Q-2, K+1, C)
    Var token_embed_weight_;        // (1, K+1, C)
    Var output_proj_weight_;        // (1, K+1, C)
    nn::Linear quant_emb_;          // one-hot layer -> D
    Tensor one_hot_;                // (Q, Q), a row a layer
    mutable GraphCache<LayersWork> graphs_;
};

}  // namespace mc::momask
