#include "motion/statistics.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>

#include "kernels/error.h"
#include "motion/skeleton.h"
#include "tensor/formats/npy.h"

namespace mc::motion {

namespace {

constexpr double kFeatBias = 5;
constexpr double kConstant = 1e-9;  // a group whose deviation is below this does not vary

std::vector<double> read_vector(const std::filesystem::path& path, bool positive) {
    const NpyArray array = read_npy(path);
    if (array.shape.size() != 1 || (array.shape[0] != 263 && array.shape[0] != 251))
        throw Error(fmt::format("{}: got shape ({}), want (263) or, for KIT, (251)", array.source,
                                fmt::join(array.shape, ", ")));
    std::vector<double> values = array.as_f64();
    for (size_t c = 0; c < values.size(); ++c)
        if (!std::isfinite(values[c]) || (positive && values[c] <= 0))
            throw Error(fmt::format("{}: column {}: got {}, want a {} number", array.source, c,
                                    values[c], positive ? "positive" : "finite"));
    return values;
}

}  // namespace

std::array<std::pair<int64_t, int64_t>, 7> feature_groups(int64_t dims) {
    const Skeleton& s = skeleton_for_dims(dims);
    return {{{0, 1},
             {1, 3},
             {3, 4},
             {s.ric_begin(), s.rot_begin()},
             {s.rot_begin(), s.vel_begin()},
             {s.vel_begin(), s.contact_begin()},
             {s.contact_begin(), dims}}};
}

void Normalisation::normalise(const float* src, float* dst, int64_t rows) const {
    for (int64_t t = 0; t < rows; ++t)
        for (size_t c = 0; c < mean.size(); ++c)
            *dst++ = static_cast<float>((*src++ - mean[c]) / std[c]);
}

void Normalisation::denormalise(const float* src, float* dst, int64_t rows) const {
    for (int64_t t = 0; t < rows; ++t)
        for (size_t c = 0; c < mean.size(); ++c)
            *dst++ = static_cast<float>(*src++ * std[c] + mean[c]);
}

Normalisation with_feat_bias(Normalisation plain, int power) {
    if (power < 0 || power > 2)
        throw Error(fmt::format("[feat_bias] power: got {}, want 0, 1 or 2", power));
    const double divisor = std::pow(kFeatBias, power);
    const size_t dims = plain.std.size();
    for (size_t c = 0; c < dims; ++c)
        if (c < 4 || c + 4 >= dims) plain.std[c] /= divisor;
    return plain;
}

Normalisation read_normalisation(const std::filesystem::path& mean,
                                 const std::filesystem::path& std, int feat_bias_power) {
    Normalisation n{read_vector(mean, false), read_vector(std, true)};
    if (n.mean.size() != n.std.size())
        throw Error(fmt::format("{}: {} columns, but {} has {}", mean.string(), n.mean.size(),
                                std.string(), n.std.size()));
    return with_feat_bias(std::move(n), feat_bias_power);
}

void write_normalisation(const Normalisation& n, const std::filesystem::path& mean,
                         const std::filesystem::path& std, bool as_float64) {
    for (const auto& [path, values] : {std::pair{mean, &n.mean}, std::pair{std, &n.std}}) {
        if (as_float64) {
            write_npy(path, {n.dims()}, values->data());
        } else {
            const std::vector<float> single(values->begin(), values->end());
            write_npy(path, {n.dims()}, single.data());
        }
    }
}

FeatureStatistics::FeatureStatistics(int64_t dims)
    : dims_(dims), mean_(static_cast<size_t>(dims), 0.0), squares_(static_cast<size_t>(dims), 0.0) {
    skeleton_for_dims(dims);
}

void FeatureStatistics::add(const FeatureSequence& features) {
    if (features.dims != dims_)
        throw Error(fmt::format("[statistics] columns: got {}, want {}", features.dims, dims_));
    for (int64_t t = 0; t < features.frames; ++t) {
        const float* row = features.at(t);
        ++rows_;
        for (size_t c = 0; c < mean_.size(); ++c) {
            const double before = row[c] - mean_[c];
            mean_[c] += before / static_cast<double>(rows_);
            squares_[c] += before * (row[c] - mean_[c]);
        }
    }
}

Normalisation FeatureStatistics::finish(std::vector<int>* constant_groups) const {
    if (rows_ == 0) throw Error("[statistics] there are no rows to take the mean of");
    Normalisation n{mean_, std::vector<double>(mean_.size())};
    int index = 0;
    for (const auto& [from, to] : feature_groups(dims_)) {
        double sum = 0;
        for (int64_t c = from; c < to; ++c)
            sum += std::sqrt(squares_[static_cast<size_t>(c)] / static_cast<double>(rows_));
        double deviation = sum / static_cast<double>(to - from);
        if (deviation < kConstant) {
            deviation = 1;
            if (constant_groups) constant_groups->push_back(index);
        }
        for (int64_t c = from; c < to; ++c) n.std[static_cast<size_t>(c)] = deviation;
        ++index;
    }
    return n;
}

}  // namespace mc::motion
