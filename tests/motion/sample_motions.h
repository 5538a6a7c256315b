// Motions for the exporters' tests: a synthetic walker with known rotations, and the recorded clip.
#pragma once

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "motion/bvh.h"
#include "motion/ik.h"
#include "motion/motion_file.h"

namespace mc::testing {

// A walk with swinging limbs on a circle: turns by `turns` full turns, first facing `heading`
// (radians, 0 is +Z). Limbs bend as hinges. Bone lengths are the rig's own.
inline motion::RigMotion walking_rig(int64_t frames, double heading = 0, double turns = 0,
                                     int64_t joints = 22) {
    using namespace motion;
    RigMotion out;
    out.rig = rig_for_joints(joints);
    out.frames = frames;
    out.fps = joints == 22 ? 20 : 12.5;
    for (const RigJoint& joint : out.rig) {
        out.offsets.push_back(joint.rest);
        out.ends.push_back(joint.end);
    }
    const Vec3 up{0, 1, 0};
    Vec3 at{0, 0.95, 0};
    for (int64_t t = 0; t < frames; ++t) {
        const double phase = 0.35 * static_cast<double>(t);
        const double yaw =
            heading + 2 * M_PI * turns * static_cast<double>(t) / static_cast<double>(frames - 1);
        const Quat facing = axis_angle(up, yaw);
        at += 0.06 * rotate(facing, {0, 0, 1});
        out.root.push_back(at + Vec3{0, 0.02 * std::sin(2 * phase), 0});
        for (const RigJoint& joint : out.rig) {
            const std::string name = joint.name;
            const double side = name.rfind("Left", 0) == 0 ? 1 : -1;
            const double swing = side * std::sin(phase);
            Quat q;
            if (name == "Hips") q = facing * axis_angle({1, 0, 0}, 0.08 * std::sin(phase));
            if (name.ends_with("UpLeg")) q = axis_angle({1, 0, 0}, -0.3 + 0.5 * swing);
            if (name.ends_with("Leg") && !name.ends_with("UpLeg")) {
                q = axis_angle({1, 0, 0}, 0.6 - 0.4 * swing);
            }
            if (name.ends_with("Foot")) q = axis_angle({1, 0, 0}, 0.2 * swing);
            if (name.rfind("Spine", 0) == 0) q = axis_angle({0, 1, 0.2}, -0.1 * std::sin(phase));
            if (name == "Neck") q = axis_angle({1, 0, 0}, 0.1 * std::sin(2 * phase));
            if (name.ends_with("Arm") && !name.ends_with("ForeArm")) {
                q = axis_angle({1, 0, 0}, 0.5 * swing) * axis_angle({0, 0, 1}, -1.2 * side);
            }
            if (name.ends_with("ForeArm")) q = axis_angle({0, 1, 0}, -side * (0.9 + 0.3 * swing));
            out.local.push_back(q);
        }
    }
    return out;
}

// The file as Blender writes it after reading it with its own defaults: offsets, positions and axes
// of rotation with Z up, positions of every joint, 24 frames a second.
inline motion::Bvh as_blender_writes(motion::Bvh bvh) {
    using namespace motion;
    using enum BvhChannel;
    const auto turned = [](Vec3 v) { return Vec3{v.x, -v.z, v.y}; };
    Bvh out = bvh;
    out.channels = 0;
    out.values.clear();
    out.frame_time = 1.0 / 24;
    for (BvhJoint& joint : out.joints) {
        joint.offset = turned(joint.offset);
        joint.end_site = turned(joint.end_site);
        std::vector<BvhChannel> channels = {kXposition, kYposition, kZposition};
        for (BvhChannel c : joint.channels) {
            if (c == kXrotation) channels.push_back(kXrotation);
            if (c == kYrotation) channels.push_back(kZrotation);
            if (c == kZrotation) channels.push_back(kYrotation);
        }
        joint.channels = channels;
        joint.first_channel = out.channels;
        out.channels += 6;
    }
    for (int64_t t = 0; t < bvh.frames; ++t) {
        const double* row = bvh.values.data() + t * bvh.channels;
        for (size_t j = 0; j < bvh.joints.size(); ++j) {
            const BvhJoint& joint = bvh.joints[j];
            const double* x = row + joint.first_channel;
            const bool root = joint.parent < 0;
            const Vec3 at = root ? turned({x[0], x[1], x[2]}) : out.joints[j].offset;
            out.values.insert(out.values.end(), {at.x, at.y, at.z});
            for (size_t c = root ? 3 : 0; c < joint.channels.size(); ++c) {
                out.values.push_back(joint.channels[c] == kZrotation ? -x[c] : x[c]);
            }
        }
    }
    return out;
}

inline motion::JointSequence recorded_clip(const std::filesystem::path& shared) {
    return motion::read_joints(shared / "data/HumanML3D/new_joints/012314.npy");
}

inline std::string read_bytes(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

struct JointError {
    double mean = 0;
    double worst = 0;
};

// Distances between the joints of two sequences of equal size.
inline JointError joint_error(const motion::JointSequence& a, const motion::JointSequence& b) {
    JointError error;
    const size_t count = a.xyz.size() / 3;
    for (size_t i = 0; i < count; ++i) {
        const double d =
            std::hypot(a.xyz[3 * i] - b.xyz[3 * i], a.xyz[3 * i + 1] - b.xyz[3 * i + 1],
                       a.xyz[3 * i + 2] - b.xyz[3 * i + 2]);
        error.mean += d / static_cast<double>(count);
        error.worst = std::max(error.worst, d);
    }
    return error;
}

}  // namespace mc::testing
