#include "motion/ik.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "kernels/error.h"
#include "motion/skeleton.h"
#include "motion/two_bone.h"

namespace mc::motion {
namespace {

constexpr Vec3 kNone{0, 0, 0};
constexpr Vec3 kFront{0, 0, 1};
constexpr Vec3 kBack{0, 0, -1};
constexpr Vec3 kToeTip{0, 0, 0.06};
constexpr EulerOrder kYxz = EulerOrder::kYxz;
constexpr EulerOrder kZxy = EulerOrder::kZxy;
constexpr EulerOrder kZyx = EulerOrder::kZyx;

constexpr RigJoint kHumanRig[] = {
    {"Hips", 0, -1, {0, 0, 0}, kNone, kNone, kYxz},
    {"LeftUpLeg", 1, 0, {0.069520, -0.091406, -0.006815}, kBack, kNone, kZyx},
    {"LeftLeg", 4, 1, {0.034277, -0.375199, -0.004496}, kNone, kNone, kZyx},
    {"LeftFoot", 7, 2, {-0.013596, -0.397961, -0.043693}, kNone, kNone, kZyx},
    {"LeftToe", 10, 3, {0.026358, -0.055791, 0.119288}, kNone, kToeTip, kZyx},
    {"RightUpLeg", 2, 0, {-0.067670, -0.090522, -0.004320}, kBack, kNone, kZyx},
    {"RightLeg", 5, 5, {-0.038290, -0.382569, -0.008850}, kNone, kNone, kZyx},
    {"RightFoot", 8, 6, {0.015774, -0.398415, -0.042312}, kNone, kNone, kZyx},
    {"RightToe", 11, 7, {-0.025372, -0.048144, 0.123348}, kNone, kToeTip, kZyx},
    {"Spine", 3, 0, {-0.002533, 0.108963, -0.026696}, kNone, kNone, kZyx},
    {"Spine1", 6, 9, {0.005487, 0.135180, 0.001092}, kNone, kNone, kZyx},
    {"Spine2", 9, 10, {0.001457, 0.052922, 0.025425}, kNone, kNone, kZyx},
    {"Neck", 12, 11, {-0.002778, 0.213870, -0.042857}, kNone, kNone, kZyx},
    {"Head", 15, 12, {0.005152, 0.064970, 0.051349}, kNone, {0, 0.12, 0}, kZyx},
    {"LeftShoulder", 13, 11, {0.078845, 0.121749, -0.034090}, kNone, kNone, kZxy},
    {"LeftArm", 16, 14, {0.090977, 0.030469, -0.008868}, kFront, kNone, kZxy},
    {"LeftForeArm", 18, 15, {0.259612, -0.012772, -0.027456}, kNone, kNone, kZxy},
    {"LeftHand", 20, 16, {0.249234, 0.008986, -0.001171}, kNone, {0.085, 0, 0}, kZxy},
    {"RightShoulder", 14, 11, {-0.081759, 0.118833, -0.038615}, kNone, kNone, kZxy},
    {"RightArm", 17, 18, {-0.096012, 0.032551, -0.009143}, kFront, kNone, kZxy},
    {"RightForeArm", 19, 19, {-0.253742, -0.013329, -0.021401}, kNone, kNone, kZxy},
    {"RightHand", 21, 20, {-0.255298, 0.007772, -0.005559}, kNone, {-0.085, 0, 0}, kZxy},
};

// KIT's master motor map (motion_data.md, 7 and 8); only directions and proportions matter here.
constexpr RigJoint kKitRig[] = {
    {"Hips", 0, -1, {0, 0, 0}, kNone, kNone, kYxz},
    {"LeftUpLeg", 16, 0, {0.09, -0.04, 0}, kBack, kNone, kZyx},
    {"LeftLeg", 17, 1, {0, -0.42, 0}, kNone, kNone, kZyx},
    {"LeftFoot", 18, 2, {0, -0.42, 0}, kNone, kNone, kZyx},
    {"LeftToe", 19, 3, {0, -0.04, 0.12}, kNone, kNone, kZyx},
    {"LeftToeBase", 20, 4, {0, 0, 0.05}, kNone, kToeTip, kZyx},
    {"RightUpLeg", 11, 0, {-0.09, -0.04, 0}, kBack, kNone, kZyx},
    {"RightLeg", 12, 6, {0, -0.42, 0}, kNone, kNone, kZyx},
    {"RightFoot", 13, 7, {0, -0.42, 0}, kNone, kNone, kZyx},
    {"RightToe", 14, 8, {0, -0.04, 0.12}, kNone, kNone, kZyx},
    {"RightToeBase", 15, 9, {0, 0, 0.05}, kNone, kToeTip, kZyx},
    {"Spine", 1, 0, {0, 0.1, 0}, kNone, kNone, kZyx},
    {"Spine1", 2, 11, {0, 0.2, 0}, kNone, kNone, kZyx},
    {"Spine2", 3, 12, {0, 0.2, 0}, kNone, kNone, kZyx},
    {"Head", 4, 13, {0, 0.12, 0}, kNone, {0, 0.16, 0}, kZyx},
    {"LeftArm", 8, 13, {0.18, 0, 0}, kFront, kNone, kZxy},
    {"LeftForeArm", 9, 15, {0.28, 0, 0}, kNone, kNone, kZxy},
    {"LeftHand", 10, 16, {0.25, 0, 0}, kNone, {0.085, 0, 0}, kZxy},
    {"RightArm", 5, 13, {-0.18, 0, 0}, kFront, kNone, kZxy},
    {"RightForeArm", 6, 18, {-0.28, 0, 0}, kNone, kNone, kZxy},
    {"RightHand", 7, 19, {-0.25, 0, 0}, kNone, {-0.085, 0, 0}, kZxy},
};

std::vector<std::vector<int>> children_of(std::span<const RigJoint> rig) {
    std::vector<std::vector<int>> children(rig.size());
    for (size_t j = 1; j < rig.size(); ++j) {
        children[static_cast<size_t>(rig[j].parent)].push_back(static_cast<int>(j));
    }
    return children;
}

double dot(Quat a, Quat b) {
    return a.w * b.w + a.x * b.x + a.y * b.y + a.z * b.z;
}
Quat negative(Quat q) {
    return {-q.w, -q.x, -q.y, -q.z};
}

// Unit eigenvector of the largest eigenvalue of a symmetric matrix, by Jacobi's cyclic rotations.
Quat largest_eigenvector(std::array<std::array<double, 4>, 4> a) {
    std::array<std::array<double, 4>, 4> v{};
    for (int i = 0; i < 4; ++i) v[i][i] = 1;
    for (int sweep = 0; sweep < 32; ++sweep) {
        double off = 0;
        double all = 0;
        for (int i = 0; i < 4; ++i) {
            for (int j = 0; j < 4; ++j) (i == j ? all : off) += a[i][j] * a[i][j];
        }
        if (off <= 1e-30 * (all + off)) break;
        for (int p = 0; p < 3; ++p) {
            for (int q = p + 1; q < 4; ++q) {
                if (a[p][q] == 0) continue;
                const double theta = (a[q][q] - a[p][p]) / (2 * a[p][q]);
                const double t = (theta >= 0 ? 1 : -1) / (std::fabs(theta) + std::hypot(theta, 1));
                const double c = 1 / std::hypot(t, 1);
                const double s = t * c;
                for (int k = 0; k < 4; ++k) {
                    const double x = a[k][p];
                    a[k][p] = c * x - s * a[k][q];
                    a[k][q] = s * x + c * a[k][q];
                }
                for (int k = 0; k < 4; ++k) {
                    const double x = a[p][k];
                    a[p][k] = c * x - s * a[q][k];
                    a[q][k] = s * x + c * a[q][k];
                }
                for (int k = 0; k < 4; ++k) {
                    const double x = v[k][p];
                    v[k][p] = c * x - s * v[k][q];
                    v[k][q] = s * x + c * v[k][q];
                }
            }
        }
    }
    int best = 0;
    for (int i = 1; i < 4; ++i) {
        if (a[i][i] > a[best][best]) best = i;
    }
    return normalise(Quat{v[0][best], v[1][best], v[2][best], v[3][best]});
}

// The rotation q that minimises sum |q a_i - b_i|² (Horn 1987). Where the vectors leave it open
// (all along one line, or none), the rotation nearest to `prior`; q is on prior's side of the
// sphere.
Quat best_rotation(std::span<const Vec3> a, std::span<const Vec3> b, Quat prior) {
    double s[3][3] = {};
    double size = 0;
    for (size_t i = 0; i < a.size(); ++i) {
        const double u[3] = {a[i].x, a[i].y, a[i].z};
        const double v[3] = {b[i].x, b[i].y, b[i].z};
        for (int r = 0; r < 3; ++r) {
            for (int c = 0; c < 3; ++c) s[r][c] += u[r] * v[c];
        }
        size += length(a[i]) * length(b[i]);
    }
    if (!(size > 0)) return prior;
    std::array<std::array<double, 4>, 4> n{};
    n[0] = {s[0][0] + s[1][1] + s[2][2], s[1][2] - s[2][1], s[2][0] - s[0][2], s[0][1] - s[1][0]};
    n[1] = {n[0][1], s[0][0] - s[1][1] - s[2][2], s[0][1] + s[1][0], s[2][0] + s[0][2]};
    n[2] = {n[0][2], n[1][2], s[1][1] - s[0][0] - s[2][2], s[1][2] + s[2][1]};
    n[3] = {n[0][3], n[1][3], n[2][3], s[2][2] - s[0][0] - s[1][1]};
    const double p[4] = {prior.w, prior.x, prior.y, prior.z};
    for (int r = 0; r < 4; ++r) {
        for (int c = 0; c < 4; ++c) n[r][c] += 1e-9 * size * p[r] * p[c];
    }
    const Quat q = largest_eigenvector(n);
    return dot(q, prior) < 0 ? negative(q) : q;
}

void check(const JointSequence& joints) {
    rig_for_joints(joints.joints);
    if (joints.frames < 1 ||
        static_cast<int64_t>(joints.xyz.size()) != joints.frames * joints.joints * 3) {
        throw Error(
            fmt::format("joints: got {} numbers for {} frames of {} joints; want frames x "
                        "joints x 3, one frame at least",
                        joints.xyz.size(), joints.frames, joints.joints));
    }
    if (!(joints.fps > 0)) throw Error(fmt::format("joints: {} frames a second", joints.fps));
    for (size_t i = 0; i < joints.xyz.size(); ++i) {
        if (!std::isfinite(joints.xyz[i])) {
            throw Error(fmt::format("joints: frame {}, joint {} is not finite",
                                    static_cast<int64_t>(i) / (joints.joints * 3),
                                    static_cast<int64_t>(i) / 3 % joints.joints));
        }
    }
}

// The fit, joint by joint from the root outwards and over all frames before the next, because twist
// is decided along time.
class Fit {
  public:
    explicit Fit(const JointSequence& joints)
        : joints_(joints), rig_(rig_for_joints(joints.joints)), children_(children_of(rig_)) {
        out_.rig = rig_;
        out_.frames = joints.frames;
        out_.fps = joints.fps;
        const size_t cells = static_cast<size_t>(joints.frames) * rig_.size();
        position_.resize(cells);
        global_.resize(cells);
    }

    RigMotion run() {
        measure();
        for (int j = 0; j < count(); ++j) {
            if (children(j).size() > 1) fit_shape(j);
        }
        for (int j = 0; j < count(); ++j) {
            place(j);
            if (children(j).size() == 1) {
                aim(j);
            } else if (children(j).empty()) {
                for (int64_t t = 0; t < out_.frames; ++t) global(t, j) = global(t, rig_[j].parent);
            }
        }
        out_.local.resize(global_.size());
        for (int64_t t = 0; t < out_.frames; ++t) {
            for (int j = 0; j < count(); ++j) {
                const int parent = rig_[j].parent;
                Quat q = global(t, j);
                if (parent >= 0) q = conjugate(global(t, parent)) * q;
                q = normalise(q);
                const Quat before = t > 0 ? out_.rotation(t - 1, j) : Quat{};
                out_.local[cell(t, j)] = dot(q, before) < 0 ? negative(q) : q;
            }
        }
        return std::move(out_);
    }

  private:
    int count() const { return static_cast<int>(rig_.size()); }
    const std::vector<int>& children(int j) const { return children_[static_cast<size_t>(j)]; }
    size_t cell(int64_t t, int j) const { return static_cast<size_t>(t) * rig_.size() + j; }
    Quat& global(int64_t t, int j) { return global_[cell(t, j)]; }
    Vec3& position(int64_t t, int j) { return position_[cell(t, j)]; }
    Vec3 target(int64_t t, int j) const {
        const float* p = joints_.at(t, rig_[static_cast<size_t>(j)].source);
        return {p[0], p[1], p[2]};
    }
    Vec3 bone(int64_t t, int j) const { return target(t, j) - target(t, rig_[j].parent); }

    // Offsets: rest directions with the mean lengths of the clip.
    void measure() {
        out_.offsets.resize(rig_.size());
        out_.ends.resize(rig_.size());
        out_.root.resize(static_cast<size_t>(out_.frames));
        double clip = 0;
        double model = 0;
        for (int j = 1; j < count(); ++j) {
            double sum = 0;
            for (int64_t t = 0; t < out_.frames; ++t) sum += length(bone(t, j));
            sum /= static_cast<double>(out_.frames);
            out_.offsets[j] = sum * normalise(rig_[j].rest);
            clip += sum;
            model += length(rig_[j].rest);
        }
        for (int j = 0; j < count(); ++j) out_.ends[j] = (clip / model) * rig_[j].end;
    }

    // A joint with several children: finds the mean shape of their offsets (a generalised
    // Procrustes mean) in the orientation nearest to the rest pose, and the rotation of that shape
    // in every frame.
    void fit_shape(int j) {
        const std::vector<int>& kids = children(j);
        const size_t n = kids.size();
        std::vector<Vec3> rest(n), shape(n), seen(n), mean(n);
        for (size_t c = 0; c < n; ++c) shape[c] = rest[c] = out_.offsets[kids[c]];
        for (int round = 0; round <= kShapeRounds; ++round) {
            std::fill(mean.begin(), mean.end(), Vec3{});
            Quat before;
            for (int64_t t = 0; t < out_.frames; ++t) {
                for (size_t c = 0; c < n; ++c) seen[c] = bone(t, kids[c]);
                before = global(t, j) = best_rotation(shape, seen, before);
                for (size_t c = 0; c < n; ++c) mean[c] += rotate(conjugate(before), seen[c]);
            }
            if (round == kShapeRounds) break;
            const Quat upright = best_rotation(mean, rest, Quat{});
            for (size_t c = 0; c < n; ++c) {
                const Vec3 direction = normalise(rotate(upright, mean[c]));
                if (length(direction) > 0) shape[c] = length(rest[c]) * direction;
            }
        }
        for (size_t c = 0; c < n; ++c) out_.offsets[kids[c]] = shape[c];
    }

    void place(int j) {
        const int parent = rig_[j].parent;
        for (int64_t t = 0; t < out_.frames; ++t) {
            if (parent < 0) {
                position(t, j) = out_.root[static_cast<size_t>(t)] = target(t, j);
            } else {
                position(t, j) = position(t, parent) + rotate(global(t, parent), out_.offsets[j]);
            }
        }
    }

    // The rotation a joint would have if its bone needed none of its own: its parent's, or for a
    // joint between pelvis and chest, a share of the turn between the two.
    Quat reference(int64_t t, int j) {
        const int parent = rig_[j].parent;
        int steps = 1;
        int chest = j;
        while (children(chest).size() == 1) {
            chest = children(chest)[0];
            ++steps;
        }
        if (parent < 0 || children(chest).size() < 2)
            return parent < 0 ? Quat{} : global(t, parent);
        return slerp(global(t, parent), global(t, chest), 1.0 / steps);
    }

    // A joint with one child.
    void aim(int j) {
        const int child = children(j)[0];
        const Vec3 rest = out_.offsets[child];
        const bool limb = length(rig_[j].flex) > 0;
        const std::vector<Vec3> goals = limb ? bends(j, child) : std::vector<Vec3>{};
        std::vector<Vec3> direction(static_cast<size_t>(out_.frames));  // (frames), unit
        for (int64_t t = 0; t < out_.frames; ++t) {
            const Quat from = reference(t, j);
            const Vec3 carried = rotate(from, rest);
            Vec3 wanted =
                (limb ? goals[static_cast<size_t>(t)] : target(t, child)) - position(t, j);
            if (length(wanted) < 1e-3 * length(rest) || length(rest) < 1e-9) wanted = carried;
            global(t, j) = length(carried) > 0 ? normalise(between(carried, wanted) * from) : from;
            direction[static_cast<size_t>(t)] = normalise(wanted);
        }
        if (limb) untwist(j, child, direction);
    }

    // Where elbows or knees of the rig's bone lengths must be for wrists or ankles to come near
    // their targets. A limb bends to the side to which the clip's bends. Where the rig's must bend
    // and the clip's hardly does, the bends around in time and the way such a joint goes tell the
    // side.
    std::vector<Vec3> bends(int j, int child) {
        const int lower = children(child)[0];
        const double upper_length = length(out_.offsets[child]);
        const double lower_length = length(out_.offsets[lower]);
        const size_t n = static_cast<size_t>(out_.frames);
        std::vector<Vec3> along(n), aside(n), places(n);  // aside: of the clip's joint, metres
        for (size_t i = 0; i < n; ++i) {
            const int64_t t = static_cast<int64_t>(i);
            const Vec3 way = target(t, child) - position(t, j);
            along[i] = normalise(target(t, lower) - position(t, j));
            aside[i] = way - dot(way, along[i]) * along[i];
        }
        for (size_t i = 0; i < n; ++i) {
            const int64_t t = static_cast<int64_t>(i);
            const TwoBone limb = compromise(length(target(t, lower) - position(t, j)),
                                            length(aside[i]), upper_length, lower_length);
            const double share = std::min(length(aside[i]) / (kSure * limb.aside + 1e-12), 1.0);
            const double sure = share * share * (3 - 2 * share);
            Vec3 side = normalise(aside[i]);
            if (sure < 1) {
                const Quat from = reference(t, j);
                const Quat swing = between(rotate(from, out_.offsets[child]), along[i]) * from;
                Vec3 guess = rotate(swing, (-0.02 * upper_length) * rig_[j].flex);
                for (size_t k = i - std::min(i, kAround); k <= std::min(i + kAround, n - 1); ++k) {
                    const double apart = std::fabs(static_cast<double>(k) - static_cast<double>(i));
                    guess += (1 - apart / (kAround + 1)) * aside[k];
                }
                guess -= dot(guess, along[i]) * along[i];
                side = normalise(sure * side + (1 - sure) * normalise(guess));
            }
            places[i] = length(along[i]) > 0
                            ? position(t, j) + limb.along * along[i] + limb.aside * side
                            : target(t, child);
        }
        return places;
    }

    // The bend that minimises (reach - distance)² + kBend (aside - that of the clip)². The end
    // alone would decide with kBend 0; but near a straight limb a little way of the end is much of
    // the middle, and where the rig's bones are the longer or the shorter ones it would snap.
    static TwoBone compromise(double distance, double bent, double upper, double lower) {
        const auto cost = [&](double reach) {
            const TwoBone limb = two_bone(reach, upper, lower);
            const double a = limb.reach - distance, b = limb.aside - bent;
            return a * a + kBend * b * b;
        };
        // Golden section between folded and straight.
        constexpr double kGolden = 0.6180339887498949;
        double low = std::fabs(upper - lower), high = upper + lower;
        double left = high - kGolden * (high - low), right = low + kGolden * (high - low);
        double cost_left = cost(left), cost_right = cost(right);
        for (int step = 0; step < 60; ++step) {
            if (cost_left <= cost_right) {
                high = right;
                right = left;
                cost_right = cost_left;
                cost_left = cost(left = high - kGolden * (high - low));
            } else {
                low = left;
                left = right;
                cost_left = cost_right;
                cost_right = cost(right = low + kGolden * (high - low));
            }
        }
        return two_bone(0.5 * (low + high), upper, lower);
    }

    // Turns an upper arm or thigh about itself so that the joint below moves from its rest pose as
    // a hinge: the lower bone keeps the share of its direction that it has along the hinge at rest.
    void untwist(int j, int child, const std::vector<Vec3>& direction) {
        const int lower = children(child)[0];
        const Vec3 hinge = normalise(cross(out_.offsets[child], rig_[j].flex));
        const double along = dot(hinge, normalise(out_.offsets[lower]));
        const size_t n = direction.size();
        std::vector<double> angle(n, 0.0);   // twist that makes it a hinge
        std::vector<double> weight(n, 0.0);  // how far the bend shows it, 0 to 1
        double known = 0;
        for (size_t i = 0; i < n; ++i) {
            const int64_t t = static_cast<int64_t>(i);
            const Vec3 u = direction[i];
            const Vec3 knee = position(t, j) + length(out_.offsets[child]) * u;
            const Vec3 v = normalise(target(t, lower) - knee);
            const Vec3 aside = v - dot(u, v) * u;
            const double flexed = std::sqrt(std::max(0.0, dot(aside, aside) - along * along));
            const double bend = std::atan2(flexed, dot(u, v));
            const double x = std::clamp((bend - kStraight) / (kBent - kStraight), 0.0, 1.0);
            // A limb folded flat shows its plane as badly as a straight one.
            const double fold = std::clamp((M_PI - bend) / kStraight, 0.0, 1.0);
            weight[i] = x * x * (3 - 2 * x) * fold;
            if (weight[i] <= 0) continue;
            const Vec3 now = rotate(global(t, j), hinge);
            const double raw =
                std::atan2(dot(cross(now, aside), u), dot(now, aside)) + std::atan2(flexed, along);
            angle[i] = raw + 2 * M_PI * std::round((known - raw) / (2 * M_PI));
            if (weight[i] > 0.3) known = angle[i];
        }
        const std::vector<double> twist = smooth_track(angle, weight);
        for (size_t i = 0; i < n; ++i) {
            const int64_t t = static_cast<int64_t>(i);
            if (length(direction[i]) > 0) {
                global(t, j) = normalise(axis_angle(direction[i], twist[i]) * global(t, j));
            }
        }
    }

    using Vec = std::vector<double>;
    // The x that minimises sum w (x - a)² + kStiff (x_t - x_{t-1})² + kHome x²: tridiagonal,
    // Thomas.
    static Vec smooth_track(const Vec& a, const Vec& w) {
        const size_t n = a.size();
        Vec upper(n, 0.0), x(n, 0.0);
        double previous = 0;
        for (size_t i = 0; i < n; ++i) {
            const double left = i > 0 ? kStiff : 0.0;
            const double right = i + 1 < n ? kStiff : 0.0;
            const double diagonal = w[i] + kHome + left + right - left * previous;
            previous = upper[i] = right / diagonal;
            x[i] = (w[i] * a[i] + left * (i > 0 ? x[i - 1] : 0.0)) / diagonal;
        }
        for (size_t i = n; i-- > 1;) x[i - 1] += upper[i - 1] * x[i];
        return x;
    }

    static constexpr int kShapeRounds = 4;
    static constexpr double kBend = 0.1;  // what the middle joint of a limb counts beside its end
    static constexpr double kSure =
        0.7;  // part of a bend that the clip's must have to show its side
    static constexpr size_t kAround = 5;  // frames before and after that help where it does not
    static constexpr double kStraight = 6 * M_PI / 180;  // bend that shows no plane yet
    static constexpr double kBent = 25 * M_PI / 180;     // bend that shows it well
    static constexpr double kStiff =
        0.25;                              // a gap of straight frames is bridged, and forgotten ...
    static constexpr double kHome = 1e-3;  // ... after sqrt(kStiff / kHome) = 16 frames

    const JointSequence& joints_;
    std::span<const RigJoint> rig_;
    std::vector<std::vector<int>> children_;
    RigMotion out_;
    std::vector<Vec3> position_;  // (frames, J), by forward kinematics
    std::vector<Quat> global_;    // (frames, J)
};

// Globals of one frame by forward kinematics.
void place_frame(const RigMotion& motion, int64_t t, std::vector<Vec3>& p, std::vector<Quat>& g) {
    for (size_t j = 0; j < motion.rig.size(); ++j) {
        const int parent = motion.rig[j].parent;
        const Quat& local = motion.rotation(t, static_cast<int64_t>(j));
        if (parent < 0) {
            p[j] = motion.root[static_cast<size_t>(t)];
            g[j] = local;
        } else {
            p[j] = p[static_cast<size_t>(parent)] +
                   rotate(g[static_cast<size_t>(parent)], motion.offsets[j]);
            g[j] = normalise(g[static_cast<size_t>(parent)] * local);
        }
    }
}

}  // namespace

std::span<const RigJoint> rig_for_joints(int64_t joints) {
    if (joints == 22) return kHumanRig;
    if (joints == 21) return kKitRig;
    throw Error(
        fmt::format("joints: got {} joints a frame, want 22 (HumanML3D) or 21 (KIT)", joints));
}

RigMotion fit_rig(const JointSequence& joints) {
    check(joints);
    return Fit(joints).run();
}

RigMotion fit_template_rig(const JointSequence& joints, int iterations) {
    check(joints);
    if (joints.joints != 22) throw Error("joints: the template has 22 joints; use fit_rig");
    RigMotion out;
    out.rig = rig_for_joints(joints.joints);
    out.frames = joints.frames;
    out.fps = joints.fps;
    const size_t n = out.rig.size();
    for (const RigJoint& joint : out.rig) {
        out.offsets.push_back(joint.rest);
        out.ends.push_back(joint.end);
    }
    out.root.resize(static_cast<size_t>(out.frames));
    out.local.resize(static_cast<size_t>(out.frames) * n);
    const auto children = children_of(out.rig);
    std::vector<Vec3> p(n);
    std::vector<Quat> g(n);
    for (int64_t t = 0; t < out.frames; ++t) {
        const auto target = [&](int j) {
            const float* x = joints.at(t, out.rig[static_cast<size_t>(j)].source);
            return Vec3{x[0], x[1], x[2]};
        };
        out.root[static_cast<size_t>(t)] = target(0);
        for (int round = 0; round < iterations; ++round) {
            for (size_t j = 0; j < n; ++j) {
                if (children[j].empty()) continue;
                place_frame(out, t, p, g);
                Vec3 turn;
                for (int c : children[j]) {
                    const Vec3 u = normalise(p[static_cast<size_t>(c)] - p[j]);
                    const Vec3 v = normalise(target(c) - p[j]);
                    turn += log(between(u, v));
                }
                turn = rotate(conjugate(g[j]), turn / static_cast<double>(children[j].size()));
                Quat& local = out.local[static_cast<size_t>(t) * n + j];
                local = normalise(local * exp(turn));
            }
        }
        for (size_t j = 0; t > 0 && j < n; ++j) {
            Quat& local = out.local[static_cast<size_t>(t) * n + j];
            if (dot(local, out.rotation(t - 1, static_cast<int64_t>(j))) < 0)
                local = negative(local);
        }
    }
    return out;
}

RigMotion scaled(RigMotion motion, double factor) {
    for (std::vector<Vec3>* lengths : {&motion.offsets, &motion.ends, &motion.root})
        for (Vec3& v : *lengths) v = factor * v;
    return motion;
}

RigMotion fit_rig_in_metres(const JointSequence& joints) {
    return scaled(fit_rig(joints), skeleton_for_joints(joints.joints).millimetres / 1000);
}

JointSequence rig_joints(const RigMotion& motion) {
    JointSequence out;
    out.frames = motion.frames;
    out.joints = motion.joints();
    out.fps = motion.fps;
    out.xyz.resize(static_cast<size_t>(out.frames * out.joints * 3));
    std::vector<Vec3> p(motion.rig.size());
    std::vector<Quat> g(motion.rig.size());
    for (int64_t t = 0; t < out.frames; ++t) {
        place_frame(motion, t, p, g);
        for (size_t j = 0; j < p.size(); ++j) {
            float* x = out.at(t, motion.rig[j].source);
            x[0] = static_cast<float>(p[j].x);
            x[1] = static_cast<float>(p[j].y);
            x[2] = static_cast<float>(p[j].z);
        }
    }
    return out;
}

}  // namespace mc::motion
