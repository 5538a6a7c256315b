#include "models/clip/clip_text_encoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <unordered_map>

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
    : model_(
          [&] {
              if (config.heads < 1 || config.width < 1 || config.width % config.heads != 0)
                  throw Error(fmt::format("{}: {} heads do not divide its width {}", source,
                                          config.heads, config.width));
              if (config.context < 2)
                  throw Error(fmt::format("{}: its context is {}, want at least 2", source,
                                          config.context));
              if (config.vocab != tokenizer.vocab_size())
                  throw Error(fmt::format(
                      "{}: embeds {} tokens and the vocabulary has {}; give the vocabulary that "
                      "belongs to it",
                      source, config.vocab, tokenizer.vocab_size()));
              return config;
          }(),
          nullptr),
      tokenizer_(std::move(tokenizer)) {
    model_.set_requires_grad(false);
    model_.load(state, {{}, source});
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
        if (truncated)
            warnings_.push_back(fmt::format(
                "\"{}\" is too long: only its first {} tokens count; say it in fewer words",
                shortened(prompt), config().context - 2));
    }
    return out;
}

Tensor ClipTextEncoder::spread(const Framed& framed, const std::vector<float>& rows,
                               const Shape& shape) {
    Tensor out = Tensor::empty(shape);
    const size_t values = framed.unique.empty() ? 0 : rows.size() / framed.unique.size();
    for (size_t p = 0; p < framed.where.size(); ++p)
        std::memcpy(out.data<float>() + p * values, rows.data() + framed.where[p] * values,
                    values * sizeof(float));
    return out;
}

Tensor ClipTextEncoder::words(const std::vector<std::string>& prompts) {
    const Tape::Pause no_tape;
    const Framed prompted = framed(prompts);
    const int64_t context = config().context, count = static_cast<int64_t>(prompts.size());
    std::vector<float> rows;  // (unique, context, width)
    for (size_t begin = 0; begin < prompted.unique.size(); begin += kBatch) {
        const size_t end = std::min(prompted.unique.size(), begin + kBatch);
        std::vector<const std::vector<int32_t>*> batch;
        for (size_t i = begin; i < end; ++i) batch.push_back(&prompted.unique[i]);
        const std::vector<float> out =
            model_.words(padded_ids(batch, context)).value().to_vector<float>();
        rows.insert(rows.end(), out.begin(), out.end());
    }
    return spread(prompted, rows, {count, context, word_width()});
}

Tensor ClipTextEncoder::encode(const std::vector<std::string>& prompts) {
    const Tape::Pause no_tape;
    const Framed prompted = framed(prompts);
    const auto& unique = prompted.unique;
    std::vector<size_t> order(unique.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return unique[a].size() < unique[b].size(); });
    const auto columns = static_cast<size_t>(width());
    std::vector<float> rows(unique.size() * columns);  // (unique, width)
    for (size_t begin = 0; begin < order.size(); begin += kBatch) {
        const size_t end = std::min(order.size(), begin + kBatch);
        std::vector<const std::vector<int32_t>*> batch;
        for (size_t i = begin; i < end; ++i) batch.push_back(&unique[order[i]]);
        const Tensor out = model_(padded_ids(batch)).value().cpu().contiguous();  // (batch, width)
        for (size_t i = begin; i < end; ++i)
            std::memcpy(rows.data() + order[i] * columns, out.data<float>() + (i - begin) * columns,
                        columns * sizeof(float));
    }
    return spread(prompted, rows, {static_cast<int64_t>(prompts.size()), width()});
}

}  // namespace mc::clip
