// Mean and standard deviation of feature rows, and z-normalisation with them. Source:
// motion_data.md 6.
//
//     FeatureStatistics s(263);
//     for (const FeatureSequence& clip : clips) s.add(clip);
//     Normalisation plain = s.finish();                               // Mean.npy, Std.npy
//     Normalisation n = with_feat_bias(plain, 2);                     // what MoMask and MoCLIP
//     train on
//
// NOTE [ feat_bias ] The public VQ data class divides std[0:4] and std[-4:] by 5 in place, and is
// made twice on one array, so released weights and their meta/std.npy carry a factor of 25. `power`
// says how often we divide: 0 for the plain Std.npy, 1 as published, 2 as the public weights have
// it. Files named meta/std.npy have it in already: power 0.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "motion/joints.h"

namespace mc::motion {

// First and one-past-last columns of the seven groups (motion_data.md 6): root rotation velocity,
// root linear velocity, root height, positions, rotations, velocities, contacts.
std::array<std::pair<int64_t, int64_t>, 7> feature_groups(int64_t dims);

struct Normalisation {
    std::vector<double> mean;  // (D)
    std::vector<double> std;   // (D), all > 0

    int64_t dims() const { return static_cast<int64_t>(mean.size()); }
    // z = (x - mean)/std on `rows` rows of D floats, in double, rounded once; src may be dst. And
    // back.
    void normalise(const float* src, float* dst, int64_t rows) const;
    void denormalise(const float* src, float* dst, int64_t rows) const;
};

// std[0:4] and std[-4:] divided by 5^power (NOTE [ feat_bias ]); power is 0, 1 or 2.
Normalisation with_feat_bias(Normalisation plain, int power);

// (D) arrays, float32 or float64. Error: other shapes, two different sizes, NaN, std <= 0.
Normalisation read_normalisation(const std::filesystem::path& mean,
                                 const std::filesystem::path& std, int feat_bias_power = 0);
// float32 as HumanML3D's Mean.npy and Std.npy, or float64 as meta/mean.npy and meta/std.npy.
void write_normalisation(const Normalisation& n, const std::filesystem::path& mean,
                         const std::filesystem::path& std, bool as_float64 = false);

// Accumulates rows; variance by Welford's method, in double, in the order of the calls.
class FeatureStatistics {
  public:
    explicit FeatureStatistics(int64_t dims);
    void add(const FeatureSequence& features);
    int64_t rows() const { return rows_; }

    // Mean of each column; population standard deviation of each column, then averaged within its
    // group, so that a group has one value. A group that never changes gets 1 and its index is put
    // in `constant_groups` if given.
    Normalisation finish(std::vector<int>* constant_groups = nullptr) const;

  private:
    int64_t dims_ = 0, rows_ = 0;
    std::vector<double> mean_, squares_;  // (D)
};

}  // namespace mc::motion
