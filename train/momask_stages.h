// Trains MoMask's stages on top of a tokenizer and a frozen text encoder: masked transformer,
// residual transformer, length estimator (generators.md 3.3, 3.4, 3.5).
#pragma once

#include "models/momask/length_estimator.h"
#include "models/momask/mask_transformer.h"
#include "models/momask/residual_transformer.h"
#include "train/loop.h"
#include "train/token_data.h"

namespace mc::train {

struct TokenStageOptions {
    momask::TransformerConfig model;
    int64_t batch = 64;
    int64_t padded_frames = 0;      // 196: encode as the reference does
    bool reference_counts = false;  // QUIRK Q15
    MotionDataOptions data;
    std::string lexicon;  // caption rewording; empty: none
    double reword_share = 0.5;
    // Normal noise on a training caption's embedding, its length as a share of the embedding's own:
    // words that no caption has land near some caption, not on it. 0 in the reference.
    double text_noise = 0;
    double speed_change = 0;        // other speeds of each clip (token_data.h)
    Shorten shorten = Shorten::no;  // a third of the draws a token shorter (token_data.h)
    uint64_t seed = 3407;
    DeviceType device = DeviceType::cpu;
};

// What the stages share, BAMM's and BAD's among them: data, tokens, captions, text.
class TokenStage : public Stage {
  public:
    TokenStage(const TokenStageOptions& options, const vq::RvqVae& tokenizer, TextEncoder& text);
    std::vector<std::string> warnings() const override { return left_out(train_, held_out_); }

  protected:
    static constexpr uint64_t kValidationSeed = 20;

    static Tensor base_layer(const Tensor& ids);  // (B, n, Q) -> (B, n)
    // The means over the held-out batches, weighted by the number of clips, of what `run` measures
    // of the batch of that number.
    template <class Run>
    Metrics average(const Run& run) const {
        Metrics mean;
        double clips = 0;
        for (size_t i = 0; i < held_out_batches_.size(); ++i) {
            const double weight = static_cast<double>(held_out_batches_[i].lengths.size());
            for (const auto& [key, value] : run(i)) mean[key] += weight * value;
            clips += weight;
        }
        for (auto& [key, value] : mean) value /= clips;
        return mean;
    }

    // Of a step whose work, the backward's too, is all on its way to the device: reading waits.
    template <class Out>
    static Metrics measured(const Out& out) {
        return {{"loss", out.loss.value().template item<float>()},
                {"accuracy", out.accuracy.value()}};
    }
    // The gradients of a step of forward(data, cond, pass, draws), whose result has a loss and an
    // accuracy.
    template <class Forward>
    Metrics learn(int64_t step, Generator& generator, const Forward& forward) {
        const TokenBatch data = batch(step, generator);
        const Tensor cond = noisy(condition(data), generator);
        Tape tape;
        Tape::Recording recording(tape);
        GeneratorSource draws(generator);
        const auto out = forward(data, cond, nn::Pass{true, &generator}, draws);
        tape.backward(out.loss);
        return measured(out);
    }
    // The same forward over the held-out batches, with the same draws each time.
    template <class Forward>
    Metrics score(const Forward& forward) const {
        Generator generator(kValidationSeed);
        GeneratorSource draws(generator);
        Metrics mean = average([&](size_t i) {
            return measured(
                forward(held_out_batches_[i], held_out_conditions_[i], nn::Pass{}, draws));
        });
        mean["score"] = 1 - mean["accuracy"];
        return mean;
    }

    // This rank's share of the step's batch; what is drawn from the generator from then on (masks,
    // dropout) differs by rank.
    TokenBatch batch(int64_t step, Generator& generator) const;
    // Text embeddings (B, E) with the options' noise.
    Tensor noisy(const Tensor& cond, Generator& generator) const;
    // The text embeddings of a batch.
    Tensor condition(const TokenBatch& batch) const { return text_.encode(batch.captions); }

    TokenStageOptions options_;
    MotionData train_, held_out_;
    TokenData tokens_, held_out_tokens_;
    std::vector<TokenBatch> held_out_batches_;
    std::vector<Tensor> held_out_conditions_;
    CaptionSource captions_;
    TextEncoder& text_;
    Generator init_;
};

class MaskedStage : public TokenStage {
  public:
    MaskedStage(const TokenStageOptions& options, const vq::RvqVae& tokenizer, TextEncoder& text);
    std::string name() const override { return "masked"; }
    momask::MaskTransformer& model() override { return model_; }
    Metrics step(int64_t step, Generator& generator) override;
    Metrics validate() override;  // the same random masks each time; score = 1 - accuracy

  private:
    using Step = momask::MaskTransformer::Step;
    Step forward(const TokenBatch& data, const Tensor& cond, const nn::Pass& pass,
                 UniformSource& draws) const;
    momask::MaskTransformer model_;
};

class ResidualStage : public TokenStage {
  public:
    ResidualStage(const TokenStageOptions& options, const vq::RvqVae& tokenizer, TextEncoder& text);
    std::string name() const override { return "residual"; }
    momask::ResidualTransformer& model() override { return model_; }
    Metrics step(int64_t step, Generator& generator) override;
    Metrics validate() override;

  private:
    using Step = momask::ResidualTransformer::Step;
    Step forward(const TokenBatch& data, const Tensor& cond, const nn::Pass& pass,
                 UniformSource& draws) const;
    momask::ResidualTransformer model_;
};

class LengthStage : public TokenStage {
  public:
    static constexpr int64_t kClasses = 50;  // token lengths 0..49
    LengthStage(const TokenStageOptions& options, const vq::RvqVae& tokenizer, TextEncoder& text);
    std::string name() const override { return "length"; }
    momask::LengthEstimator& model() override { return model_; }
    Metrics step(int64_t step, Generator& generator) override;
    Metrics validate() override;  // score = cross-entropy

  private:
    Var loss(const TokenBatch& batch, const Tensor& cond, const nn::Pass& pass) const;
    momask::LengthEstimator model_;
};

}  // namespace mc::train
