#include "models/motion_edit.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/error.h"

namespace mc {
namespace {

constexpr int64_t kFadeFrames = 8;

// Weight of the seam's difference `distance` frames from the seam, in an edit of `length` frames.
float fade(int64_t distance, int64_t length) {
    const double span = static_cast<double>(std::min(kFadeFrames, length) + 1);
    const double x = std::min(1.0, static_cast<double>(distance) / span);
    return static_cast<float>(0.5 + 0.5 * std::cos(std::numbers::pi * x));
}

}  // namespace

void check_edit(const MotionEdit& edit, int64_t unit, int64_t max_tokens) {
    const int64_t tokens = edit.source.frames / unit;
    if (tokens < 1 || tokens > max_tokens)
        throw Error(fmt::format("[edit] the motion has {} frames, want {} to {}; cut it first",
                                edit.source.frames, unit, (max_tokens + 1) * unit - 1));
    if (edit.ranges.empty()) throw Error("[edit] no frames are named that are to be made anew");
    for (const auto& [from, to] : edit.ranges)
        if (from < 0 || from >= to || to > tokens * unit)
            throw Error(fmt::format("[edit] frames {}:{} of a motion of {}; want 0 <= A < B <= {}",
                                    from, to, edit.source.frames, tokens * unit));
}

std::vector<bool> edited_tokens(const MotionEdit& edit, int64_t unit) {
    std::vector<bool> edited(static_cast<size_t>(edit.source.frames / unit));
    for (const auto& [from, to] : edit.ranges)
        for (int64_t token = from / unit; token * unit < to; ++token)
            edited[static_cast<size_t>(token)] = true;
    return edited;
}

Tensor kept_ids(const MotionEdit& edit, const vq::RvqVae& tokenizer,
                const motion::Normalisation& normalisation, int64_t max_tokens,
                const std::string& who) {
    const int64_t unit = tokenizer.unit();
    check_edit(edit, unit, max_tokens);
    if (edit.source.dims != normalisation.dims())
        throw Error(fmt::format("[{}] the motion has {} features a frame, this model {}", who,
                                edit.source.dims, normalisation.dims()));
    const std::vector<bool> edited = edited_tokens(edit, unit);
    const int64_t n = static_cast<int64_t>(edited.size()), frames = n * unit;
    Tensor motion = Tensor::empty({1, frames, edit.source.dims});
    normalisation.normalise(edit.source.rows.data(), motion.data<float>(), frames);
    Tensor ids = tokenizer.encode(motion);  // (1, n, Q)
    const int64_t layers = ids.size(2);
    for (int64_t i = 0; i < n; ++i)
        if (edited[static_cast<size_t>(i)])
            std::fill_n(ids.data<int64_t>() + i * layers, layers, int64_t{-1});
    return ids;
}

motion::FeatureSequence splice(const MotionEdit& edit, const motion::FeatureSequence& made) {
    std::vector<bool> edited(static_cast<size_t>(edit.source.frames));
    for (const auto& [from, to] : edit.ranges)
        std::fill(edited.begin() + from, edited.begin() + to, true);
    const int64_t frames = edit.source.frames, dims = edit.source.dims;
    motion::FeatureSequence out = edit.source;
    for (int64_t from = 0; from < frames;) {
        if (!edited[static_cast<size_t>(from)]) {
            ++from;
            continue;
        }
        int64_t to = from;
        while (to < frames && edited[static_cast<size_t>(to)]) ++to;
        for (int64_t t = from; t < to; ++t) {
            float* row = out.at(t);
            std::copy(made.at(t), made.at(t) + dims, row);
            const auto ease = [&](int64_t seam, int64_t distance) {
                if (seam < 0 || seam >= std::min(frames, made.frames)) return;
                const float w = fade(distance, to - from);
                for (int64_t c = 0; c < dims; ++c)
                    row[c] += w * (edit.source.at(seam)[c] - made.at(seam)[c]);
            };
            ease(from - 1, t - from + 1);
            ease(to, to - t);
        }
        from = to;
    }
    return out;
}

}  // namespace mc
