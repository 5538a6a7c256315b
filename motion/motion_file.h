// Motions as .npy files: joints (N, 22|21, 3) and feature rows (N, 263|251), float32 or float64,
// any order. Source: motion_data.md 14. NaN and Inf are refused with file and frame.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "motion/joints.h"
#include "tensor/formats/npy.h"

namespace mc::motion {

inline constexpr int64_t kMaxFrames = 1'000'000;

// Of an array that is read already: array.source names it in errors. The frame rate is the
// skeleton's own.
JointSequence joints_of_array(const NpyArray& array);
FeatureSequence features_of_array(const NpyArray& array);

JointSequence read_joints(const std::filesystem::path& path);
FeatureSequence read_features(const std::filesystem::path& path);

// float32. The bytes of such a file, and the file; `flush`: see AtomicFile::commit.
std::string encode_joints(const JointSequence& joints);
std::string encode_features(const FeatureSequence& features);
void write_joints(const std::filesystem::path& path, const JointSequence& joints,
                  bool flush = true);
void write_features(const std::filesystem::path& path, const FeatureSequence& features,
                    bool flush = true);

}  // namespace mc::motion
