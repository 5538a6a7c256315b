// Token length from the text embedding (generators.md 3.5): a classifier over lengths 0..49.
#pragma once

#include "nn/layers.h"

namespace mc::momask {

class LengthEstimator : public nn::Module {
  public:
    LengthEstimator(int64_t text_dim, int64_t classes, Generator* init);
    // (B, text_dim) on any device -> (B, classes) on the model's.
    Var logits(const Tensor& text, const nn::Pass& pass = {}) const;
    // Categorical draw over lengths 1..classes-1 (the reference may draw 0, an empty motion: QUIRK
    // Q19). u (B).
    std::vector<int64_t> sample(const Tensor& text, const Tensor& u) const;

  private:
    int64_t classes_;
    nn::Linear linear0_;
    nn::LayerNorm norm1_;
    nn::Linear linear4_;
    nn::LayerNorm norm5_;
    nn::Linear linear8_;
    nn::LayerNorm norm9_;
    nn::Linear linear11_;
};

}  // namespace mc::momask
