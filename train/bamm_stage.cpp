#include "train/bamm_stage.h"

namespace mc::train {

BammStage::BammStage(const BammStageOptions& options, const vq::RvqVae& tokenizer,
                     TextEncoder& text)
    : TokenStage(options, tokenizer, text), model_(options.bamm, &init_) {
    model_.to(options.device);
}

BammStage::Step BammStage::forward(const TokenBatch& data, const Tensor& cond, const nn::Pass& pass,
                                   UniformSource& draws) const {
    return model_.train_step(base_layer(data.ids), data.lengths, cond, pass, draws);
}

Metrics BammStage::step(int64_t step, Generator& generator) {
    return learn(step, generator, [this](auto&&... a) { return forward(a...); });
}

Metrics BammStage::validate() {
    return score([this](auto&&... a) { return forward(a...); });
}

}  // namespace mc::train
