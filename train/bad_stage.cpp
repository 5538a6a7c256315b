#include "train/bad_stage.h"

namespace mc::train {
namespace {

const vq::RvqVae& of_one_layer(const vq::RvqVae& tokenizer) {
    const int64_t layers = tokenizer.config().quantizer.num_quantizers;
    if (layers != 1)
        throw Error("[bad] the tokenizer has " + std::to_string(layers) +
                    " layers of codes, want one; train it with --preset small-bad");
    return tokenizer;
}

}  // namespace

BadStage::BadStage(const BadStageOptions& options, const vq::RvqVae& tokenizer, TextEncoder& text)
    : TokenStage(options, of_one_layer(tokenizer), text),
      model_(options.bad, tokenizer.quantizer().codebook(), &init_) {
    model_.to(options.device);
}

BadStage::Step BadStage::forward(const TokenBatch& data, const Tensor& cond, const nn::Pass& pass,
                                 UniformSource& draws) const {
    const bad::Text text{cond, text_.words(data.captions)};
    return model_.train_step(base_layer(data.ids), data.lengths, text, pass, draws);
}

Metrics BadStage::step(int64_t step, Generator& generator) {
    return learn(step, generator, [this](auto&&... a) { return forward(a...); });
}

Metrics BadStage::validate() {
    return score([this](auto&&... a) { return forward(a...); });
}

}  // namespace mc::train
