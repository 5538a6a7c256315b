#include "motion/foot_lock.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>
#include <vector>

#include "kernels/error.h"
#include "motion/quaternion.h"
#include "motion/signal.h"
#include "motion/two_bone.h"

namespace mc::motion {
namespace {

struct Leg {
    int hip, knee, ankle, toe;
};
constexpr Leg kLegs[] = {{1, 4, 7, 10}, {2, 5, 8, 11}};
constexpr int kFootJoints[] = {7, 10, 8, 11};  // ankle, toe, ankle, toe
constexpr double kNoFloor = 0.5;  // a floor found above this is none, but a figure in the air

Vec3 get(const JointSequence& joints, int64_t t, int64_t j) {
    const float* p = joints.at(t, j);
    return {p[0], p[1], p[2]};
}

void put(JointSequence& joints, int64_t t, int64_t j, Vec3 v) {
    float* p = joints.at(t, j);
    p[0] = static_cast<float>(v.x);
    p[1] = static_cast<float>(v.y);
    p[2] = static_cast<float>(v.z);
}

Vec3 mix(double a, Vec3 x, Vec3 y) {
    return (1 - a) * x + a * y;
}
double ease(double u) {
    return 2 * u * u * u - 3 * u * u + 1;
}

struct Floor {
    double ground = 0;    // height that becomes y = 0
    double contacts = 0;  // height from which feet in contact are measured
};

// Height of the lowest foot joint and which of kFootJoints it is.
std::pair<double, size_t> lowest_foot(const JointSequence& joints, int64_t t) {
    std::pair<double, size_t> low{get(joints, t, kFootJoints[0]).y, 0};
    for (size_t f = 1; f < 4; ++f) low = std::min(low, {get(joints, t, kFootJoints[f]).y, f});
    return low;
}

Floor published_floor(const JointSequence& joints) {
    std::vector<double> lowest;
    for (int64_t t = 0; t < joints.frames; ++t) lowest.push_back(lowest_foot(joints, t).first);
    std::sort(lowest.begin(), lowest.end());
    const size_t begin = lowest.size() / 4;
    const size_t end = std::max(lowest.size() / 2, begin + 1);
    double sum = 0;
    for (size_t i = begin; i < end; ++i) sum += lowest[i];
    const double mean = sum / static_cast<double>(end - begin);
    const double floor = mean > kNoFloor ? 0.0 : mean;
    return {floor, floor};
}

// The ground is the lowest joint of the clip, as in the data that generators learn from: a quantile
// would lie above it where the figure comes down or goes up, and sink the figure. Feet in contact
// are measured from where the lowest of those that rest are, for a single frame may dip below.
Floor floor_of(const JointSequence& joints, const FootLockOptions& options) {
    double lowest = get(joints, 0, 0).y;
    std::vector<double> all, resting;
    for (int64_t t = 0; t < joints.frames; ++t) {
        for (int64_t j = 0; j < joints.joints; ++j) {
            lowest = std::min(lowest, get(joints, t, j).y);
        }
        const auto [height, f] = lowest_foot(joints, t);
        all.push_back(height);
        if (t + 1 == joints.frames) continue;
        const Vec3 step = get(joints, t + 1, kFootJoints[f]) - get(joints, t, kFootJoints[f]);
        const bool toe = f % 2 == 1;
        if (dot(step, step) < (toe ? options.toe_step_squared : options.ankle_step_squared)) {
            resting.push_back(height);
        }
    }
    const double contacts = quantile(resting.empty() ? all : resting, 0.1);
    return {lowest > kNoFloor ? 0.0 : lowest, contacts};
}

// (frames): 1 where the joint touches the floor.
std::vector<char> contacts(const JointSequence& joints, int joint, double step_squared,
                           double height) {
    std::vector<char> touches(static_cast<size_t>(joints.frames), 0);
    for (int64_t t = 0; t + 1 < joints.frames; ++t) {
        const Vec3 here = get(joints, t, joint);
        const Vec3 step = get(joints, t + 1, joint) - here;
        touches[static_cast<size_t>(t)] = dot(step, step) < step_squared && here.y < height;
    }
    if (joints.frames > 1) touches.back() = touches[touches.size() - 2];
    return touches;
}

void hold(std::vector<Vec3>& path, const std::vector<char>& touches, bool keep_height) {
    for (size_t begin = 0; begin < path.size(); ++begin) {
        if (!touches[begin]) continue;
        size_t end = begin;
        Vec3 mean;
        while (end < path.size() && touches[end]) mean += path[end++];
        mean = mean / static_cast<double>(end - begin);
        if (!keep_height) mean.y = 0;
        std::fill(path.begin() + static_cast<std::ptrdiff_t>(begin),
                  path.begin() + static_cast<std::ptrdiff_t>(end), mean);
        begin = end - 1;
    }
}

// In place and in order of time, as the published code does it: a blended frame is no contact, so
// it is never pulled towards.
void blend(std::vector<Vec3>& path, const std::vector<char>& touches, int64_t reach) {
    const int64_t n = static_cast<int64_t>(path.size());
    const auto at = [&](int64_t t) -> Vec3& { return path[static_cast<size_t>(t)]; };
    const double span = static_cast<double>(reach + 1);
    for (int64_t s = 0; s < n; ++s) {
        if (touches[static_cast<size_t>(s)]) continue;
        int64_t l = -1;
        int64_t r = -1;
        for (int64_t k = 1; k <= reach && l < 0; ++k) {
            if (s - k >= 0 && touches[static_cast<size_t>(s - k)]) l = s - k;
        }
        for (int64_t k = 1; k <= reach && r < 0; ++k) {
            if (s + k < n && touches[static_cast<size_t>(s + k)]) r = s + k;
        }
        const Vec3 here = at(s);
        const Vec3 left =
            l < 0 ? here : mix(ease(static_cast<double>(s - l + 1) / span), here, at(l));
        const Vec3 right =
            r < 0 ? here : mix(ease(static_cast<double>(r - s + 1) / span), here, at(r));
        if (l >= 0 && r >= 0) {
            const double u = static_cast<double>(s - l + 1) / static_cast<double>(r - l + 1);
            at(s) = mix(ease(u), right, left);
        } else if (l >= 0) {
            at(s) = left;
        } else if (r >= 0) {
            at(s) = right;
        }
    }
}

// Puts the ankle as near to its goal as the leg reaches, the knee in the plane it was in, and the
// toe towards its goal.
void solve_leg(JointSequence& out, const JointSequence& source, int64_t t, const Leg& leg,
               Vec3 ankle_goal, Vec3 toe_goal) {
    const Vec3 hip = get(source, t, leg.hip);
    const Vec3 knee = get(source, t, leg.knee);
    const Vec3 ankle = get(source, t, leg.ankle);
    const double thigh = length(knee - hip);
    const double shank = length(ankle - knee);
    const double foot = length(get(source, t, leg.toe) - ankle);
    Vec3 along = ankle_goal - hip;
    if (length(along) < 1e-6) along = ankle - hip;
    if (length(along) < 1e-6) return;
    // Not straighter than the source was: a knee that locks pops.
    const double longest = std::max(length(ankle - hip), 0.999 * (thigh + shank));
    const TwoBone limb = two_bone(length(along), thigh, shank, longest);
    along = normalise(along);
    const Vec3 aside = (knee - hip) - dot(knee - hip, along) * along;
    const Vec3 new_knee = hip + limb.along * along + limb.aside * normalise(aside);
    const Vec3 new_ankle = hip + limb.reach * along;
    put(out, t, leg.knee, new_knee);
    put(out, t, leg.ankle, new_ankle);
    Vec3 toe = new_ankle + foot * normalise(toe_goal - new_ankle);
    // A foot that is longer than the way to its goal must not reach through the ground.
    const Vec3 flat{toe.x - new_ankle.x, 0, toe.z - new_ankle.z};
    if (toe.y < 0 && toe_goal.y >= 0 && new_ankle.y <= foot && length(flat) > 1e-9) {
        const double ahead = std::sqrt(foot * foot - new_ankle.y * new_ankle.y);
        toe = Vec3{new_ankle.x, 0, new_ankle.z} + ahead * normalise(flat);
    }
    put(out, t, leg.toe, toe);
}

void check(const JointSequence& joints) {
    if (joints.joints != 22 || joints.frames < 1 ||
        static_cast<int64_t>(joints.xyz.size()) != joints.frames * 22 * 3) {
        throw Error(fmt::format("foot lock: got {} frames of {} joints, want 22 joints",
                                joints.frames, joints.joints));
    }
    for (size_t i = 0; i < joints.xyz.size(); ++i) {
        if (!std::isfinite(joints.xyz[i])) {
            throw Error(
                fmt::format("foot lock: frame {}, joint {} is not finite", i / 66, i / 3 % 22));
        }
    }
}

}  // namespace

FootLockOptions published_foot_lock() {
    FootLockOptions options;
    options.ankle_step_squared = 0.05;
    options.toe_step_squared = 0.2;
    options.ankle_height = 0.06;
    options.toe_height = 0.03;
    options.ground_below_all = false;
    options.floor_first = false;
    options.keep_height = false;
    options.keep_lengths = false;
    options.keep_path = false;
    return options;
}

JointSequence lock_feet(const JointSequence& joints, const FootLockOptions& options) {
    check(joints);
    JointSequence out = joints;
    const Floor floor =
        options.ground_below_all ? floor_of(joints, options) : published_floor(joints);
    for (int64_t t = 0; t < out.frames; ++t) {
        for (int64_t j = 0; j < out.joints; ++j) {
            out.at(t, j)[1] = static_cast<float>(out.at(t, j)[1] - floor.ground);
        }
    }
    const JointSequence source = out;
    const double raised = options.floor_first ? floor.contacts - floor.ground : 0.0;
    std::array<std::vector<Vec3>, 4> paths;  // as kFootJoints
    for (size_t f = 0; f < 4; ++f) {
        const int joint = kFootJoints[f];
        const bool toe = f % 2 == 1;
        const std::vector<char> touches =
            contacts(options.floor_first ? source : joints, joint,
                     toe ? options.toe_step_squared : options.ankle_step_squared,
                     raised + (toe ? options.toe_height : options.ankle_height));
        for (int64_t t = 0; t < out.frames; ++t) paths[f].push_back(get(source, t, joint));
        const std::vector<Vec3> own = paths[f];
        hold(paths[f], touches, options.keep_height);
        // What is blended is where the joint is, or how far its contacts moved it: zero elsewhere.
        const double kept = options.keep_path ? 1 : 0;
        for (size_t i = 0; i < own.size(); ++i) paths[f][i] -= kept * own[i];
        blend(paths[f], touches, options.blend_frames);
        for (size_t i = 0; i < own.size(); ++i) paths[f][i] += kept * own[i];
    }
    for (int64_t t = 0; t < out.frames; ++t) {
        const size_t i = static_cast<size_t>(t);
        for (size_t side = 0; side < 2; ++side) {
            const Vec3 ankle = paths[2 * side][i];
            const Vec3 toe = paths[2 * side + 1][i];
            if (options.keep_lengths) {
                solve_leg(out, source, t, kLegs[side], ankle, toe);
            } else {
                put(out, t, kLegs[side].ankle, ankle);
                put(out, t, kLegs[side].toe, toe);
            }
        }
    }
    return out;
}

}  // namespace mc::motion
