#include "train/bamm_stage.h"

namespace mc::train {

BammStage::BammStage(const BammStageOptions& options, const vq::RvqVae& tokenizer,
                     TextEncoder& text)
    : TokenStage(options, tokenizer, text), model_(options.bamm, &init_) {}

Metrics BammStage::step(int64_t step, Generator& generator) {
    const TokenBatch data = batch(step, generator);
    const Tensor cond = condition(data);
    Tape tape;
    Tape::Recording recording(tape);
    GeneratorSource draws(generator);
    const auto out =
        model_.train_step(base_layer(data.ids), data.lengths, cond, {true, &generator}, draws);
    Metrics metrics{{"loss", out.loss.value().item<float>()}, {"accuracy", out.accuracy}};
    tape.backward(out.loss);
    return metrics;
}

Metrics BammStage::validate() {
    Generator generator(kValidationSeed);
    GeneratorSource draws(generator);
    return average([&](size_t i) {
        const TokenBatch& data = held_out_batches_[i];
        const auto out = model_.train_step(base_layer(data.ids), data.lengths,
                                           held_out_conditions_[i], {}, draws);
        return std::pair<double, double>(out.loss.value().item<float>(), out.accuracy);
    });
}

}  // namespace mc::train
