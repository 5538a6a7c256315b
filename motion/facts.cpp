#include "motion/facts.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <numbers>

#include "kernels/error.h"
#include "motion/features.h"
#include "motion/signal.h"
#include "motion/skeleton.h"

namespace mc::motion {
namespace {

// HumanML3D's joints by name (motion_data.md 7). Pairs are {left, right}.
constexpr int kPelvis = 0, kNeck = 12, kHead = 15;
constexpr std::array<int, 2> kHip{1, 2}, kKnee{4, 5}, kAnkle{7, 8}, kToe{10, 11}, kShoulder{16, 17},
    kElbow{18, 19}, kWrist{20, 21};
constexpr std::array<const char*, 2> kSide{"left", "right"};

constexpr double kDegrees = 180 / std::numbers::pi;
// The lowest foot joint of a standing person is a toe, about 2 cm above the floor of the clip;
// running feet pass at 5 to 10 cm.
constexpr double kAirHeight = 0.06;     // m, both feet above their ground by this: airborne
constexpr double kLongestFlight = 1.2;  // s; longer is standing on something
constexpr double kTurnHysteresis = 25;  // degrees; smaller swings of the heading are sway
constexpr double kLowPelvis = 0.75;     // of the standing height
constexpr double kLyingHead = 0.35;     // of the standing height of the head
constexpr double kStillSpeed = 0.15;    // m/s, mean over all joints
constexpr double kRaisedFoot = 0.10;    // m above the other foot: standing on that one
constexpr double kSwingSpeed = 0.6;     // m/s, an ankle that is faster swings
constexpr double kRestSpeed = 0.35;     // m/s, an ankle that is slower has landed
constexpr double kShortestStep = 0.15;  // m
constexpr double kBentArm = 0.75;       // of the arm's length: ready to punch
constexpr double kStretchedArm = 0.88;  // of the arm's length: punched
constexpr double kLongestPunch = 0.45;  // s from bent to stretched

// One clip with what several facts need.
struct Clip {
    int64_t frames = 0;
    double fps = 20;
    std::vector<Vec3> points;    // (frames, 22)
    std::vector<double> yaw;     // (frames), radians, unwrapped, positive to the left
    std::vector<Vec3> root;      // (frames), pelvis filtered over a quarter of a second
    std::vector<double> lowest;  // (frames), height of the lowest foot joint
    double ground = 0;           // of the feet
    double standing_pelvis = 0, standing_head = 0;  // m above the floor
    std::array<double, 2> arm{};                    // m, {left, right} shoulder to wrist

    Vec3 at(int64_t t, int joint) const { return points[static_cast<size_t>(t * 22 + joint)]; }
    double height(int64_t t, int joint) const { return at(t, joint).y; }
    Vec3 forward(int64_t t) const {
        const double a = yaw[static_cast<size_t>(t)];
        return {std::sin(a), 0, std::cos(a)};
    }
    Vec3 left(int64_t t) const {
        const Vec3 f = forward(t);
        return {f.z, 0, -f.x};
    }
    double seconds(int64_t count) const { return static_cast<double>(count) / fps; }
    // Frames in so many seconds, at least one.
    int64_t count(double seconds) const { return std::max<int64_t>(1, std::lround(seconds * fps)); }

    std::vector<double> series(const std::function<double(int64_t)>& value) const {
        std::vector<double> out(static_cast<size_t>(frames));
        for (int64_t t = 0; t < frames; ++t) out[static_cast<size_t>(t)] = value(t);
        return out;
    }
};

double flat_length(Vec3 v) {
    return std::hypot(v.x, v.z);
}

Clip prepare(const JointSequence& joints) {
    Clip c;
    c.frames = joints.frames;
    c.fps = joints.fps;
    c.points.resize(static_cast<size_t>(c.frames * 22));
    for (size_t i = 0; i < c.points.size(); ++i)
        c.points[i] = {joints.xyz[3 * i], joints.xyz[3 * i + 1], joints.xyz[3 * i + 2]};

    auto bone = [&](int a, int b) { return length(c.at(0, a) - c.at(0, b)); };
    double leg = 0;
    for (int s = 0; s < 2; ++s) {
        leg += 0.5 * (bone(kHip[s], kKnee[s]) + bone(kKnee[s], kAnkle[s]));
        c.arm[s] = bone(kShoulder[s], kElbow[s]) + bone(kElbow[s], kWrist[s]);
    }
    // Medians of captured standing frames on the HumanML3D skeleton: pelvis 1.13 legs, head 0.95 of
    // the stretched spine above it.
    c.standing_pelvis = 1.13 * leg;
    c.standing_head = c.standing_pelvis +
                      0.95 * (bone(0, 3) + bone(3, 6) + bone(6, 9) + bone(9, 12) + bone(12, 15));

    // Heading. Frames whose across vector stands upright (a cartwheel) keep the last one.
    std::vector<double> across_x(static_cast<size_t>(c.frames)), across_z(across_x);
    Vec3 last{1, 0, 0};
    for (int64_t t = 0; t < c.frames; ++t) {
        Vec3 a =
            c.at(t, kHip[0]) - c.at(t, kHip[1]) + c.at(t, kShoulder[0]) - c.at(t, kShoulder[1]);
        if (flat_length(a) > 0.3 * length(a)) last = a / flat_length(a);
        across_x[static_cast<size_t>(t)] = last.x;
        across_z[static_cast<size_t>(t)] = last.z;
    }
    const int64_t window = c.count(0.5) / 2;
    const std::vector<double> x = box_filter(across_x, window), z = box_filter(across_z, window);
    c.yaw.resize(x.size());
    for (size_t t = 0; t < x.size(); ++t) c.yaw[t] = std::atan2(-z[t], x[t]);
    unwrap(c.yaw, 2 * std::numbers::pi);

    std::array<std::vector<double>, 3> root;
    for (int d = 0; d < 3; ++d)
        root[d] = box_filter(c.series([&](int64_t t) {
            const Vec3 p = c.at(t, kPelvis);
            return d == 0 ? p.x : d == 1 ? p.y : p.z;
        }),
                             c.count(0.25) / 2);
    for (size_t t = 0; t < root[0].size(); ++t)
        c.root.push_back({root[0][t], root[1][t], root[2][t]});

    c.lowest = c.series([&](int64_t t) {
        return std::min(std::min(c.height(t, kAnkle[0]), c.height(t, kAnkle[1])),
                        std::min(c.height(t, kToe[0]), c.height(t, kToe[1])));
    });
    c.ground = quantile(c.lowest, 0.1);
    return c;
}

// Collects facts in order.
struct Sheet {
    std::vector<FactInfo> infos;
    MotionFacts facts;

    void add(const std::string& name, const char* unit, double value, const std::string& meaning) {
        infos.push_back({name, unit, meaning});
        facts.values[name] = value;
    }
};

void measure_path(const Clip& c, Sheet& out) {
    const Vec3 moved = c.root.back() - c.root.front();
    std::vector<double> speed;
    double path = 0, forward = 0, backward = 0, left = 0, right = 0;
    for (int64_t t = 1; t < c.frames; ++t) {
        const Vec3 step = c.root[static_cast<size_t>(t)] - c.root[static_cast<size_t>(t - 1)];
        const double ahead = dot(step, c.forward(t)), aside = dot(step, c.left(t));
        path += flat_length(step);
        (ahead > 0 ? forward : backward) += std::abs(ahead);
        (aside > 0 ? left : right) += std::abs(aside);
        speed.push_back(flat_length(step) * c.fps);
    }
    const int64_t ends = std::min<int64_t>(c.count(0.5), c.frames - 1);
    out.add("duration", "s", c.seconds(c.frames), "length of the motion");
    out.add("forward", "m", dot(moved, c.forward(0)), "net way of the pelvis ahead");
    out.add("left", "m", dot(moved, c.left(0)), "net way of the pelvis to the left");
    out.add("distance", "m", flat_length(moved), "net way of the pelvis, any direction");
    out.add("path", "m", path, "length of the way of the pelvis over the floor");
    out.add("forward_path", "m", forward, "way ahead of the body at each moment");
    out.add("backward_path", "m", backward, "way backward of the body at each moment");
    out.add("left_path", "m", left, "way to the left of the body at each moment");
    out.add("right_path", "m", right, "way to the right of the body at each moment");
    out.add("speed_mean", "m/s", path / c.seconds(c.frames - 1), "of the pelvis over the floor");
    out.add("speed_max", "m/s", *std::max_element(speed.begin(), speed.end()),
            "of the pelvis over the floor");
    out.add("speed_end", "m/s", mean(std::span(speed).last(static_cast<size_t>(ends))),
            "of the pelvis in the last half second");
}

void measure_turns(const Clip& c, Sheet& out) {
    std::vector<double> degrees = c.yaw;
    for (double& d : degrees) d *= kDegrees;
    double left = 0, right = 0;
    const std::vector<double> turning = turning_points(degrees, kTurnHysteresis);
    for (size_t i = 1; i < turning.size(); ++i)
        (turning[i] > turning[i - 1] ? left : right) += std::abs(turning[i] - turning[i - 1]);
    const double net = degrees.back() - degrees.front();
    out.add("turn", "deg", net, "net change of heading, positive to the left");
    out.add("turn_abs", "deg", std::abs(net), "net change of heading, either way");
    out.add("turn_left", "deg", left, "sum of all turns to the left");
    out.add("turn_right", "deg", right, "sum of all turns to the right");
    out.add("turn_total", "deg", left + right, "sum of all turns");
}

void measure_feet(const Clip& c, Sheet& out) {
    int64_t flights = 0, air_frames = 0;
    double highest = 0;
    for (const Run& run : runs(c.series([&](int64_t t) {
             return c.lowest[static_cast<size_t>(t)] > c.ground + kAirHeight ? 1.0 : 0.0;
         }))) {
        if (run.count < 2 || c.seconds(run.count) > kLongestFlight) continue;
        ++flights;
        air_frames += run.count;
        for (int64_t t = run.first; t < run.first + run.count; ++t)
            highest = std::max(highest, c.lowest[static_cast<size_t>(t)] - c.ground);
    }
    out.add("airborne", "count", static_cast<double>(flights), "times both feet leave the floor");
    out.add("air_share", "share", static_cast<double>(air_frames) / static_cast<double>(c.frames),
            "part of the time with both feet off the floor");
    out.add("air_height", "m", highest, "greatest height of the lower foot while airborne");

    const int64_t ends = std::min<int64_t>(c.count(0.25), c.frames);
    const std::span<const double> lowest(c.lowest);
    out.add("ground_rise", "m",
            mean(lowest.last(static_cast<size_t>(ends))) -
                mean(lowest.first(static_cast<size_t>(ends))),
            "how much higher the lower foot is at the end than at the start: stairs");

    double total = 0;
    for (int s = 0; s < 2; ++s) {
        std::vector<double> x =
            box_filter(c.series([&](int64_t t) { return c.at(t, kAnkle[s]).x; }), 1);
        std::vector<double> z =
            box_filter(c.series([&](int64_t t) { return c.at(t, kAnkle[s]).z; }), 1);
        bool swinging = false;
        double from_x = x[0], from_z = z[0];
        int64_t steps = 0;
        for (size_t t = 1; t < x.size(); ++t) {
            const double speed = std::hypot(x[t] - x[t - 1], z[t] - z[t - 1]) * c.fps;
            const bool last = t + 1 == x.size();
            if (!swinging && speed > kSwingSpeed) {
                swinging = true;
                from_x = x[t - 1], from_z = z[t - 1];
            }
            if (swinging && (speed < kRestSpeed || last)) {
                swinging = false;
                if (std::hypot(x[t] - from_x, z[t] - from_z) >= kShortestStep) ++steps;
            }
        }
        out.add(fmt::format("{}_steps", kSide[s]), "count", static_cast<double>(steps),
                fmt::format("steps of the {} foot", kSide[s]));
        total += static_cast<double>(steps);
    }
    out.add("steps", "count", total, "steps of both feet");
    out.add("cadence", "count/s", total / c.seconds(c.frames), "steps a second");

    for (int s = 0; s < 2; ++s) {
        const int o = 1 - s;
        auto foot = [&](int64_t t, int side) {
            return std::min(c.height(t, kAnkle[side]), c.height(t, kToe[side]));
        };
        int64_t longest = 0;
        for (const Run& run : runs(c.series(
                 [&](int64_t t) { return foot(t, o) - foot(t, s) > kRaisedFoot ? 1.0 : 0.0; })))
            longest = std::max(longest, run.count);
        out.add(fmt::format("{}_stand", kSide[s]), "s", c.seconds(longest),
                fmt::format("longest time on the {} foot with the other one raised", kSide[s]));
    }
    for (int s = 0; s < 2; ++s) {
        const auto lift = c.series(
            [&](int64_t t) { return c.height(t, kAnkle[s]) - c.height(t, kAnkle[1 - s]); });
        out.add(fmt::format("{}_kick", kSide[s]), "m", *std::max_element(lift.begin(), lift.end()),
                fmt::format("greatest height of the {} ankle above the other ankle", kSide[s]));
        const auto reach = c.series(
            [&](int64_t t) { return dot(c.at(t, kAnkle[s]) - c.at(t, kPelvis), c.forward(t)); });
        out.add(fmt::format("{}_foot_ahead", kSide[s]), "m",
                *std::max_element(reach.begin(), reach.end()),
                fmt::format("how far the {} ankle gets in front of the pelvis", kSide[s]));
        const auto speed = c.series([&](int64_t t) {
            return t == 0 ? 0.0 : length(c.at(t, kAnkle[s]) - c.at(t - 1, kAnkle[s])) * c.fps;
        });
        out.add(fmt::format("{}_foot_speed", kSide[s]), "m/s",
                *std::max_element(speed.begin(), speed.end()),
                fmt::format("greatest speed of the {} ankle", kSide[s]));
        const auto knee =
            c.series([&](int64_t t) { return c.height(t, kKnee[s]) - c.height(t, kHip[s]); });
        out.add(fmt::format("{}_knee_raise", kSide[s]), "m",
                *std::max_element(knee.begin(), knee.end()),
                fmt::format("greatest height of the {} knee above the hip (negative: below)",
                            kSide[s]));
    }
    const auto apart =
        c.series([&](int64_t t) { return flat_length(c.at(t, kAnkle[0]) - c.at(t, kAnkle[1])); });
    out.add("feet_apart", "m", *std::max_element(apart.begin(), apart.end()),
            "greatest distance of the ankles over the floor");
    double over = -std::numeric_limits<double>::infinity();
    for (int64_t t = 0; t < c.frames; ++t)
        for (int s = 0; s < 2; ++s)
            over = std::max(over, c.height(t, kAnkle[s]) - c.height(t, kHead));
    out.add("foot_over_head", "m", over, "greatest height of an ankle above the head: cartwheels");
}

void measure_body(const Clip& c, Sheet& out) {
    const int64_t ends = std::min<int64_t>(c.count(0.25), c.frames);
    const auto pelvis =
        c.series([&](int64_t t) { return c.height(t, kPelvis) / c.standing_pelvis; });
    const auto head = c.series([&](int64_t t) { return c.height(t, kHead) / c.standing_head; });
    auto share = [&](const std::function<bool(int64_t)>& is) {
        return mean(c.series([&](int64_t t) { return is(t) ? 1.0 : 0.0; }));
    };
    auto height_facts = [&](const std::string& name, const std::vector<double>& h) {
        const std::string of = fmt::format("height of the {} over that of standing, ", name);
        const std::span<const double> all(h);
        out.add(name + "_min", "ratio", *std::min_element(h.begin(), h.end()), of + "lowest");
        out.add(name + "_max", "ratio", *std::max_element(h.begin(), h.end()), of + "highest");
        out.add(name + "_mean", "ratio", mean(h), of + "mean");
        out.add(name + "_start", "ratio", mean(all.first(static_cast<size_t>(ends))),
                of + "first quarter second");
        out.add(name + "_end", "ratio", mean(all.last(static_cast<size_t>(ends))),
                of + "last quarter second");
    };
    height_facts("pelvis", pelvis);
    height_facts("head", head);
    out.add("low_share", "share",
            share([&](int64_t t) { return pelvis[static_cast<size_t>(t)] < kLowPelvis; }),
            "part of the time with the pelvis below three quarters of its standing height");
    out.add("lying_share", "share",
            share([&](int64_t t) { return head[static_cast<size_t>(t)] < kLyingHead; }),
            "part of the time with the head near the floor");

    const auto thighs = c.series([&](int64_t t) {
        return std::min(c.height(t, kKnee[0]) - c.height(t, kHip[0]),
                        c.height(t, kKnee[1]) - c.height(t, kHip[1]));
    });
    out.add("knees_start", "m", mean(std::span(thighs).first(static_cast<size_t>(ends))),
            "height of the lower knee above its hip, first quarter second: near 0 if seated");
    out.add("knees_end", "m", mean(std::span(thighs).last(static_cast<size_t>(ends))),
            "height of the lower knee above its hip, last quarter second: near 0 if seated");

    const auto bend = c.series([&](int64_t t) {
        const Vec3 torso = c.at(t, kNeck) - c.at(t, kPelvis);
        return kDegrees * std::atan2(dot(torso, c.forward(t)), torso.y);
    });
    out.add("bend_max", "deg", *std::max_element(bend.begin(), bend.end()),
            "greatest forward lean of the trunk");
    out.add("bend_back", "deg", -*std::min_element(bend.begin(), bend.end()),
            "greatest backward lean of the trunk");
    out.add("bend_mean", "deg", mean(bend), "mean forward lean of the trunk");

    const auto moving = c.series([&](int64_t t) {
        if (t == 0) return 0.0;
        double sum = 0;
        for (int j = 0; j < 22; ++j) sum += length(c.at(t, j) - c.at(t - 1, j));
        return sum / 22 * c.fps;
    });
    const std::span<const double> moved = std::span(moving).subspan(1);
    out.add("movement", "m/s", mean(moved), "mean speed of all joints");
    out.add("still_share", "share", mean(c.series([&](int64_t t) {
                return moving[static_cast<size_t>(std::max<int64_t>(t, 1))] < kStillSpeed ? 1.0
                                                                                          : 0.0;
            })),
            "part of the time with hardly any movement");

    out.add("pelvis_dips", "count", static_cast<double>(count_cycles(pelvis, -0.15)),
            "times the pelvis goes down by 15 % of its standing height and up again");
}

void measure_arms(const Clip& c, Sheet& out) {
    std::array<std::vector<double>, 2> over_head;
    for (int s = 0; s < 2; ++s) {
        const std::string side = kSide[s];
        over_head[s] =
            c.series([&](int64_t t) { return c.height(t, kWrist[s]) - c.height(t, kHead); });
        const auto height = c.series([&](int64_t t) { return c.height(t, kWrist[s]); });
        out.add(side + "_wrist_over_head", "m",
                *std::max_element(over_head[s].begin(), over_head[s].end()),
                fmt::format("greatest height of the {} wrist above the head", side));
        out.add(side + "_wrist_high_share", "share", mean(c.series([&](int64_t t) {
                    return c.height(t, kWrist[s]) > c.height(t, kShoulder[s]) ? 1.0 : 0.0;
                })),
                fmt::format("part of the time with the {} wrist above the shoulder", side));
        out.add(side + "_wrist_min", "m", *std::min_element(height.begin(), height.end()),
                fmt::format("lowest height of the {} wrist", side));
        const auto ahead = c.series([&](int64_t t) {
            return dot(c.at(t, kWrist[s]) - c.at(t, kShoulder[s]), c.forward(t)) / c.arm[s];
        });
        out.add(side + "_arm_ahead", "ratio", *std::max_element(ahead.begin(), ahead.end()),
                fmt::format("reach of the {} arm to the front, of its length", side));
        const auto aside = c.series([&](int64_t t) {
            return dot(c.at(t, kWrist[s]) - c.at(t, kShoulder[s]), c.left(t)) * (s == 0 ? 1 : -1) /
                   c.arm[s];
        });
        out.add(side + "_arm_aside", "ratio", *std::max_element(aside.begin(), aside.end()),
                fmt::format("reach of the {} arm to its own side, of its length", side));
        const auto speed = c.series([&](int64_t t) {
            if (t == 0) return 0.0;
            return length((c.at(t, kWrist[s]) - c.at(t, kNeck)) -
                          (c.at(t - 1, kWrist[s]) - c.at(t - 1, kNeck))) *
                   c.fps;
        });
        out.add(side + "_wrist_speed", "m/s", mean(std::span(speed).subspan(1)),
                fmt::format("mean speed of the {} wrist relative to the neck", side));
        const auto to_head =
            c.series([&](int64_t t) { return length(c.at(t, kWrist[s]) - c.at(t, kHead)); });
        out.add(side + "_wrist_to_head", "m", *std::min_element(to_head.begin(), to_head.end()),
                fmt::format("least distance of the {} wrist from the head", side));
        const auto to_knee =
            c.series([&](int64_t t) { return length(c.at(t, kElbow[s]) - c.at(t, kKnee[1 - s])); });
        out.add(side + "_elbow_to_knee", "m", *std::min_element(to_knee.begin(), to_knee.end()),
                fmt::format("least distance of the {} elbow from the other side's knee", side));

        // Punches: from bent to stretched in a short time, the hand above the hips.
        int64_t punches = 0, bent = -1;
        for (int64_t t = 0; t < c.frames; ++t) {
            const double e = length(c.at(t, kWrist[s]) - c.at(t, kShoulder[s])) / c.arm[s];
            if (e < kBentArm) bent = t;
            if (e > kStretchedArm && bent >= 0) {
                const Vec3 out_of_chest = c.at(t, kWrist[s]) - c.at(t, kShoulder[s]);
                if (c.seconds(t - bent) <= kLongestPunch && out_of_chest.y > -0.5 * c.arm[s] &&
                    out_of_chest.y < 0.6 * c.arm[s])
                    ++punches;
                bent = -1;
            }
        }
        out.add(side + "_punches", "count", static_cast<double>(punches),
                fmt::format("quick thrusts of the {} arm at chest or head height", side));

        // The arm as a hand of a clock seen from its own left: 0 down, 90 ahead, 180 up.
        std::vector<double> angle;
        for (int64_t t = 0; t < c.frames; ++t) {
            const Vec3 d = c.at(t, kWrist[s]) - c.at(t, kShoulder[s]);
            const double f = dot(d, c.forward(t));
            if (std::hypot(f, d.y) > 0.35 * c.arm[s] || angle.empty())
                angle.push_back(kDegrees * std::atan2(f, -d.y));
            else
                angle.push_back(angle.back());
        }
        unwrap(angle, 360);
        double back = 0, front = 0, lowest = angle[0], highest = angle[0];
        for (double a : angle) {
            lowest = std::min(lowest, a);
            highest = std::max(highest, a);
            back = std::max(back, a - lowest);
            front = std::max(front, highest - a);
        }
        out.add(side + "_arm_circle_back", "deg", back,
                fmt::format("greatest swing of the {} arm up in front and on backward", side));
        out.add(side + "_arm_circle_front", "deg", front,
                fmt::format("greatest swing of the {} arm up behind and on forward", side));
        out.add(side + "_wrist_lifts", "count", static_cast<double>(count_cycles(height, 0.25)),
                fmt::format("times the {} wrist goes up by 25 cm and down again", side));
    }
    const auto both = c.series([&](int64_t t) {
        return std::min(over_head[0][static_cast<size_t>(t)], over_head[1][static_cast<size_t>(t)]);
    });
    const auto any = c.series([&](int64_t t) {
        return std::max(over_head[0][static_cast<size_t>(t)], over_head[1][static_cast<size_t>(t)]);
    });
    auto positive = [](std::vector<double> v) {
        for (double& x : v) x = x > 0 ? 1 : 0;
        return mean(v);
    };
    out.add("both_wrists_over_head", "m", *std::max_element(both.begin(), both.end()),
            "greatest height of the lower wrist above the head");
    out.add("any_wrist_over_head", "m", *std::max_element(any.begin(), any.end()),
            "greatest height of the higher wrist above the head");
    out.add("overhead_share", "share", positive(any),
            "part of the time with a wrist above the head");
    const auto wrists =
        c.series([&](int64_t t) { return length(c.at(t, kWrist[0]) - c.at(t, kWrist[1])); });
    out.add("wrists_apart", "m", *std::max_element(wrists.begin(), wrists.end()),
            "greatest distance of the wrists");
    out.add("wrists_apart_mean", "m", mean(wrists), "mean distance of the wrists");
}

Sheet measure(const Clip& clip) {
    Sheet sheet;
    measure_path(clip, sheet);
    measure_turns(clip, sheet);
    measure_feet(clip, sheet);
    measure_body(clip, sheet);
    measure_arms(clip, sheet);
    return sheet;
}

}  // namespace

const std::vector<FactInfo>& known_facts() {
    // The names come from measuring a figure in its zero pose: one list, not two that may differ.
    static const std::vector<FactInfo> infos = [] {
        const Skeleton& s = humanml3d_skeleton();
        const std::vector<Vec3> offsets = s.target_offsets();
        JointSequence still;
        still.frames = kMinFactFrames;
        still.joints = s.joints;
        still.xyz.resize(static_cast<size_t>(still.frames * still.joints * 3));
        for (int64_t t = 0; t < still.frames; ++t)
            for (int64_t j = 0; j < still.joints; ++j) {
                const int parent = s.parents[static_cast<size_t>(j)];
                const Vec3 o = offsets[static_cast<size_t>(j)];
                const float* p = parent < 0 ? nullptr : still.at(t, parent);
                still.at(t, j)[0] = static_cast<float>((p ? p[0] : 0) + o.x);
                still.at(t, j)[1] = static_cast<float>((p ? p[1] : 1) + o.y);
                still.at(t, j)[2] = static_cast<float>((p ? p[2] : 0) + o.z);
            }
        return measure(prepare(still)).infos;
    }();
    return infos;
}

bool is_fact(std::string_view name) {
    const auto& all = known_facts();
    return std::any_of(all.begin(), all.end(), [&](const FactInfo& f) { return f.name == name; });
}

double MotionFacts::at(std::string_view name) const {
    const auto it = values.find(name);
    if (it == values.end())
        throw Error(
            fmt::format("[facts] no fact is called '{}'; `evaluate --list-facts` shows all", name));
    return it->second;
}

MotionFacts measure_facts(const JointSequence& joints, const std::string& source) {
    check_joints(joints, humanml3d_skeleton(), kMinFactFrames, source);
    const Clip clip = prepare(joints);
    if (!(clip.standing_pelvis > 1e-6))
        throw Error(source + ": frame 0: the legs have no length; this is no body's motion");
    return measure(clip).facts;
}

}  // namespace mc::motion
