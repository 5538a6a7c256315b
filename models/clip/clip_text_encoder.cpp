#include "models/clip/clip_text_encoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <unordered_map>

#include "autograd/inference.h"
#include "tensor/allocator.h"

namespace mc::clip {
namespace {

// A batch ends at so many prompts: memory stays bounded whatever the number of prompts.
constexpr size_t kBatch = 64;

std::string shortened(const std::string& prompt) {
    constexpr size_t kMost = 60;
    if (prompt.size() <= kMost) return prompt;
    size_t end = kMost;  // not within a character
    while (end > 0 && (static_cast<unsigned char>(prompt[end]) & 0xC0) == 0x80) --end;
    return prompt.substr(0, end) + "...";
}

}  // namespace

std::vector<int32_t> framed_ids(const Tokenizer& tokenizer, const std::string& prompt,
                                int64_t context, bool* truncated) {
    std::vector<int32_t> ids = tokenizer.encode(prompt);
    const size_t most = static_cast<size_t>(std::max<int64_t>(context - 2, 0));
    if (truncated) *truncated = ids.size() > most;
    if (ids.size() > most) ids.resize(most);
    ids.insert(ids.begin(), tokenizer.sot());
    ids.push_back(tokenizer.eot());
    return ids;
}

Tensor padded_ids(const std::vector<const std::vector<int32_t>*>& rows, int64_t least) {
    size_t longest = static_cast<size_t>(least);
    for (const auto* row : rows) longest = std::max(longest, row->size());
    const auto count = static_cast<int64_t>(rows.size());
    Tensor ids = Tensor::zeros({count, static_cast<int64_t>(longest)}, DType::i64);
    int64_t* out = ids.data<int64_t>();
    for (size_t r = 0; r < rows.size(); ++r)
        std::copy(rows[r]->begin(), rows[r]->end(), out + r * longest);
    return ids;
}

ClipTextEncoder::ClipTextEncoder(const std::filesystem::path& weights,
                                 const std::filesystem::path& vocabulary,
                                 const TokenizerOptions& options)
    : ClipTextEncoder(read_text_tower(weights), Tokenizer::from_file(vocabulary.string(), options),
                      weights.string()) {}

ClipTextEncoder::ClipTextEncoder(const TextConfig& config, const nn::TensorMap& state,
                                 Tokenizer tokenizer, const std::string& source)
    : config_(config), tokenizer_(std::move(tokenizer)) {
    if (config.heads < 1 || config.width < 1 || config.width % config.heads != 0)
        throw Error(fmt::format("{}: {} heads do not divide its width {}", source, config.heads,
                                config.width));
    if (config.context < 2)
        throw Error(fmt::format("{}: its context is {}, want at least 2", source, config.context));
    if (config.vocab != tokenizer_.vocab_size())
        throw Error(
            fmt::format("{}: embeds {} tokens and the vocabulary has {}; give the vocabulary that "
                        "belongs to it",
                        source, config.vocab, tokenizer_.vocab_size()));
    model_ = std::make_unique<TextTransformer>(config, nullptr);
    model_->set_requires_grad(false);
    model_->load(state, {{}, source});
}

ClipTextEncoder::Framed ClipTextEncoder::framed(const std::vector<std::string>& prompts) {
    warnings_.clear();
    Framed out;
    std::unordered_map<std::string, size_t> seen;  // prompt to its index in `unique`
    for (const std::string& prompt : prompts) {
        const auto [found, fresh] = seen.try_emplace(prompt, out.unique.size());
        out.where.push_back(found->second);
        if (!fresh) continue;
        bool truncated = false;
        out.unique.push_back(framed_ids(tokenizer_, prompt, config().context, &truncated));
        out.prompts.push_back(prompt);
        if (truncated)
            warnings_.push_back(fmt::format(
                "\"{}\" is too long: only its first {} tokens count; say it in fewer words",
                shortened(prompt), config().context - 2));
    }
    return out;
}

template <class Compute>
Tensor ClipTextEncoder::spread(const std::vector<std::string>& prompts, const Shape& shape,
                               const Kept& kept, const Compute& compute) {
    const Framed all = framed(prompts);
    const Tensor out = Tensor::empty(shape);
    const size_t values = prompts.empty() ? 0 : static_cast<size_t>(out.numel()) / prompts.size();
    const std::vector<float> made = model_ ? compute(all.unique) : std::vector<float>();
    for (size_t p = 0; p < prompts.size(); ++p) {
        const size_t at = all.where[p];
        const float* row = made.data() + at * values;
        if (!model_) {
            const auto found = kept.find(all.unique[at]);
            if (found == kept.end())
                throw Error(
                    fmt::format("\"{}\": the text encoder was freed before, and kept other "
                                "prompts alone",
                                shortened(all.prompts[at])));
            row = found->second.data();
        }
        std::memcpy(out.data<float>() + p * values, row, values * sizeof(float));
    }
    return out;
}

std::vector<float> ClipTextEncoder::word_rows(const std::vector<Ids>& unique) const {
    std::vector<float> rows;
    for (size_t begin = 0; begin < unique.size(); begin += kBatch) {
        const size_t end = std::min(unique.size(), begin + kBatch);
        std::vector<const Ids*> batch;
        for (size_t i = begin; i < end; ++i) batch.push_back(&unique[i]);
        const std::vector<float> out =
            model_->words(padded_ids(batch, config_.context)).value().to_vector<float>();
        rows.insert(rows.end(), out.begin(), out.end());
    }
    return rows;
}

std::vector<float> ClipTextEncoder::sentence_rows(const std::vector<Ids>& unique) const {
    std::vector<size_t> order(unique.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return unique[a].size() < unique[b].size(); });
    const auto columns = static_cast<size_t>(width());
    std::vector<float> rows(unique.size() * columns);
    for (size_t begin = 0; begin < order.size(); begin += kBatch) {
        const size_t end = std::min(order.size(), begin + kBatch);
        std::vector<const Ids*> batch;
        for (size_t i = begin; i < end; ++i) batch.push_back(&unique[order[i]]);
        const Tensor out =
            (*model_)(padded_ids(batch)).value().cpu().contiguous();  // (batch, width)
        for (size_t i = begin; i < end; ++i)
            std::memcpy(rows.data() + order[i] * columns, out.data<float>() + (i - begin) * columns,
                        columns * sizeof(float));
    }
    return rows;
}

Tensor ClipTextEncoder::words(const std::vector<std::string>& prompts) {
    const Tape::Pause no_tape;
    return spread(prompts, {static_cast<int64_t>(prompts.size()), config_.context, word_width()},
                  words_, [&](const auto& unique) { return word_rows(unique); });
}

Tensor ClipTextEncoder::encode(const std::vector<std::string>& prompts) {
    const Tape::Pause no_tape;
    return spread(prompts, {static_cast<int64_t>(prompts.size()), width()}, sentences_,
                  [&](const auto& unique) { return sentence_rows(unique); });
}

void ClipTextEncoder::keep_only(const std::vector<std::string>& prompts, bool words) {
    const Inference in_f32;
    const Framed all = framed(prompts);
    const int64_t word_values = words ? config_.context * word_width() : 0;
    const int64_t values = static_cast<int64_t>(all.unique.size()) * (width() + word_values);
    if (!model_ || values >= model_->parameter_count()) return;
    for (const Ids& ids : all.unique) {  // each alone: its bits do not hang on the others
        sentences_[ids] = sentence_rows({ids});
        if (words) words_[ids] = word_rows({ids});
    }
    const DeviceType where = model_->device();
    model_.reset();
    empty_cache(where);
}

}  // namespace mc::clip
