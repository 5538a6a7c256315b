#include "motion/skeleton.h"

#include <fmt/format.h>

#include <cmath>

#include "kernels/error.h"

namespace mc::motion {

std::vector<Vec3> Skeleton::offsets(std::span<const double> lengths) const {
    if (static_cast<int64_t>(lengths.size()) != joints)
        throw Error(fmt::format("[skeleton {}] bone lengths: got {}, want {}, one a joint", name,
                                lengths.size(), joints));
    std::vector<Vec3> result(raw_offsets);
    for (size_t j = 0; j < result.size(); ++j) {
        if (!(lengths[j] >= 0) || !std::isfinite(lengths[j]))
            throw Error(fmt::format("[skeleton {}] bone length of joint {} ({}): got {}, want >= 0",
                                    name, j, joint_names[j], lengths[j]));
        result[j] = lengths[j] * raw_offsets[j];
    }
    return result;
}

std::vector<Vec3> Skeleton::target_offsets() const {
    if (bone_lengths.empty())
        throw Error(fmt::format(
            "[skeleton {}] no target bone lengths are published for this skeleton; give lengths of "
            "your own, e.g. those of a clip's first frame",
            name));
    return offsets(bone_lengths);
}

const Skeleton& humanml3d_skeleton() {
    static const Skeleton skeleton = [] {
        Skeleton s;
        s.name = "humanml3d";
        s.joints = 22;
        s.fps = 20;
        s.millimetres = 1000;
        s.min_frames = 40;
        s.joint_names = {"pelvis",        "left_hip",       "right_hip",    "spine1",
                         "left_knee",     "right_knee",     "spine2",       "left_ankle",
                         "right_ankle",   "spine3",         "left_foot",    "right_foot",
                         "neck",          "left_collar",    "right_collar", "head",
                         "left_shoulder", "right_shoulder", "left_elbow",   "right_elbow",
                         "left_wrist",    "right_wrist"};
        s.parents = {-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19};
        s.chains = {{0, 2, 5, 8, 11},
                    {0, 1, 4, 7, 10},
                    {0, 3, 6, 9, 12, 15},
                    {9, 14, 17, 19, 21},
                    {9, 13, 16, 18, 20}};
        const Vec3 left{1, 0, 0}, right{-1, 0, 0}, up{0, 1, 0}, down{0, -1, 0}, ahead{0, 0, 1};
        s.raw_offsets = {Vec3{}, left, right, up,    down,  down, up,   down, down, up,   ahead,
                         ahead,  up,   left,  right, ahead, down, down, down, down, down, down};
        // Means over the 170 frames of new_joints/012314, the published sample: all processed clips
        // share the lengths of clip 000021, frame 0. They are constant over the sample to 2e-6.
        s.bone_lengths = {0,           0.103073967, 0.109883358, 0.131568231, 0.393623193,
                          0.390188219, 0.143190216, 0.432432996, 0.425643402, 0.057364738,
                          0.143381787, 0.149419053, 0.219360049, 0.137486794, 0.143382809,
                          0.103039208, 0.131613955, 0.122984390, 0.256839896, 0.263091858,
                          0.266011816, 0.269876291};
        s.face_joints = {2, 1, 17, 16};
        s.leg_joints = {5, 8};
        s.left_foot = {7, 10};
        s.right_foot = {8, 11};
        s.contact_threshold = 0.002;
        s.mirror_pairs = {{1, 2}, {4, 5}, {7, 8}, {10, 11}, {13, 14}, {16, 17}, {18, 19}, {20, 21}};
        return s;
    }();
    return skeleton;
}

const Skeleton& kit_skeleton() {
    static const Skeleton skeleton = [] {
        Skeleton s;
        s.name = "kit";
        s.joints = 21;
        s.fps = 12.5;
        s.millimetres = 1;
        s.min_frames = 24;
        // Joints 5..7 and 11..15 lie at the subject's right (motion_data.md 8); other code names
        // them left.
        s.joint_names = {"root",          "pelvis",         "thorax",        "lower_neck",
                         "upper_neck",    "right_shoulder", "right_elbow",   "right_wrist",
                         "left_shoulder", "left_elbow",     "left_wrist",    "right_hip",
                         "right_knee",    "right_ankle",    "right_midfoot", "right_foot",
                         "left_hip",      "left_knee",      "left_ankle",    "left_midfoot",
                         "left_foot"};
        s.parents = {-1, 0, 1, 2, 3, 3, 5, 6, 3, 8, 9, 0, 11, 12, 13, 14, 0, 16, 17, 18, 19};
        s.chains = {{0, 11, 12, 13, 14, 15},
                    {0, 16, 17, 18, 19, 20},
                    {0, 1, 2, 3, 4},
                    {3, 5, 6, 7},
                    {3, 8, 9, 10}};
        const Vec3 plus{1, 0, 0}, minus{-1, 0, 0}, up{0, 1, 0}, down{0, -1, 0}, ahead{0, 0, 1};
        s.raw_offsets = {Vec3{}, up,   up,   up,    up,    plus,  down, down, minus, down, down,
                         plus,   down, down, ahead, ahead, minus, down, down, ahead, ahead};
        s.face_joints = {11, 16, 5, 8};
        s.leg_joints = {17, 18};
        s.left_foot = {19, 20};
        s.right_foot = {14, 15};
        s.contact_threshold = 0.05;
        s.mirror_pairs = {{5, 8},   {6, 9},   {7, 10},  {11, 16},
                          {12, 17}, {13, 18}, {14, 19}, {15, 20}};
        return s;
    }();
    return skeleton;
}

const Skeleton& skeleton_for_joints(int64_t joints) {
    if (joints == humanml3d_skeleton().joints) return humanml3d_skeleton();
    if (joints == kit_skeleton().joints) return kit_skeleton();
    throw Error(
        fmt::format("[skeleton] joint count: got {}, want 22 (HumanML3D) or 21 (KIT-ML)", joints));
}

const Skeleton& skeleton_for_dims(int64_t dims) {
    if (dims == humanml3d_skeleton().feature_dims()) return humanml3d_skeleton();
    if (dims == kit_skeleton().feature_dims()) return kit_skeleton();
    throw Error(fmt::format(
        "[skeleton] feature columns: got {}, want 263 (HumanML3D) or 251 (KIT-ML)", dims));
}

}  // namespace mc::motion
