// Motions that a user names: joints or feature rows (.npy), or a BVH with this project's joint
// names.
#pragma once

#include <filesystem>

#include "motion/joints.h"

namespace mc::tools {

motion::JointSequence read_motion(const std::filesystem::path& path);
// Feature rows as they are in the file, or extracted from joints (one row less than frames).
motion::FeatureSequence read_motion_features(const std::filesystem::path& path);

}  // namespace mc::tools
