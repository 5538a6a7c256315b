#include "motion/rig_bvh.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/error.h"
#include "motion/quaternion.h"
#include "motion/skeleton.h"

namespace mc::motion {
namespace {

constexpr double kClear = 0.8;  // part of a direction of length 1 that makes it an axis's

// The coordinate axis, with its sign, that v of length 1 or less goes along; zero if none.
Vec3 clear_axis(Vec3 v) {
    for (Vec3 axis : {Vec3{1, 0, 0}, Vec3{0, 1, 0}, Vec3{0, 0, 1}}) {
        if (std::fabs(dot(v, axis)) >= kClear) return dot(v, axis) > 0 ? axis : -axis;
    }
    return {};
}

std::string axis_name(Vec3 axis) {
    const double sum = axis.x + axis.y + axis.z;
    return fmt::format("{}{}", sum < 0 ? "-" : "+", axis.x != 0 ? 'X' : axis.y != 0 ? 'Y' : 'Z');
}

// Joints of the file between which the figure stands: the head, the left and the right ankle.
struct Stature {
    int64_t head, left, right;

    template <class PositionOf>
    Vec3 direction(PositionOf position) const {
        return normalise(position(head) - 0.5 * (position(left) + position(right)));
    }
};

// Which way is up in the file: an axis with its sign.
Vec3 up_axis(const Bvh& bvh, const BvhGlobals& globals, const Stature& stature,
             const std::string& name) {
    std::vector<Vec3> rest;  // (joints), the pose of all rotations zero
    for (const BvhJoint& joint : bvh.joints) {
        const bool root = joint.parent < 0;
        rest.push_back(root ? joint.offset
                            : rest[static_cast<size_t>(joint.parent)] + joint.offset);
    }
    const Vec3 at_rest =
        clear_axis(stature.direction([&](int64_t j) { return rest[static_cast<size_t>(j)]; }));
    Vec3 mean;
    for (int64_t t = 0; t < globals.frames; ++t) {
        mean += stature.direction([&](int64_t j) { return globals.position(t, j); });
    }
    const Vec3 moving = clear_axis(mean / std::max(1.0, static_cast<double>(globals.frames)));
    const Vec3 usual{0, 1, 0};
    if (length(at_rest) == 0 && length(moving) == 0) {
        throw Error(fmt::format(
            "{}: neither its rest pose nor the figure tells which way is up; write it with a rest "
            "pose that stands along +Y",
            name));
    }
    // A figure that lies or stands on its hands differs from its rest pose; but one that stands
    // upright along the usual axis hardly lies.
    if (length(at_rest) > 0 && dot(at_rest, usual) != 1 && dot(moving, usual) == 1) {
        throw Error(fmt::format(
            "{}: its rest pose stands along {}, the figure along +Y; write it with a rest pose "
            "that stands along +Y",
            name, axis_name(at_rest)));
    }
    return length(at_rest) > 0 ? at_rest : moving;
}

struct Axes {
    int axis[3];  // 0 X, 1 Y, 2 Z
};

Axes axes_of(EulerOrder order) {
    switch (order) {
        case EulerOrder::kYxz:
            return {{1, 0, 2}};
        case EulerOrder::kZxy:
            return {{2, 0, 1}};
        case EulerOrder::kZyx:
            break;
    }
    return {{2, 1, 0}};
}

// Angles (radians) with rotation = R_i(x) R_j(y) R_k(z) that lie nearest to `before`. Of every
// rotation there are two triples, each up to full turns; in gimbal lock the last angle stays as it
// was.
std::array<double, 3> euler_near(Quat rotation, Axes axes, const std::array<double, 3>& before) {
    const auto [i, j, k] = axes.axis;
    const double sign = (j - i + 3) % 3 == 1 ? 1 : -1;
    const Mat3 r = to_matrix(rotation);
    const double cosine = std::hypot(r(i, i), r(i, j));
    std::array<double, 3> first{};
    first[1] = std::atan2(sign * r(i, k), cosine);
    if (cosine > 1e-7) {
        first[0] = std::atan2(-sign * r(j, k), r(k, k));
        first[2] = std::atan2(-sign * r(i, j), r(i, i));
    } else {
        first[2] = before[2];
        const double c = std::cos(before[2]);
        const double s = sign * std::sin(before[2]);
        // Column j of rotation · R_k(-z), which is R_i(x) e_j.
        first[0] = std::atan2(sign * (r(k, j) * c - r(k, i) * s), r(j, j) * c - r(j, i) * s);
    }
    const std::array<double, 3> second{first[0] + M_PI, M_PI - first[1], first[2] + M_PI};
    const auto nearest = [&](std::array<double, 3> angles, double& distance) {
        distance = 0;
        for (int a = 0; a < 3; ++a) {
            angles[a] += 2 * M_PI * std::round((before[a] - angles[a]) / (2 * M_PI));
            distance += std::fabs(angles[a] - before[a]);
        }
        return angles;
    };
    double d1 = 0;
    double d2 = 0;
    const auto a1 = nearest(first, d1);
    const auto a2 = nearest(second, d2);
    return d2 < d1 - 1e-9 ? a2 : a1;
}

}  // namespace

Bvh rig_to_bvh(const RigMotion& motion, bool one_order) {
    using enum BvhChannel;
    Bvh bvh;
    std::vector<Axes> axes;
    for (size_t j = 0; j < motion.rig.size(); ++j) {
        BvhJoint joint;
        joint.name = motion.rig[j].name;
        joint.parent = motion.rig[j].parent;
        joint.offset = motion.offsets[j];
        joint.first_channel = bvh.channels;
        if (joint.parent < 0) joint.channels = {kXposition, kYposition, kZposition};
        axes.push_back(axes_of(one_order ? EulerOrder::kZyx : motion.rig[j].order));
        for (int axis : axes.back().axis) {
            joint.channels.push_back(static_cast<BvhChannel>(static_cast<int>(kXrotation) + axis));
        }
        // Depth first: a joint's first child is the next one.
        joint.has_end_site =
            j + 1 == motion.rig.size() || motion.rig[j + 1].parent != static_cast<int>(j);
        joint.end_site = motion.ends[j];
        bvh.channels += static_cast<int64_t>(joint.channels.size());
        bvh.joints.push_back(std::move(joint));
    }
    bvh.frames = motion.frames;
    bvh.frame_time = 1 / motion.fps;
    bvh.values.reserve(static_cast<size_t>(bvh.frames * bvh.channels));
    std::vector<std::array<double, 3>> angles(motion.rig.size());
    for (int64_t t = 0; t < motion.frames; ++t) {
        const Vec3 root = motion.root[static_cast<size_t>(t)];
        bvh.values.insert(bvh.values.end(), {root.x, root.y, root.z});
        for (size_t j = 0; j < motion.rig.size(); ++j) {
            angles[j] = euler_near(motion.rotation(t, static_cast<int64_t>(j)), axes[j], angles[j]);
            for (double a : angles[j]) bvh.values.push_back(a * (180 / M_PI));
        }
    }
    return bvh;
}

JointSequence bvh_joints(const Bvh& bvh, const std::string& name, std::vector<std::string>* notes) {
    // The two rigs differ in a name that only KIT's has.
    const auto rig = rig_for_joints(bvh.find("LeftToeBase") >= 0 ? 21 : 22);
    const BvhGlobals globals = bvh_forward(bvh);
    JointSequence out;
    out.frames = bvh.frames;
    out.joints = static_cast<int64_t>(rig.size());
    out.fps = 1 / bvh.frame_time;
    out.xyz.resize(static_cast<size_t>(out.frames * out.joints * 3));
    std::vector<int64_t> column;  // (J) of the rig, in the file
    for (const RigJoint& joint : rig) {
        column.push_back(bvh.find(joint.name));
        if (column.back() < 0) {
            throw Error(
                fmt::format("{}: no joint '{}'; want the {} joints, by name, of the files "
                            "written here",
                            name, joint.name, rig.size()));
        }
    }
    const Stature stature{bvh.find("Head"), bvh.find("LeftFoot"), bvh.find("RightFoot")};
    const Vec3 up = up_axis(bvh, globals, stature, name);
    const Quat upright = between(up, {0, 1, 0});
    const bool turned = up.y != 1;
    if (turned && notes)
        notes->push_back(fmt::format("{}: has {} up; turned to Y up", name, axis_name(up)));
    for (size_t j = 0; j < rig.size(); ++j) {
        for (int64_t t = 0; t < out.frames; ++t) {
            Vec3 p = globals.position(t, column[j]);
            if (turned) p = rotate(upright, p);
            float* x = out.at(t, rig[j].source);
            x[0] = static_cast<float>(p.x);
            x[1] = static_cast<float>(p.y);
            x[2] = static_cast<float>(p.z);
        }
    }
    return out;
}

}  // namespace mc::motion
