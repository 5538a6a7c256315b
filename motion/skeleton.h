// The two skeletons of the field as data: HumanML3D (first 22 SMPL joints) and KIT-ML (21 joints),
// with the constants that features are made with. Source: motion_data.md 7 and 8.
//
//     const Skeleton& s = humanml3d_skeleton();
//     s.parents[4] == 1;                       // the left knee hangs from the left hip
//     skeleton_for_dims(251).joints == 21;     // KIT, chosen by the width of the feature rows
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "motion/quaternion.h"

namespace mc::motion {

struct Skeleton {
    std::string name;        // "humanml3d" or "kit"
    int64_t joints = 0;      // J
    double fps = 0;          // 20 or 12.5
    double millimetres = 0;  // one unit of length: HumanML3D's is 1 m, KIT's 1 mm
    int64_t min_frames = 0;  // shortest clip the published data-set classes keep: 40 or 24

    std::vector<std::string>
        joint_names;           // (J), sides as the anatomy has them: left is +X when facing +Z
    std::vector<int> parents;  // (J), -1 for the root
    std::vector<std::vector<int>> chains;  // kinematic chains; their order matters for IK and FK
    std::vector<Vec3> raw_offsets;  // (J), unit direction of each bone in the zero pose; root 0
    // (J), metres, root 0: the lengths every processed clip has. Empty for KIT, whose target clip
    // (03950_gt) is not public: callers then give lengths of their own, such as those of a clip's
    // first frame.
    std::vector<double> bone_lengths;

    // {right hip, left hip, right shoulder, left shoulder}; the inverse kinematics reads the first
    // two exchanged (NOTE [ Root heading ] in motion/features.h).
    std::array<int, 4> face_joints{};
    std::array<int, 2> leg_joints{};  // bones whose lengths are compared when a clip is scaled
    std::array<int, 2> left_foot{};   // ankle, toe
    std::array<int, 2> right_foot{};  // ankle, toe
    double contact_threshold = 0;     // squared displacement a frame below which a foot joint rests
    std::vector<std::pair<int, int>> mirror_pairs;  // joints that a mirrored clip exchanges

    // Columns of a feature row (motion_data.md 10.4): root rotation velocity 0, root linear
    // velocity 1..2, root height 3, then the groups below.
    int64_t ric_begin() const { return 4; }                                      // 3(J-1) positions
    int64_t rot_begin() const { return 4 + 3 * (joints - 1); }                   // 6(J-1) rotations
    int64_t vel_begin() const { return 4 + 9 * (joints - 1); }                   // 3J velocities
    int64_t contact_begin() const { return 4 + 9 * (joints - 1) + 3 * joints; }  // 4 contacts
    int64_t feature_dims() const { return contact_begin() + 4; }                 // 263 or 251

    // raw_offsets times lengths: (J). Error if lengths are not J non-negative finite numbers.
    std::vector<Vec3> offsets(std::span<const double> lengths) const;
    // offsets(bone_lengths); Error for KIT, which has none.
    std::vector<Vec3> target_offsets() const;
};

const Skeleton& humanml3d_skeleton();
const Skeleton& kit_skeleton();

// Error for anything but 22 or 21.
const Skeleton& skeleton_for_joints(int64_t joints);
// Error for anything but 263 or 251.
const Skeleton& skeleton_for_dims(int64_t dims);

}  // namespace mc::motion
