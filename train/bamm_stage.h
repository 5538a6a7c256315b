// Trains BAMM's base transformer on top of a tokenizer and a frozen text encoder (generators.md
// 4.4); its residual transformer is MoMask's.
#pragma once

#include "models/bamm/transformer.h"
#include "train/momask_stages.h"

namespace mc::train {

struct BammStageOptions : TokenStageOptions {
    bamm::Config bamm;  // `model` and `reference_counts` are not used
};

class BammStage : public TokenStage {
  public:
    BammStage(const BammStageOptions& options, const vq::RvqVae& tokenizer, TextEncoder& text);
    std::string name() const override { return "bamm"; }
    bamm::Transformer& model() override { return model_; }
    Metrics step(int64_t step, Generator& generator) override;
    Metrics validate() override;  // the same corruption each time; score = 1 - accuracy

  private:
    using Step = bamm::Transformer::Step;
    Step forward(const TokenBatch& data, const Tensor& cond, const nn::Pass& pass,
                 UniformSource& draws) const;
    bamm::Transformer model_;
};

}  // namespace mc::train
