// CLIP's text tower at any size (Radford et al. 2021; clip_text.md 2): causal pre-norm transformer
// over byte-pair tokens, the row at the end-of-text token projected. State-dict names are OpenAI's.
#pragma once

#include "nn/transformer.h"

namespace mc::clip {

struct TextConfig {
    int64_t vocab = 49408, context = 77, width = 512, heads = 8, layers = 12, embed_dim = 512;
    // Sizes from the shapes of a state dict; heads = width / 64. An error names what disagrees.
    static TextConfig from_state(const nn::TensorMap& state, const std::string& source);
};

class TextTransformer : public nn::Module {
  public:
    // A null generator leaves zeros (to be loaded).
    TextTransformer(const TextConfig& config, Generator* init);

    // ids (B, context) i64 on the CPU, zero-padded after the end-of-text token (the largest id).
    // Only the positions up to the last end in the batch are computed, which the causal mask makes
    // exact. Returns (B, embed_dim), not normalised, on the model's device.
    Var operator()(const Tensor& ids, const nn::Pass& pass = {}) const;

    // The rows of every position given, after the last norm and before the projection: (B, L,
    // width). What stands after the end is computed too, from the padding's embeddings.
    Var words(const Tensor& ids, const nn::Pass& pass = {}) const;

    const TextConfig& config() const { return config_; }

  private:
    Var embed(const Tensor& ids) const;  // (B, L) -> (B, L, width), with positions
    void check(const Tensor& ids) const;

    TextConfig config_;
    nn::Embedding token_embedding_;
    Var positional_embedding_;  // (context, width)
    struct Transformer : nn::Module {
        nn::ModuleList<nn::PreNormBlock> resblocks;
        Transformer() { add("resblocks", resblocks); }
    } transformer_;
    nn::LayerNorm ln_final_;
    Var text_projection_;  // (width, embed_dim), used as x P
};

}  // namespace mc::clip
