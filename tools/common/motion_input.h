// Motions that a user names: joints or feature rows (.npy), or a BVH with this project's joint
// names, also after Blender or another program wrote it anew.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "motion/joints.h"

namespace mc::tools {

// What the reader mended or changed, a line each, for the user to know.
using Notes = std::vector<std::string>;

// By the end of its name.
bool is_bvh(const std::filesystem::path& path);

// The ranges of a list as "40:80,90:100": of each the first frame and the first after it. Error,
// naming --frames, if a piece of the list is none.
std::vector<std::pair<int64_t, int64_t>> frame_ranges(const std::string& list);

// A BVH is turned to Y up, brought to its skeleton's unit (metres; KIT: millimetres) and resampled
// to its rate (20 or 12.5 frames a second).
motion::JointSequence read_motion(const std::filesystem::path& path, Notes* notes = nullptr);
// The same of a BVH or joints; Error for feature rows.
motion::JointSequence read_motion_joints(const std::filesystem::path& path, Notes* notes = nullptr);
// Feature rows as they are in the file, or extracted from joints (one row less than frames).
motion::FeatureSequence read_motion_features(const std::filesystem::path& path,
                                             Notes* notes = nullptr);

}  // namespace mc::tools
