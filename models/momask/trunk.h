// What MoMask's masked and residual transformers share: input projection with positions, the
// condition token, the post-norm stack, the output head. State-dict names are the reference's; its
// buffer position_enc.pe is computed, not stored.
#pragma once

#include "models/momask/config.h"
#include "nn/transformer.h"
#include "tensor/uniform_source.h"

namespace mc::momask {

class Trunk : public nn::Module {
  public:
    Trunk(const TransformerConfig& config, int64_t out_dim, Generator* init);

  protected:
    // h (B, n, code_dim), prefix tokens each (B, 1, D), padding (B, n) true beyond the length ->
    // (B, n, out_dim). Prefix tokens carry no position code and no dropout.
    Var run(const Var& h, const std::vector<Var>& prefix, const Tensor& padding,
            const nn::Pass& pass) const;
    Var condition(const Tensor& cond) const;  // (B, clip_dim) -> (B, 1, D)

    // N(0, 0.02) for every Linear and Embedding, zero biases (generators.md 2.12); in_proj stays
    // Xavier. Each layer draws its own in_proj: the reference's identical start of all layers
    // (QUIRK Q11) is an accident of deep-copying, not a setting.
    void reference_init(Generator* init);

    TransformerConfig config_;

  private:
    struct InputProcess : nn::Module {
        nn::Linear pose_embedding;
        InputProcess(const TransformerConfig& config, Generator* init);
    } input_process_;
    struct Stack : nn::Module {
        nn::ModuleList<nn::PostNormBlock> layers;
        Stack(const TransformerConfig& config, Generator* init);
    } stack_;
    nn::Linear cond_emb_;
    struct OutputProcess : nn::Module {
        nn::Linear dense;
        nn::LayerNorm layer_norm;  // eps 1e-12, as BERT's head
        nn::Linear pose_final;
        OutputProcess(const TransformerConfig& config, int64_t out_dim, Generator* init);
    } output_process_;
    Tensor positions_;  // (kMaxTokens, D)
};

// (B, n) bool: true at positions >= length.
Tensor padding_mask(const std::vector<int64_t>& lengths, int64_t n);

// In training, zeroes each row of cond (B, clip_dim) with the given probability (draw.cond_drop,
// (B)): the unconditional branch of classifier-free guidance. The same tensor otherwise.
Tensor drop_conditions(const Tensor& cond, double probability, const nn::Pass& pass,
                       UniformSource& draws);

// The names a public checkpoint may carry beyond the module's own: the positional buffer and CLIP's
// weights.
bool is_foreign_key(const std::string& name);

}  // namespace mc::momask
