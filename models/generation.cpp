#include "models/generation.h"

#include <algorithm>

namespace mc {

void add_seconds(StageSeconds& seconds, const std::string& stage, double spent) {
    const auto found = std::find_if(seconds.begin(), seconds.end(),
                                    [&](const auto& entry) { return entry.first == stage; });
    if (found == seconds.end())
        seconds.emplace_back(stage, spent);
    else
        found->second += spent;
}

StageClock::StageClock(StageSeconds& seconds) : seconds_(seconds) {
    seconds_.clear();
}

void StageClock::add(const std::string& stage) {
    add_seconds(seconds_, stage, std::chrono::duration<double>(Clock::now() - begin_).count());
    begin_ = Clock::now();
}

int64_t tokens_of_frames(int64_t frames, int64_t unit, int64_t most, const std::string& who) {
    const int64_t tokens = frames / unit;
    if (tokens < 1 || tokens > most)
        throw Error("[" + who + "] " + std::to_string(frames) + " frames, want " +
                    std::to_string(unit) + " to " + std::to_string(most * unit));
    return tokens;
}

motion::FeatureSequence motion_of(const Tensor& features,
                                  const motion::Normalisation& normalisation, double fps) {
    motion::FeatureSequence out;
    out.frames = features.size(1);
    out.dims = features.size(2);
    out.fps = fps;
    out.rows.resize(static_cast<size_t>(out.frames * out.dims));
    const Tensor rows = features.contiguous();
    normalisation.denormalise(rows.data<float>(), out.rows.data(), out.frames);
    return out;
}

void check_fit(const std::string& who, int64_t tokenizer_codes, int64_t model_codes,
               int64_t text_width, int64_t model_text_width, int64_t normalised_columns,
               int64_t feature_columns) {
    const std::string at = "[" + who + "] ";
    if (tokenizer_codes != model_codes)
        throw Error(at + "the tokenizer has " + std::to_string(tokenizer_codes) +
                    " codes, the transformer " + std::to_string(model_codes) +
                    "; they were not trained together");
    if (text_width != model_text_width)
        throw Error(at + "the text encoder is " + std::to_string(text_width) +
                    " wide, the transformer wants " + std::to_string(model_text_width));
    if (normalised_columns != feature_columns)
        throw Error(at + "normalisation of " + std::to_string(normalised_columns) +
                    " columns for features of " + std::to_string(feature_columns));
}

}  // namespace mc
