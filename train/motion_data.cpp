#include "train/motion_data.h"

#include <algorithm>
#include <numeric>

namespace mc::train {
namespace {

size_t pick(const std::vector<double>& cumulative, size_t count, double u) {
    const double target = u * cumulative[count - 1];
    const auto end = cumulative.begin() + static_cast<std::ptrdiff_t>(count);
    const auto found = std::upper_bound(cumulative.begin(), end, target);
    return std::min<size_t>(static_cast<size_t>(found - cumulative.begin()), count - 1);
}

}  // namespace

MotionData::MotionData(const MotionDataOptions& options) {
    motion::DatasetOptions read;
    read.root = options.root;
    read.split = options.split;
    read.min_frames = options.min_frames;
    data_ = motion::read_dataset(read);
    normalisation_ = motion::read_normalisation(read.root / "Mean.npy", read.root / "Std.npy",
                                                options.feat_bias_power);
    if (normalisation_.dims() != data_.dims)
        throw Error(options.root + "/Mean.npy: " + std::to_string(normalisation_.dims()) +
                    " columns for motions of " + std::to_string(data_.dims) +
                    "; rebuild the data set");
    const std::vector<double> weights = motion::balanced_weights(data_.samples, options.balance);
    cumulative_.resize(weights.size());
    std::partial_sum(weights.begin(), weights.end(), cumulative_.begin());
    by_length_.resize(weights.size());
    std::iota(by_length_.begin(), by_length_.end(), size_t{0});
    std::stable_sort(by_length_.begin(), by_length_.end(), [&](size_t a, size_t b) {
        return data_.samples[a].frames > data_.samples[b].frames;
    });
    double total = 0;
    for (size_t i : by_length_) cumulative_by_length_.push_back(total += weights[i]);
}

size_t MotionData::draw(double u) const {
    return pick(cumulative_, cumulative_.size(), u);
}

size_t MotionData::draw_longer(double u, int64_t frames) const {
    const auto end = std::partition_point(by_length_.begin(), by_length_.end(), [&](size_t i) {
        return data_.samples[i].frames >= frames;
    });
    if (end == by_length_.begin())
        throw Error("[data] no motion has " + std::to_string(frames) +
                    " frames; choose a smaller window");
    return by_length_[pick(cumulative_by_length_, static_cast<size_t>(end - by_length_.begin()),
                           u)];
}

void MotionData::normalised(size_t sample, int64_t start, int64_t frames, float* dst) const {
    normalisation_.normalise(data_.samples[sample].rows() + start * data_.dims, dst, frames);
}

Tensor MotionData::normalised(size_t sample, int64_t start, int64_t frames) const {
    Tensor out = Tensor::empty({1, frames, data_.dims});
    normalised(sample, start, frames, out.data<float>());
    return out;
}

std::vector<DrawnClip> draw_batch(const MotionData& data, int64_t batch, uint64_t seed,
                                  int64_t step) {
    constexpr int64_t kShared = 4;
    constexpr uint64_t kGroupStream = uint64_t{1} << 61;
    Generator group(seed, kGroupStream + static_cast<uint64_t>(step / kShared) * 8);
    const Tensor u = group.uniform({kShared * batch, 2});
    std::vector<DrawnClip> drawn;
    for (int64_t i = 0; i < kShared * batch; ++i)
        drawn.push_back(
            {data.draw(static_cast<double>(u.data<float>()[2 * i])), u.data<float>()[2 * i + 1]});
    std::stable_sort(drawn.begin(), drawn.end(), [&](const DrawnClip& a, const DrawnClip& b) {
        return data.samples()[a.sample].frames < data.samples()[b.sample].frames;
    });
    const std::vector<int64_t> order = group.permutation(kShared);
    const auto begin = drawn.begin() + order[static_cast<size_t>(step % kShared)] * batch;
    return {begin, begin + batch};
}

CaptionSource::CaptionSource(const std::string& lexicon, double reword_share)
    : reword_share_(reword_share) {
    if (!lexicon.empty())
        augmenter_ = std::make_unique<CaptionAugmenter>(CaptionLexicon::from_file(lexicon));
}

std::string CaptionSource::draw(const motion::MotionSample& sample, Generator& generator) const {
    const auto& captions = sample.captions;
    const std::string& text =
        captions[generator.below(static_cast<uint32_t>(captions.size()))].text;
    if (!augmenter_ || generator.uniform() >= reword_share_) return text;
    return augmenter_->reword(text, sample.category,
                              [&](uint32_t n) { return generator.below(n); });
}

}  // namespace mc::train
