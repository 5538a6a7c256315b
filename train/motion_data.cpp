#include "train/motion_data.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <unordered_map>
#include <unordered_set>

#include "motion/mirror_text.h"

#include "motion/skeleton.h"

namespace mc::train {
namespace {

size_t pick(const std::vector<double>& cumulative, size_t count, double u) {
    const double target = u * cumulative[count - 1];
    const auto end = cumulative.begin() + static_cast<std::ptrdiff_t>(count);
    const auto found = std::upper_bound(cumulative.begin(), end, target);
    return std::min<size_t>(static_cast<size_t>(found - cumulative.begin()), count - 1);
}

}  // namespace

MotionData::MotionData(const MotionDataOptions& options) : split_(options.split) {
    motion::DatasetOptions read;
    read.root = options.root;
    read.split = options.split;
    read.min_frames = options.min_frames;
    data_ = motion::read_dataset(read);
    if (options.cut_captions)
        for (motion::MotionSample& sample : data_.samples)
            for (motion::Caption& caption : sample.captions)
                caption.text = motion::encoder_text(caption);
    if (options.normalisation) {
        normalisation_ = *options.normalisation;
        if (normalisation_.dims() != data_.dims)
            throw Error(options.root + ": has motions of " + std::to_string(data_.dims) +
                        " columns, the tokenizer is for " + std::to_string(normalisation_.dims()) +
                        "; name data of its skeleton");
    } else {
        normalisation_ = motion::read_normalisation(read.root / "Mean.npy", read.root / "Std.npy",
                                                    options.feat_bias_power);
        if (normalisation_.dims() != data_.dims)
            throw Error(options.root + "/Mean.npy: " + std::to_string(normalisation_.dims()) +
                        " columns for motions of " + std::to_string(data_.dims) +
                        "; rebuild the data set");
    }
    weights_ = motion::balanced_weights(data_.samples, options.balance);
    by_length_.resize(weights_.size());
    std::iota(by_length_.begin(), by_length_.end(), size_t{0});
    std::stable_sort(by_length_.begin(), by_length_.end(), [&](size_t a, size_t b) {
        return data_.samples[a].frames > data_.samples[b].frames;
    });
    double total = 0;
    for (size_t i : by_length_) cumulative_by_length_.push_back(total += weights_[i]);
}

std::vector<std::string> MotionData::left_out() const {
    return motion::left_out(data_, split_);
}

// Weighted draws without replacement are the largest log(u) / weight (Efraimidis and Spirakis
// 2006).
std::vector<size_t> MotionData::draw_distinct(int64_t count, Generator& generator) const {
    const size_t all = weights_.size(), wanted = static_cast<size_t>(count);
    std::vector<size_t> drawn;
    std::vector<double> key(all);
    std::vector<size_t> order(all);
    while (drawn.size() < wanted) {
        const Tensor u = generator.uniform({static_cast<int64_t>(all)});  // [0, 1)
        for (size_t i = 0; i < all; ++i)
            key[i] = std::log1p(-static_cast<double>(u.data<float>()[i])) / weights_[i];
        std::iota(order.begin(), order.end(), size_t{0});
        const size_t taken = std::min(all, wanted - drawn.size());
        std::partial_sort(
            order.begin(), order.begin() + static_cast<std::ptrdiff_t>(taken), order.end(),
            [&](size_t a, size_t b) { return key[a] > key[b] || (key[a] == key[b] && a < b); });
        drawn.insert(drawn.end(), order.begin(),
                     order.begin() + static_cast<std::ptrdiff_t>(taken));
    }
    return drawn;
}

std::vector<size_t> MotionData::mirror_twins() const {
    std::unordered_map<std::string, size_t> by_name;
    for (size_t i = 0; i < data_.samples.size(); ++i) by_name[data_.samples[i].name] = i;
    std::vector<size_t> twins(data_.samples.size());
    for (size_t i = 0; i < twins.size(); ++i) {
        const motion::MotionSample& sample = data_.samples[i];
        const auto found =
            by_name.find(sample.mirrored() ? sample.name.substr(1) : "M" + sample.name);
        twins[i] = found == by_name.end() ? i : found->second;
    }
    return twins;
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

void MotionData::at_speed(size_t sample, int64_t start, int64_t frames, double speed,
                          float* dst) const {
    const motion::Skeleton& skeleton = motion::skeleton_for_dims(dims());
    const int64_t d = dims(), last = data_.samples[sample].frames - 1;
    const auto is_velocity = [&](int64_t c) {
        return c < 3 || (c >= skeleton.vel_begin() && c < skeleton.contact_begin());
    };
    for (int64_t i = 0; i < frames; ++i) {
        const double at = static_cast<double>(start) + static_cast<double>(i) * speed;
        const int64_t before = std::min(static_cast<int64_t>(at), last);
        const float share = static_cast<float>(at - static_cast<double>(before));
        const float* a = data_.samples[sample].rows() + before * d;
        const float* b = before < last ? a + d : a;
        float* row = dst + i * d;
        for (int64_t c = 0; c < d; ++c) {
            if (c >= skeleton.contact_begin())
                row[c] = share < 0.5f ? a[c] : b[c];
            else
                row[c] = (a[c] + share * (b[c] - a[c])) *
                         (is_velocity(c) ? static_cast<float>(speed) : 1.0f);
        }
    }
    normalisation_.normalise(dst, dst, frames);
}

Tensor MotionData::normalised(size_t sample, int64_t start, int64_t frames) const {
    Tensor out = Tensor::empty({1, frames, data_.dims});
    normalised(sample, start, frames, out.data<float>());
    return out;
}

std::vector<std::string> left_out(const MotionData& train, const MotionData& held_out) {
    std::vector<std::string> lines = train.left_out();
    for (std::string& line : held_out.left_out()) lines.push_back(std::move(line));
    return lines;
}

std::vector<DrawnClip> draw_batch(const MotionData& data, int64_t batch, uint64_t seed,
                                  int64_t step) {
    constexpr int64_t kShared = 4;
    constexpr uint64_t kGroupStream = uint64_t{1} << 61;
    // A stream for each pass over the clips, one for u, one for the order of the four.
    const int64_t clips = static_cast<int64_t>(data.samples().size()),
                  passes = (kShared * batch + clips - 1) / clips,
                  streams = std::max<int64_t>(8, passes + 2);
    Generator group(seed, kGroupStream + static_cast<uint64_t>(step / kShared * streams));
    const Tensor u = group.uniform({kShared * batch});
    const std::vector<size_t> samples = data.draw_distinct(kShared * batch, group);
    std::vector<DrawnClip> drawn;
    for (int64_t i = 0; i < kShared * batch; ++i)
        drawn.push_back({samples[static_cast<size_t>(i)], u.data<float>()[i]});
    std::stable_sort(drawn.begin(), drawn.end(), [&](const DrawnClip& a, const DrawnClip& b) {
        return data.samples()[a.sample].frames < data.samples()[b.sample].frames;
    });
    const std::vector<int64_t> order = group.permutation(kShared);
    const auto begin = drawn.begin() + order[static_cast<size_t>(step % kShared)] * batch;
    return {begin, begin + batch};
}

CoinAndRest toss(float u) {
    const double thrice = 3 * static_cast<double>(u);
    const int coin = std::min(2, static_cast<int>(thrice));
    return {coin, thrice - coin};
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

CaptionedClips with_captions(const MotionData& data, const CaptionSource& captions,
                             const std::vector<DrawnClip>& drawn, Generator& generator) {
    CaptionedClips chosen{drawn, {}};
    for (const DrawnClip& clip : drawn)
        chosen.captions.push_back(captions.draw(data.samples()[clip.sample], generator));
    return chosen;
}

CaptionedClips with_mirror_pairs(const MotionData& data, const std::vector<size_t>& twins,
                                 const CaptionSource& captions, const std::vector<DrawnClip>& drawn,
                                 Generator& generator) {
    CaptionedClips chosen;
    std::unordered_set<size_t> used;
    std::unordered_set<std::string> said;
    const auto add = [&](const DrawnClip& clip, const std::string& caption) {
        if (chosen.clips.size() == drawn.size() || used.count(clip.sample) ||
            !said.insert(caption).second)
            return;
        used.insert(clip.sample);
        chosen.clips.push_back(clip);
        chosen.captions.push_back(caption);
    };
    // In any order: those that find no place must not be the longest.
    for (const int64_t i : generator.permutation(static_cast<int64_t>(drawn.size()))) {
        const DrawnClip& clip = drawn[static_cast<size_t>(i)];
        const std::string caption = captions.draw(data.samples()[clip.sample], generator);
        add(clip, caption);
        const std::string mirrored = motion::mirror_caption(caption);
        const size_t twin = twins[clip.sample];
        if (mirrored != caption && twin != clip.sample) add({twin, clip.u}, mirrored);
    }
    return chosen;
}

}  // namespace mc::train
