#include "train/bad_stage.h"

namespace mc::train {

BadStage::BadStage(const BadStageOptions& options, const vq::RvqVae& tokenizer, TextEncoder& text)
    : TokenStage(options, tokenizer, text),
      model_(
          options.bad,
          [&] {
              if (tokenizer.config().quantizer.num_quantizers != 1)
                  throw Error("[bad] the tokenizer has " +
                              std::to_string(tokenizer.config().quantizer.num_quantizers) +
                              " layers of codes, want one; train it with --preset small-bad");
              return tokenizer.quantizer().codebook();
          }(),
          &init_) {}

bad::Text BadStage::text_of(const TokenBatch& batch) const {
    return {condition(batch), text_.words(batch.captions)};
}

Metrics BadStage::step(int64_t step, Generator& generator) {
    const TokenBatch data = batch(step, generator);
    const bad::Text text = text_of(data);
    Tape tape;
    Tape::Recording recording(tape);
    GeneratorSource draws(generator);
    const auto out =
        model_.train_step(base_layer(data.ids), data.lengths, text, {true, &generator}, draws);
    Metrics metrics{{"loss", out.loss.value().item<float>()}, {"accuracy", out.accuracy}};
    tape.backward(out.loss);
    return metrics;
}

Metrics BadStage::validate() {
    Generator generator(kValidationSeed);
    GeneratorSource draws(generator);
    return average([&](size_t i) {
        const TokenBatch& data = held_out_batches_[i];
        const auto out =
            model_.train_step(base_layer(data.ids), data.lengths, text_of(data), {}, draws);
        return std::pair<double, double>(out.loss.value().item<float>(), out.accuracy);
    });
}

}  // namespace mc::train
