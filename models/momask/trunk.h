// What the transformers of MoMask and BAMM share: input projection with positions, the condition
// token, the stack of blocks, the output head. State-dict names are the reference's; its buffer
// position_enc.pe is computed, not stored.
#pragma once

#include <functional>

#include "models/momask/config.h"
#include "nn/gpt_block.h"
#include "nn/transformer.h"
#include "tensor/uniform_source.h"

namespace mc::momask {

class Trunk : public nn::Module {
  public:
    enum class Blocks { post_norm, gpt };  // layers.N (type A), blocks.N (type B)
    Trunk(const TransformerConfig& config, int64_t out_dim, Generator* init,
          Blocks blocks = Blocks::post_norm);

  protected:
    // h (B, n, code_dim), padding (B, n) true beyond the length, prefix tokens each (B, 1, D) ->
    // (B, n, out_dim). Prefix tokens carry no position code and no dropout; where there are C B,
    // each C in turn stand before the same tokens (with_guidance): (C B, n, out_dim). With
    // `wanted`, bool (B, n) on the CPU, only the tokens where it is true are computed to the end,
    // the others' results are zeros.
    Var run(const Var& h, const std::vector<Var>& prefix, const Tensor& padding,
            const nn::Pass& pass, const Tensor& wanted = {}) const;
    Var condition(const Tensor& cond) const;  // (B, clip_dim) on any device -> (B, 1, D)

    // The steps of run(), for those that put them together otherwise.
    // Whatever an Inference asks for, project and head are in f32, as the residual projection is:
    // under a tenth of the work, and rounding to bf16 then changes 0.7 % of the default bundle's
    // residual choices, not 1.4.
    Var project(const Var& h) const;                  // (B, n, code_dim) -> (B, n, D)
    Var positions(int64_t begin, int64_t end) const;  // (end - begin, D)
    // prefix (C B, P, D), tokens (B, n, D): C B sequences of P + n rows, of which each C in turn
    // have the same tokens. x has every row once, `spread` puts the sequences together.
    struct Shared {
        Var x;                    // (B, C P + n, D)
        nn::RowMaps::Map spread;  // (B, C P + n, W) -> (C B, P + n, W); none where C is 1
    };
    static Shared shared(const Var& prefix, const Var& tokens);
    // (B, L, D) -> (B', Lq, D): the first block spreads the rows, the last makes those wanted. They
    // are also taken from options.mask (B', L', L'); where it is causal, they are the last.
    // rows.kept: a layer's each.
    Var stack(const Var& x, AttentionOptions options, const nn::Pass& pass,
              const nn::RowMaps& rows) const;
    Var head(const Var& x) const;  // (B, n, D) -> (B, n, out_dim)

    // N(0, 0.02) for every Linear and Embedding, zero biases (generators.md 2.12); in_proj stays
    // Xavier. Each layer draws its own in_proj: the reference's identical start of all layers
    // (QUIRK Q11) is an accident of deep-copying, not a setting.
    void reference_init(Generator* init) { nn::normal_init(*this, init); }

    TransformerConfig config_;

  private:
    struct InputProcess : nn::Module {
        nn::Linear pose_embedding;
        InputProcess(const TransformerConfig& config, Generator* init);
    } input_process_;
    struct Stack : nn::Module {
        nn::ModuleList<nn::PostNormBlock> layers;
        nn::ModuleList<nn::GptBlock> blocks;
        Stack(const TransformerConfig& config, Blocks kind, Generator* init);
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

// In training, zeroes each row of cond (B, clip_dim), on the CPU, with the given probability
// (draw.cond_drop, (B)): the unconditional branch of classifier-free guidance. The same tensor
// otherwise.
Tensor drop_conditions(const Tensor& cond, double probability, const nn::Pass& pass,
                       UniformSource& draws);

// Classifier-free guidance: uncond + scale (cond - uncond), both branches in one batch of twice the
// rows, where `cond` (B, clip_dim) is; scale 1 skips the second. `logits` gets (B, clip_dim), or
// (2 B, clip_dim): each condition, and zeros after it.
Tensor with_guidance(const Tensor& cond, double scale,
                     const std::function<Var(const Tensor& cond)>& logits);
// The same in its parts: cond and zeros, or cond alone; what (2 B, ...) or (B, ...) logits are of
// each branch, the second undefined where there is none; and what they make together.
struct Branches {
    Tensor with, without;  // (B, ...)
};
Tensor branch_conditions(const Tensor& cond, double scale);
Branches branches(const Tensor& logits, double scale);
Tensor guided(const Branches& logits, double scale);
// t (B, n, ...) -> (C B, n, ...): each of its B parts C times, one after the other; undefined stays
// so.
Tensor repeated(const Tensor& t, int64_t copies);

// The names a public checkpoint may carry beyond the module's own: the positional buffer and CLIP's
// weights.
bool is_foreign_key(const std::string& name);

}  // namespace mc::momask
