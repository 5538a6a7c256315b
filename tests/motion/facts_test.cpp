#include "motion/facts.h"

#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <numbers>
#include <string>

#include "kernels/error.h"
#include "motion/features.h"
#include "motion/quaternion.h"
#include "motion/skeleton.h"
#include "tests/synthetic_motion.h"

using namespace mc::motion;
using doctest::Approx;

namespace {

constexpr double kPi = std::numbers::pi;

// A figure standing with arms down, 22 joints in metres, facing +Z, toes 2 cm above the floor.
std::vector<Vec3> standing() {
    const Skeleton& s = humanml3d_skeleton();
    const std::vector<Vec3> offsets = s.target_offsets();
    std::vector<Vec3> p(22);
    for (size_t j = 1; j < 22; ++j) p[j] = p[static_cast<size_t>(s.parents[j])] + offsets[j];
    const double lift = 0.02 - std::min(p[10].y, p[11].y);
    for (Vec3& v : p) v.y += lift;
    return p;
}

using Change = std::function<void(std::vector<Vec3>&, double)>;  // joints, seconds

MotionFacts facts_of(int64_t frames, const Change& change) {
    JointSequence joints;
    joints.frames = frames;
    joints.joints = 22;
    for (int64_t t = 0; t < frames; ++t) {
        std::vector<Vec3> p = standing();
        change(p, static_cast<double>(t) / 20);
        for (const Vec3& v : p)
            for (double x : {v.x, v.y, v.z}) joints.xyz.push_back(static_cast<float>(x));
    }
    return measure_facts(joints);
}

void move(std::vector<Vec3>& p, Vec3 by) {
    for (Vec3& v : p) v += by;
}
void turn(std::vector<Vec3>& p, double degrees) {
    const Quat q = axis_angle({0, 1, 0}, degrees * kPi / 180);
    for (Vec3& v : p) v = rotate(q, v);
}

}  // namespace

TEST_CASE("facts: a statue does nothing and stands at its standing height") {
    const MotionFacts f = facts_of(40, [](auto&, double) {});
    CHECK(f.at("duration") == Approx(2.0));
    for (const char* zero : {"path", "speed_max", "turn", "turn_total", "airborne", "steps",
                             "movement", "left_punches", "pelvis_dips", "low_share", "bend_max",
                             "left_stand", "ground_rise", "right_wrist_lifts"}) {
        CAPTURE(zero);
        CHECK(f.at(zero) == Approx(0).epsilon(1e-4));
    }
    CHECK(f.at("still_share") == 1);
    CHECK(f.at("pelvis_mean") == Approx(1).epsilon(0.05));
    CHECK(f.at("head_mean") == Approx(1).epsilon(0.05));
    CHECK(f.at("any_wrist_over_head") < -0.5);
    CHECK(f.at("knees_end") == Approx(-0.39).epsilon(0.05));
}

TEST_CASE("facts: ways are measured in the body's frame, whatever the heading") {
    for (const double heading : {0.0, 70.0, 200.0}) {
        CAPTURE(heading);
        const MotionFacts f = facts_of(61, [&](auto& p, double t) {
            move(p, {0.2 * t, 0, 1.0 * t});  // ahead, drifting left
            turn(p, heading);
        });
        CHECK(f.at("forward") == Approx(3.0).epsilon(0.05));
        CHECK(f.at("left") == Approx(0.6).epsilon(0.05));
        CHECK(f.at("speed_mean") == Approx(std::hypot(1, 0.2)).epsilon(0.05));
        CHECK(f.at("forward_path") > 2.8);
        CHECK(f.at("backward_path") == Approx(0));
        CHECK(f.at("left_path") > 0.5);
        CHECK(f.at("right_path") == Approx(0));
    }
    const MotionFacts back = facts_of(61, [](auto& p, double t) { move(p, {0, 0, -0.5 * t}); });
    CHECK(back.at("backward_path") > 1.3);
    CHECK(back.at("forward") < -1.3);
    const MotionFacts there_and_back = facts_of(61, [](auto& p, double t) {
        move(p, {0, 0, std::sin(kPi * t / 3)});
    });
    CHECK(there_and_back.at("distance") < 0.15);
    CHECK(there_and_back.at("path") > 1.8);
}

TEST_CASE("facts: turns add up past half a circle, positive to the left") {
    const MotionFacts left = facts_of(81, [](auto& p, double t) { turn(p, 100 * t); });
    CHECK(left.at("turn") == Approx(400).epsilon(0.05));
    CHECK(left.at("turn_left") == Approx(400).epsilon(0.05));
    CHECK(left.at("turn_right") == 0);
    const MotionFacts both =
        facts_of(81, [](auto& p, double t) { turn(p, -90 * std::sin(kPi * t / 2)); });
    CHECK(both.at("turn_abs") < 15);
    CHECK(both.at("turn_right") > 150);
    CHECK(both.at("turn_left") > 150);
    const MotionFacts sway =
        facts_of(81, [](auto& p, double t) { turn(p, 8 * std::sin(kPi * t)); });
    CHECK(sway.at("turn_total") == 0);
}

TEST_CASE("facts: jumps are counted with their height, platforms are none") {
    const MotionFacts jumps = facts_of(80, [](auto& p, double t) {
        move(p, {0, std::max(0.0, 0.3 * std::sin(2 * kPi * t)), 0});
    });
    CHECK(jumps.at("airborne") == 4);
    CHECK(jumps.at("air_height") == Approx(0.3).epsilon(0.1));
    const MotionFacts climb = facts_of(80, [](auto& p, double t) {
        move(p, {0, t < 2 ? 0.0 : 0.4, 0});
    });
    CHECK(climb.at("airborne") == 0);
    CHECK(climb.at("ground_rise") == Approx(0.4).epsilon(0.01));
    const MotionFacts one_foot = facts_of(60, [](auto& p, double t) {
        if (t >= 1) p[7].y += 0.3, p[10].y += 0.3;
    });
    CHECK(one_foot.at("airborne") == 0);
    CHECK(one_foot.at("right_stand") == Approx(2.0));
    CHECK(one_foot.at("left_stand") == 0);
}

TEST_CASE("facts: kicks, knees and steps know their side") {
    const MotionFacts kick = facts_of(40, [](auto& p, double t) {
        const double up = std::max(0.0, std::sin(kPi * t));
        p[8] += Vec3{0, 0.9 * up, 0.6 * up};
        p[11] += Vec3{0, 0.9 * up, 0.6 * up};
        p[5] += Vec3{0, 0.4 * up, 0.3 * up};
    });
    CHECK(kick.at("right_kick") == Approx(0.9).epsilon(0.05));
    CHECK(kick.at("left_kick") < 0.1);
    CHECK(kick.at("right_knee_raise") > kick.at("left_knee_raise") + 0.3);
    CHECK(kick.at("right_foot_speed") > 2);
    CHECK(kick.at("left_foot_speed") == Approx(0));
    const MotionFacts steps = facts_of(60, [](auto& p, double t) {
        const double s = std::clamp(2 * (t - 1), 0.0, 1.0);  // one left step of 50 cm
        p[7].z += 0.5 * s, p[10].z += 0.5 * s;
    });
    CHECK(steps.at("left_steps") == 1);
    CHECK(steps.at("right_steps") == 0);
    CHECK(steps.at("feet_apart") > 0.5);
}

TEST_CASE("facts: squats and lying are low, bends lean") {
    const MotionFacts squat = facts_of(60, [](auto& p, double t) {
        const double down = 0.5 * std::sin(kPi * t / 3) * std::sin(kPi * t / 3);
        for (size_t j = 0; j < 22; ++j)
            if (j != 7 && j != 8 && j != 10 && j != 11) p[j].y -= down;
    });
    CHECK(squat.at("pelvis_min") == Approx(0.46).epsilon(0.1));
    CHECK(squat.at("pelvis_end") > 0.85);
    CHECK(squat.at("pelvis_dips") == 1);
    CHECK(squat.at("low_share") > 0.2);
    const MotionFacts lying = facts_of(40, [](auto& p, double) {
        for (Vec3& v : p) v = {v.x, 0.1 + 0.1 * v.z, -v.y};
    });
    CHECK(lying.at("lying_share") == 1);
    CHECK(lying.at("pelvis_end") < 0.2);
    const MotionFacts bow = facts_of(40, [](auto& p, double t) {
        const Quat q = axis_angle({1, 0, 0}, t < 1 ? 0.0 : kPi / 3);
        for (size_t j = 1; j < 22; ++j)
            if (j != 1 && j != 2 && j != 4 && j != 5 && j != 7 && j != 8 && j != 10 && j != 11)
                p[j] = p[0] + rotate(q, p[j] - p[0]);
    });
    CHECK(bow.at("bend_max") == Approx(60).epsilon(0.03));
    CHECK(bow.at("bend_back") < 1);
}

TEST_CASE("facts: arms over the head, round in circles, out in punches") {
    auto point = [](std::vector<Vec3>& p, size_t shoulder, Vec3 to) {  // a straight arm
        p[shoulder + 2] = p[shoulder] + 0.26 * to;
        p[shoulder + 4] = p[shoulder] + 0.53 * to;
    };
    const MotionFacts up = facts_of(40, [&](auto& p, double t) {
        point(p, 17, t < 1 ? Vec3{0, -1, 0} : Vec3{0, 1, 0});
    });
    CHECK(up.at("right_wrist_over_head") > 0.1);
    CHECK(up.at("left_wrist_over_head") < -0.5);
    CHECK(up.at("both_wrists_over_head") < -0.5);
    CHECK(up.at("overhead_share") == Approx(0.5));
    const MotionFacts circle = facts_of(41, [&](auto& p, double t) {
        point(p, 16, {0, -std::cos(kPi * t), std::sin(kPi * t)});  // down, ahead, up, behind
    });
    CHECK(circle.at("left_arm_circle_back") == Approx(360).epsilon(0.02));
    CHECK(circle.at("left_arm_circle_front") == Approx(0));
    CHECK(circle.at("left_wrist_lifts") == 1);
    CHECK(circle.at("right_arm_circle_back") < 1);
    const MotionFacts punches = facts_of(60, [&](auto& p, double t) {
        const double reach = std::fmod(t, 1.0) < 0.5 ? 0.2 : 0.52;
        if (t > 0) p[21] = p[17] + Vec3{0, 0, reach};  // bone lengths are those of the first frame
    });
    CHECK(punches.at("right_punches") == 3);
    CHECK(punches.at("left_punches") == 0);
    CHECK(punches.at("right_arm_ahead") > 0.9);
}

TEST_CASE("facts: a mirrored motion has mirrored facts") {
    const auto walk = mc::testing::synthetic_motion(mc::testing::Action::kWave, 60, 3);
    const MotionFacts a = measure_facts(walk);
    const MotionFacts b = measure_facts(mirror(walk, humanml3d_skeleton()));
    CHECK(a.at("turn") == Approx(-b.at("turn")));
    CHECK(a.at("right_wrist_speed") == Approx(b.at("left_wrist_speed")).epsilon(0.02));
    CHECK(a.at("pelvis_mean") == Approx(b.at("pelvis_mean")).epsilon(0.02));
    CHECK(a.at("right_wrist_over_head") == Approx(b.at("left_wrist_over_head")).epsilon(0.02));
}

TEST_CASE("facts: the list has every fact once, and an unknown name is an error") {
    const auto& all = known_facts();
    CHECK(all.size() > 80);
    const MotionFacts f = facts_of(10, [](auto&, double) {});
    CHECK(f.values.size() == all.size());
    for (const FactInfo& info : all) {
        CAPTURE(info.name);
        CHECK(is_fact(info.name));
        CHECK(std::isfinite(f.at(info.name)));
        CHECK_FALSE(info.meaning.empty());
    }
    CHECK_FALSE(is_fact("charm"));
    CHECK_THROWS_WITH_AS(f.at("charm"), doctest::Contains("no fact is called 'charm'"), mc::Error);
}

TEST_CASE("facts: wrong joints, too few frames and NaN are refused by name") {
    JointSequence joints = mc::testing::synthetic_motion(mc::testing::Action::kWalk, 20);
    JointSequence nan = joints;
    nan.at(7, 3)[1] = std::numeric_limits<float>::quiet_NaN();
    CHECK_THROWS_WITH_AS(measure_facts(nan, "walk.npy"), doctest::Contains("walk.npy"), mc::Error);
    CHECK_THROWS_AS(measure_facts(slice(joints, 0, 3)), mc::Error);
    JointSequence kit = joints;
    kit.joints = 21;
    kit.xyz.resize(static_cast<size_t>(kit.frames * 21 * 3));
    CHECK_THROWS_AS(measure_facts(kit), mc::Error);
    CHECK_THROWS_AS(measure_facts(JointSequence{}), mc::Error);
    JointSequence flat = joints;
    std::fill(flat.xyz.begin(), flat.xyz.end(), 0.0f);
    CHECK_THROWS_WITH_AS(measure_facts(flat, "flat.npy"), doctest::Contains("flat.npy"), mc::Error);
}
