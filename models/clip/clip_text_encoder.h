// Prompts to embeddings with CLIP's text tower: CLIP itself, MoCLIP and the small default differ in
// their files alone.
//
//     ClipTextEncoder encoder("text_encoder.safetensors", "vocab.txt.gz");
//     Tensor e = encoder.encode({"a person waves", ""});   // (2, encoder.width())
//     for (const auto& line : encoder.warnings()) ...      // prompts that were cut, if any
//
// Weights are whatever text_tower_file.h reads. What a whole CLIP has beside its text tower
// (visual.*, logit_scale, ...) or MoCLIP beside CLIP (motion.*) is passed over.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "models/clip/text_tower_file.h"
#include "models/clip/tokenizer.h"
#include "models/text_encoder.h"

namespace mc::clip {

class ClipTextEncoder : public TextEncoder {
  public:
    // `vocabulary`: the merge file that the weights were trained with. Throws Error if either is
    // broken or the two don't belong together.
    ClipTextEncoder(const std::filesystem::path& weights, const std::filesystem::path& vocabulary,
                    const TokenizerOptions& options = {});
    // The same from memory; `source` stands for the file in errors.
    ClipTextEncoder(const TextConfig& config, const nn::TensorMap& state, Tokenizer tokenizer,
                    const std::string& source = "text encoder");

    void to(DeviceType device) override {
        if (model_) model_->to(device);
    }
    int64_t width() const override { return config().embed_dim; }
    // (prompts, width) f32, not normalised. Equal prompts are computed once; prompts of similar
    // length are computed together. A prompt beyond the context keeps its beginning, and
    // warnings() says so. The empty prompt is one like any other (classifier-free guidance).
    Tensor encode(const std::vector<std::string>& prompts) override;

    int64_t word_width() const override { return config().width; }
    // (prompts, context, width) f32: the rows before the projection, padding after the end.
    Tensor words(const std::vector<std::string>& prompts) override;

    void keep_only(const std::vector<std::string>& prompts, bool words) override;

    const std::vector<std::string>& warnings() const override { return warnings_; }

    const TextConfig& config() const { return config_; }
    const Tokenizer& tokenizer() const { return tokenizer_; }

  private:
    ClipTextEncoder(const TextTowerFile& file, Tokenizer tokenizer, const std::string& source)
        : ClipTextEncoder(file.config, file.state, std::move(tokenizer), source) {}

    using Ids = std::vector<int32_t>;  // a prompt, framed
    // Equal prompts stand once.
    struct Framed {
        std::vector<Ids> unique;
        std::vector<std::string> prompts;  // of `unique`
        std::vector<size_t> where;         // by prompt, its place in `unique`
    };
    Framed framed(const std::vector<std::string>& prompts);  // and fills warnings_
    // A row each, of width() and of context * word_width() floats.
    std::vector<float> sentence_rows(const std::vector<Ids>& unique) const;
    std::vector<float> word_rows(const std::vector<Ids>& unique) const;
    // Rows of the unique prompts, each of shape[1] * ... floats -> shape, by prompt. `kept`: what
    // keep_only() has of them; compute(unique) makes them while there is a model.
    using Kept = std::map<Ids, std::vector<float>>;
    template <class Compute>
    Tensor spread(const std::vector<std::string>& prompts, const Shape& shape, const Kept& kept,
                  const Compute& compute);

    TextConfig config_;
    std::unique_ptr<TextTransformer> model_;  // null once keep_only() has freed it
    Kept sentences_, words_;                  // then these are known
    Tokenizer tokenizer_;
    std::vector<std::string> warnings_;
};

// Start, ids, end of a prompt, not padded; at most `context` ids, `truncated` (may be null) says
// whether that cost some.
std::vector<int32_t> framed_ids(const Tokenizer& tokenizer, const std::string& prompt,
                                int64_t context, bool* truncated = nullptr);

// Rows of ids as a tensor (rows, longest) i64, padded with zeros after the end; `least`: at least
// so many columns.
Tensor padded_ids(const std::vector<const std::vector<int32_t>*>& rows, int64_t least = 0);

}  // namespace mc::clip
