#include "train/token_data.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

namespace mc::train {
namespace {

// How many frames `total` of them become when the motion is done `speed` times as fast.
int64_t frames_at(int64_t total, double speed) {
    return total < 1 ? 0 : static_cast<int64_t>(static_cast<double>(total - 1) / speed) + 1;
}

}  // namespace

Shorten shorten_named(const std::string& name) {
    if (name == "no") return Shorten::no;
    if (name == "crop") return Shorten::crop;
    if (name == "tokens") return Shorten::tokens;
    throw Error("shorten is " + name + ", want no, crop or tokens");
}

TokenData::TokenData(const MotionData& data, const vq::RvqVae& tokenizer, int64_t padded_frames,
                     double speed_change, Shorten shorten)
    : clips_(data.samples().size()),
      shorter_(data.samples().size()),
      quantizers_(tokenizer.config().quantizer.num_quantizers) {
    const int64_t unit = tokenizer.unit(), dims = data.dims(),
                  takes = tokenizer.config().net.dim_pose;
    if (dims != takes)
        throw Error("[tokens] the data set's motions have " + std::to_string(dims) +
                    " columns, the tokenizer takes " + std::to_string(takes) +
                    "; name the one that was trained on this data set");
    int64_t longest = 0;
    for (const motion::MotionSample& sample : data.samples()) {
        if (sample.frames < unit)
            throw Error("[tokens] " + sample.name + " of the " + data.split() + " split has " +
                        std::to_string(sample.frames) + " frames, a token " + std::to_string(unit) +
                        "; leave such motions out with min_frames=" + std::to_string(unit));
        longest = std::max(longest, sample.frames / unit * unit);
    }
    for (size_t i = 0; i < clips_.size(); ++i) {
        const int64_t total = data.samples()[i].frames, frames = total / unit * unit;
        const auto add_crops = [&](int64_t kept, Variants& to) {  // at every start
            const int64_t starts = total - kept + 1, padded = std::max(kept, padded_frames);
            const Tensor motions = Tensor::zeros({starts, padded, dims});
            for (int64_t start = 0; start < starts; ++start)
                data.normalised(i, start, kept, motions.data<float>() + start * padded * dims);
            add(tokenizer, motions, kept / unit, to);
        };
        add_crops(frames, clips_[i]);
        if (shorten == Shorten::crop && frames > unit) add_crops(frames - unit, shorter_[i]);
        if (shorten == Shorten::tokens && frames > unit)
            for (const Variant& whole : clips_[i]) {
                const int64_t length = whole.length - 1;
                const auto begin = whole.ids.begin(), end = whole.ids.end();
                shorter_[i].push_back({length, {begin + quantizers_, end}});
                shorter_[i].push_back({length, {begin, end - quantizers_}});
            }
        if (speed_change <= 0) continue;
        for (const double power : {-1.0, -0.5, 0.5, 1.0})
            for (const int64_t start : {int64_t{0}, unit / 2}) {
                const double speed = std::pow(1 + speed_change, power);
                const int64_t whole = frames_at(total - start, speed);
                const int64_t kept = std::min(longest, whole / unit * unit);
                if (kept == 0) continue;
                const Tensor motion = Tensor::zeros({1, std::max(kept, padded_frames), dims});
                data.at_speed(i, start, kept, speed, motion.data<float>());
                add(tokenizer, motion, kept / unit, clips_[i]);
            }
    }
}

void TokenData::add(const vq::RvqVae& tokenizer, const Tensor& motions, int64_t length,
                    Variants& to) {
    const Tensor ids = tokenizer.encode(motions);  // (V, n, Q)
    for (int64_t v = 0; v < motions.size(0); ++v)
        to.push_back({length, ids.slice(0, v, v + 1).slice(1, 0, length).to_vector<int64_t>()});
}

const TokenData::Variant& TokenData::draw(size_t sample, float u) const {
    const auto [coin, rest] =
        shorter_[sample].empty() ? CoinAndRest{0, static_cast<double>(u)} : toss(u);
    const Variants& all = coin == 2 ? shorter_[sample] : clips_[sample];
    return all[std::min(all.size() - 1,
                        static_cast<size_t>(rest * static_cast<double>(all.size())))];
}

namespace {

using Item = std::pair<size_t, const TokenData::Variant*>;  // of a sample

TokenBatch assemble(const TokenData& tokens, const std::vector<Item>& items) {
    const int64_t batch = static_cast<int64_t>(items.size()), q = tokens.quantizers();
    int64_t n = 0;
    for (const auto& [sample, variant] : items) n = std::max(n, variant->length);
    TokenBatch out;
    out.ids = Tensor::zeros({batch, n, q}, DType::i64);
    for (int64_t b = 0; b < batch; ++b) {
        const auto& [sample, variant] = items[static_cast<size_t>(b)];
        std::memcpy(out.ids.data<int64_t>() + b * n * q, variant->ids.data(),
                    variant->ids.size() * sizeof(int64_t));
        out.lengths.push_back(variant->length);
        out.samples.push_back(static_cast<int64_t>(sample));
    }
    return out;
}

}  // namespace

TokenBatch token_batch(const MotionData& data, const TokenData& tokens,
                       const CaptionSource& captions, const Share& share, uint64_t seed,
                       int64_t step, Generator& generator) {
    std::vector<Item> items;
    const auto [clips, said] =
        with_captions(data, captions, draw_batch(data, share.total, seed, step), generator);
    for (int64_t i = share.begin; i < share.end; ++i) {
        const DrawnClip& clip = clips[static_cast<size_t>(i)];
        items.emplace_back(clip.sample, &tokens.draw(clip.sample, clip.u));
    }
    TokenBatch out = assemble(tokens, items);
    out.captions.assign(said.begin() + share.begin, said.begin() + share.end);
    return out;
}

std::vector<TokenBatch> token_batches_of_split(const MotionData& data, const TokenData& tokens,
                                               int64_t batch) {
    std::vector<size_t> order(data.samples().size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
        return data.samples()[a].frames < data.samples()[b].frames;
    });
    std::vector<TokenBatch> all;
    for (size_t begin = 0; begin < order.size(); begin += static_cast<size_t>(batch)) {
        std::vector<Item> items;
        for (size_t i = begin; i < std::min(order.size(), begin + static_cast<size_t>(batch)); ++i)
            items.emplace_back(order[i], &tokens.variants(order[i])[0]);
        TokenBatch out = assemble(tokens, items);
        for (int64_t sample : out.samples)
            out.captions.push_back(
                data.samples()[static_cast<size_t>(sample)].captions.front().text);
        all.push_back(std::move(out));
    }
    return all;
}

}  // namespace mc::train
