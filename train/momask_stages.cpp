#include "train/momask_stages.h"

namespace mc::train {
namespace {

const vq::RvqVae& at_least_two_layers(const vq::RvqVae& tokenizer) {
    if (tokenizer.config().quantizer.num_quantizers < 2)
        throw Error(
            "the tokenizer has one layer of codes and leaves no residual to learn; train "
            "one with model.num_quantizers=2 or more");
    return tokenizer;
}

}  // namespace

TokenStage::TokenStage(const TokenStageOptions& options, const vq::RvqVae& tokenizer,
                       TextEncoder& text)
    : options_(options),
      train_(with_split(options.data, "train")),
      held_out_(with_split(options.data, "val")),
      tokens_(train_, tokenizer, options.padded_frames, options.speed_change, options.shorten),
      held_out_tokens_(held_out_, tokenizer, options.padded_frames),
      held_out_batches_(token_batches_of_split(held_out_, held_out_tokens_, options.batch)),
      captions_(options.lexicon, options.reword_share),
      text_(text),
      init_(options.seed, kInitStream) {
    for (const TokenBatch& batch : held_out_batches_)
        held_out_conditions_.push_back(condition(batch).to(options.device));
}

Tensor TokenStage::base_layer(const Tensor& ids) {
    return ids.slice(2, 0, 1).squeeze(2).contiguous();
}

TokenBatch TokenStage::batch(int64_t step, Generator& generator) const {
    const TokenBatch drawn = token_batch(train_, tokens_, captions_, ranks().share(options_.batch),
                                         options_.seed, step, generator);
    generator = ranks().own(generator);
    return drawn;
}

Tensor TokenStage::noisy(const Tensor& cond, Generator& generator) const {
    if (options_.text_noise == 0) return cond;
    const Tensor length = sqrt(mean(square(Var(cond)), 1, true)).value();  // (B, 1), of an element
    const Var noise(generator.normal(cond.shape(), 0, options_.text_noise));
    return add(Var(cond), mul(noise, Var(length))).value();
}

MaskedStage::MaskedStage(const TokenStageOptions& options, const vq::RvqVae& tokenizer,
                         TextEncoder& text)
    : TokenStage(options, tokenizer, text), model_(options.model, &init_) {
    model_.to(options.device);
}

MaskedStage::Step MaskedStage::forward(const TokenBatch& data, const Tensor& cond,
                                       const nn::Pass& pass, UniformSource& draws) const {
    return model_.train_step(base_layer(data.ids), data.lengths, cond, pass, draws,
                             options_.reference_counts);
}

Metrics MaskedStage::step(int64_t step, Generator& generator) {
    return learn(step, generator, [this](auto&&... a) { return forward(a...); });
}

Metrics MaskedStage::validate() {
    return score([this](auto&&... a) { return forward(a...); });
}

ResidualStage::ResidualStage(const TokenStageOptions& options, const vq::RvqVae& tokenizer,
                             TextEncoder& text)
    : TokenStage(options, at_least_two_layers(tokenizer), text), model_(options.model, &init_) {
    model_.to(options.device);
}

ResidualStage::Step ResidualStage::forward(const TokenBatch& data, const Tensor& cond,
                                           const nn::Pass& pass, UniformSource& draws) const {
    return model_.train_step(data.ids, data.lengths, cond, pass, draws);
}

Metrics ResidualStage::step(int64_t step, Generator& generator) {
    return learn(step, generator, [this](auto&&... a) { return forward(a...); });
}

Metrics ResidualStage::validate() {
    return score([this](auto&&... a) { return forward(a...); });
}

LengthStage::LengthStage(const TokenStageOptions& options, const vq::RvqVae& tokenizer,
                         TextEncoder& text)
    : TokenStage(options, tokenizer, text), model_(text.width(), kClasses, &init_) {
    model_.to(options.device);
}

Var LengthStage::loss(const TokenBatch& data, const Tensor& cond, const nn::Pass& pass) const {
    std::vector<int64_t> labels;
    for (int64_t length : data.lengths) labels.push_back(std::min(length, kClasses - 1));
    const int64_t rows = static_cast<int64_t>(labels.size());
    return cross_entropy(model_.logits(cond, pass), Tensor::from_ids(labels, {rows}));
}

Metrics LengthStage::step(int64_t step, Generator& generator) {
    const TokenBatch data = batch(step, generator);
    const Tensor cond = condition(data);
    Tape tape;
    Tape::Recording recording(tape);
    const Var out = loss(data, cond, {true, &generator});
    tape.backward(out);
    return {{"loss", out.value().item<float>()}};
}

Metrics LengthStage::validate() {
    Metrics mean = average([&](size_t i) {
        const Var out = loss(held_out_batches_[i], held_out_conditions_[i], {});
        return Metrics{{"loss", out.value().item<float>()}};
    });
    mean["score"] = mean["loss"];
    return mean;
}

}  // namespace mc::train
