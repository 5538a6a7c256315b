// Trains BAD's transformer on top of a tokenizer of one codebook and a frozen text encoder
// (generators.md 7.4).
#pragma once

#include "models/bad/transformer.h"
#include "train/momask_stages.h"

namespace mc::train {

struct BadStageOptions : TokenStageOptions {
    bad::Config bad;  // `model` and `reference_counts` are not used
};

class BadStage : public TokenStage {
  public:
    BadStage(const BadStageOptions& options, const vq::RvqVae& tokenizer, TextEncoder& text);
    std::string name() const override { return "bad"; }
    bad::Transformer& model() override { return model_; }
    Metrics step(int64_t step, Generator& generator) override;
    Metrics validate() override;  // the same corruption each time; score = 1 - accuracy

  private:
    using Step = bad::Transformer::Step;
    Step forward(const TokenBatch& data, const Tensor& cond, const nn::Pass& pass,
                 UniformSource& draws) const;

    bad::Transformer model_;
};

}  // namespace mc::train
