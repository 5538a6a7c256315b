#include "motion/dataset.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <map>

#include "kernels/error.h"
#include "motion/motion_file.h"

namespace mc::motion {

namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxEncoderTokens = 60;

std::string_view stripped(std::string_view text) {
    const size_t first = text.find_first_not_of(" \t\r\n\v\f");
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(" \t\r\n\v\f") - first + 1);
}

std::vector<std::string> words(std::string_view text) {
    std::vector<std::string> result;
    while (!(text = stripped(text)).empty()) {
        const size_t end = std::min(text.find_first_of(" \t"), text.size());
        result.emplace_back(text.substr(0, end));
        text.remove_prefix(end);
    }
    return result;
}

double parse_seconds(std::string_view field, const std::string& place) {
    const std::string text(stripped(field));
    char* end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    if (text.empty() || *end != '\0' || std::isinf(value))
        throw Error(fmt::format("{}: '{}' is no time in seconds", place, text));
    return std::isnan(value) ? 0.0 : value;
}

std::vector<std::string> read_lines(const fs::path& path) {
    std::ifstream in(path);
    if (!in || fs::is_directory(path)) throw Error(fmt::format("{}: cannot open", path.string()));
    std::vector<std::string> lines;
    for (std::string line; std::getline(in, line);) lines.push_back(line);
    if (in.bad()) throw Error(fmt::format("{}: cannot read", path.string()));
    return lines;
}

std::map<std::string, std::string> read_categories(const fs::path& path) {
    std::map<std::string, std::string> result;
    if (!fs::exists(path)) return result;
    int64_t number = 0;
    for (const std::string& line : read_lines(path)) {
        ++number;
        if (stripped(line).empty()) continue;
        const size_t first = line.find('\t');
        if (first == std::string::npos)
            throw Error(fmt::format("{}:{}: want name, tab, category", path.string(), number));
        const size_t second = std::min(line.find('\t', first + 1), line.size());
        result[line.substr(0, first)] =
            std::string(stripped(line.substr(first + 1, second - first - 1)));
    }
    return result;
}

// Rows [from, to) of a caption that describes a part, clamped to the clip as a slice is.
std::pair<int64_t, int64_t> part_of(const Caption& caption, double rate, int64_t frames) {
    auto row = [&](double seconds) {
        return static_cast<int64_t>(
            std::trunc(std::clamp(seconds * rate, 0.0, static_cast<double>(frames))));
    };
    return {row(caption.start), row(caption.end)};
}

// Appends the samples of one clip; throws where the clip itself cannot be used.
void read_clip(const DatasetOptions& options, const std::string& clip, const std::string& category,
               Dataset& data) {
    const FeatureSequence read = read_features(options.root / "new_joint_vecs" / (clip + ".npy"));
    if (data.dims == 0) {
        data.dims = read.dims;
        data.fps = read.fps;
    }
    if (read.dims != data.dims)
        throw Error(fmt::format("{}: {} columns, but the clips before have {}", clip, read.dims,
                                data.dims));
    auto fits = [&](int64_t length) {
        const bool good = length >= options.min_frames && length < options.end_frames;
        data.outside_length += !good;
        return good;
    };
    if (!fits(read.frames)) return;
    const auto features = std::make_shared<const FeatureSequence>(read);
    const fs::path text = options.root / "texts" / (clip + ".txt");
    MotionSample whole{clip, clip, category, features, 0, read.frames, {}};
    int64_t number = 0, ordinal = 0;
    for (const std::string& line : read_lines(text)) {
        ++number;
        if (stripped(line).empty()) continue;
        Caption caption = parse_caption(line, fmt::format("{}:{}", text.string(), number));
        caption.line = number;
        const int64_t k = ordinal++;
        if (caption.whole()) {
            whole.captions.push_back(caption);
            continue;
        }
        const auto [from, to] = part_of(caption, options.seconds_to_frames, read.frames);
        if (!fits(to - from)) continue;
        data.samples.push_back(
            {fmt::format("{}#{}", clip, k), clip, category, features, from, to - from, {caption}});
    }
    if (ordinal == 0) throw Error(fmt::format("{}: no captions", text.string()));
    if (!whole.captions.empty()) data.samples.push_back(std::move(whole));
}

}  // namespace

Caption parse_caption(const std::string& line, const std::string& place) {
    std::string_view rest = stripped(line);
    std::string_view fields[4];
    for (int i = 0; i < 4; ++i) {
        const size_t end = rest.find('#');
        if (end == std::string_view::npos && i < 3)
            throw Error(
                fmt::format("{}: got {} fields, want caption#tokens#start#end", place, i + 1));
        fields[i] = rest.substr(0, end);
        rest = end == std::string_view::npos ? std::string_view{} : rest.substr(end + 1);
    }
    return {std::string(fields[0]), words(fields[1]), parse_seconds(fields[2], place),
            parse_seconds(fields[3], place), 0};
}

std::vector<Caption> read_captions(const fs::path& path) {
    std::vector<Caption> captions;
    int64_t number = 0;
    for (const std::string& line : read_lines(path)) {
        ++number;
        if (stripped(line).empty()) continue;
        captions.push_back(parse_caption(line, fmt::format("{}:{}", path.string(), number)));
        captions.back().line = number;
    }
    return captions;
}

std::string encoder_text(const Caption& caption) {
    if (caption.tokens.size() <= kMaxEncoderTokens) return caption.text;
    // The reference splits at single blanks.
    size_t end = 0;
    for (size_t word = 0; word < kMaxEncoderTokens; ++word) {
        end = caption.text.find(' ', word == 0 ? 0 : end + 1);
        if (end == std::string::npos) return caption.text;
    }
    return caption.text.substr(0, end);
}

int64_t Dataset::total_frames() const {
    int64_t total = 0;
    for (const MotionSample& s : samples) total += s.frames;
    return total;
}

Dataset read_dataset(const DatasetOptions& options) {
    if (options.min_frames < 1 || options.end_frames <= options.min_frames)
        throw Error(fmt::format("[dataset] lengths: got {} to {}, want 1 <= min < end",
                                options.min_frames, options.end_frames));
    const fs::path list = options.root / (options.split + ".txt");
    const auto categories = read_categories(options.root / "categories.txt");
    Dataset data;
    for (const std::string& line : read_lines(list)) {
        const std::string clip(stripped(line));
        if (clip.empty()) continue;
        const auto category = categories.find(clip);
        try {
            if (clip.find('/') != std::string::npos || clip[0] == '.')
                throw Error(fmt::format("{}: '{}' is no name of a clip", list.string(), clip));
            read_clip(options, clip, category == categories.end() ? "" : category->second, data);
        } catch (const Error& e) {
            if (options.strict) throw;
            data.warnings.push_back(e.what());
        }
    }
    if (data.samples.empty())
        throw Error(fmt::format(
            "{}: no usable clip of {} to {} frames ({} of other lengths, {} broken{})",
            list.string(), options.min_frames, options.end_frames - 1, data.outside_length,
            data.warnings.size(), data.warnings.empty() ? "" : "; first: " + data.warnings[0]));
    if (options.sort_by_length)
        std::stable_sort(data.samples.begin(), data.samples.end(),
                         [](const auto& a, const auto& b) { return a.frames < b.frames; });
    return data;
}

std::vector<std::string> left_out(const Dataset& data, const std::string& split) {
    constexpr size_t kNamed = 3;
    if (data.warnings.empty()) return {};
    const size_t named = std::min(kNamed, data.warnings.size());
    std::vector<std::string> lines(data.warnings.begin(),
                                   data.warnings.begin() + static_cast<std::ptrdiff_t>(named));
    lines.push_back(
        fmt::format("split {}: {} clips cannot be read and are left out, {} samples are used",
                    split, data.warnings.size(), data.samples.size()));
    return lines;
}

std::vector<double> balanced_weights(const std::vector<MotionSample>& samples, double power) {
    std::map<std::string, double> counts;
    for (const MotionSample& s : samples) ++counts[s.category];
    std::vector<double> weights;
    double sum = 0;
    for (const MotionSample& s : samples)
        sum += weights.emplace_back(std::pow(counts[s.category], -power));
    for (double& w : weights) w /= sum;
    return weights;
}

Crop training_crop(int64_t length, int coin, uint64_t draw, int64_t unit, int64_t max_frames) {
    if (unit < 1 || length < unit || max_frames < unit)
        throw Error(
            fmt::format("[training_crop] length: got {} (at most {} used), want at least {}",
                        length, max_frames, unit));
    if (coin < 0 || coin > 2)
        throw Error(fmt::format("[training_crop] coin: got {}, want 0, 1 or 2", coin));
    int64_t units = length / unit;
    if (coin == 2 && units > 1) --units;
    const int64_t frames = std::min(units, max_frames / unit) * unit;
    return {static_cast<int64_t>(draw % static_cast<uint64_t>(length - frames + 1)), frames};
}

void normalised_crop(const MotionSample& sample, Crop crop, const Normalisation& normalisation,
                     int64_t padded, float* dst) {
    const int64_t dims = sample.features->dims;
    if (crop.start < 0 || crop.frames < 0 || crop.start + crop.frames > sample.frames ||
        crop.frames > padded || normalisation.dims() != dims)
        throw Error(
            fmt::format("[normalised_crop] {}: rows {}..{} of {}, padded to {}, statistics of {} "
                        "columns for {}: want a part that fits, and equal widths",
                        sample.name, crop.start, crop.start + crop.frames, sample.frames, padded,
                        normalisation.dims(), dims));
    normalisation.normalise(sample.rows() + crop.start * dims, dst, crop.frames);
    std::fill(dst + crop.frames * dims, dst + padded * dims, 0.0f);
}

WindowIndex::WindowIndex(const std::vector<MotionSample>& samples, int64_t window) : ends_{0} {
    if (window < 1) throw Error(fmt::format("[windows] window: got {}, want at least 1", window));
    for (size_t i = 0; i < samples.size(); ++i) {
        if (samples[i].frames <= window) continue;
        ends_.push_back(ends_.back() + samples[i].frames - window);
        samples_.push_back(i);
    }
    if (samples_.empty())
        throw Error(fmt::format("[windows] none of {} samples is longer than a window of {} frames",
                                samples.size(), window));
}

WindowIndex::Place WindowIndex::at(int64_t k) const {
    if (k < 0 || k >= size())
        throw Error(fmt::format("[windows] item: got {}, want 0..{}", k, size() - 1));
    if (k == 0) return {samples_[0], 0};
    const auto m = std::lower_bound(ends_.begin(), ends_.end(), k) - ends_.begin() - 1;
    return {samples_[static_cast<size_t>(m)], k - ends_[static_cast<size_t>(m)] - 1};
}

}  // namespace mc::motion
