#include "motion/ik.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "kernels/error.h"
#include "motion/features.h"
#include "motion/rig_bvh.h"
#include "tests/motion/sample_motions.h"
#include "tests/test_paths.h"

using namespace mc::motion;
using mc::testing::joint_error;
using mc::testing::walking_rig;

namespace {

// Largest step of any Euler angle between two frames, degrees.
double largest_step(const Bvh& bvh) {
    double worst = 0;
    for (int64_t t = 1; t < bvh.frames; ++t) {
        for (int64_t c = 3; c < bvh.channels; ++c) {
            const size_t i = static_cast<size_t>(t * bvh.channels + c);
            worst = std::max(worst, std::fabs(bvh.values[i] - bvh.values[i - bvh.channels]));
        }
    }
    return worst;
}

double degrees_between(Quat a, Quat b) {
    return length(log(conjugate(a) * b)) * 180 / M_PI;
}

// Largest turn of any joint between two frames, degrees.
double largest_turn(const RigMotion& motion) {
    double worst = 0;
    for (int64_t t = 1; t < motion.frames; ++t) {
        for (int64_t j = 0; j < motion.joints(); ++j) {
            worst =
                std::max(worst, degrees_between(motion.rotation(t - 1, j), motion.rotation(t, j)));
        }
    }
    return worst;
}

}  // namespace

TEST_CASE("ik: a rigid figure is met exactly, whichever way it faces and however it turns") {
    for (int64_t joints : {22, 21}) {
        for (double heading : {0.0, M_PI / 2, M_PI, -M_PI / 2, 3.0}) {
            for (double turns : {0.0, 2.0, -2.0}) {
                const RigMotion truth = walking_rig(80, heading, turns, joints);
                const JointSequence source = rig_joints(truth);
                const RigMotion rig = fit_rig(source);
                CAPTURE(joints);
                CAPTURE(heading);
                CAPTURE(turns);
                CHECK(joint_error(rig_joints(rig), source).worst < 2e-6);
                // Through the text of the file as well.
                const Bvh bvh = parse_bvh(format_bvh(rig_to_bvh(rig)), "text");
                CHECK(1 / bvh.frame_time == doctest::Approx(source.fps));
                CHECK(joint_error(bvh_joints(bvh), source).worst < 5e-6);
                CHECK(largest_step(bvh) < 40);
                CHECK(largest_turn(rig) < 40);
            }
        }
    }
}

TEST_CASE("ik: yaw is its own channel and is unwrapped over full turns") {
    const Bvh bvh = rig_to_bvh(fit_rig(rig_joints(walking_rig(121, M_PI, 2))));
    REQUIRE(bvh.joints[0].channels[3] == BvhChannel::kYrotation);
    const double first = bvh.values[3];
    const double last = bvh.values[static_cast<size_t>(120 * bvh.channels + 3)];
    CHECK(std::fabs(first) == doctest::Approx(180).epsilon(0.01));
    CHECK(last - first == doctest::Approx(720).epsilon(0.01));
    for (int64_t t = 0; t < bvh.frames; ++t) {  // no trace of the turn in the other two
        CHECK(std::fabs(bvh.values[static_cast<size_t>(t * bvh.channels + 4)]) < 10);
        CHECK(std::fabs(bvh.values[static_cast<size_t>(t * bvh.channels + 5)]) < 10);
    }
    CHECK(bvh.joints[0].offset.y == 0);
    CHECK(bvh.joints[0].name == "Hips");
    CHECK(bvh.joints[1].name == "LeftUpLeg");
}

TEST_CASE("ik: hinges give back the twist of upper arms and thighs") {
    const RigMotion truth = walking_rig(80, 1.0, 1.0);
    const RigMotion rig = fit_rig(rig_joints(truth));
    for (int64_t t = 0; t < rig.frames; ++t) {
        for (int64_t j : {1, 5, 15, 19}) {
            CAPTURE(t);
            CAPTURE(rig.rig[static_cast<size_t>(j)].name);
            CHECK(degrees_between(truth.rotation(t, j), rig.rotation(t, j)) < 12);
        }
    }
}

TEST_CASE("ik: a T-pose and a single frame have no rotation") {
    RigMotion rest = walking_rig(2);
    std::fill(rest.local.begin(), rest.local.end(), Quat{});
    rest.frames = 1;
    rest.local.resize(22);
    rest.root.resize(1);
    const RigMotion rig = fit_rig(rig_joints(rest));
    for (const Quat& q : rig.local) CHECK(degrees_between(q, {}) < 0.01);
    for (int64_t j = 1; j < 22; ++j) {
        CHECK(length(rig.offsets[static_cast<size_t>(j)] - rest.offsets[static_cast<size_t>(j)]) <
              1e-6);
    }
}

TEST_CASE("ik: coincident joints and straight limbs do not break it") {
    JointSequence flat;
    flat.frames = 3;
    flat.joints = 22;
    flat.xyz.assign(3 * 22 * 3, 0.0f);
    const RigMotion rig = fit_rig(flat);
    for (const Quat& q : rig.local) CHECK(length(q) == doctest::Approx(1));
    CHECK(joint_error(rig_joints(rig), flat).worst < 1e-6);
    for (int64_t t = 0; t < 3; ++t) {  // all joints on one vertical line
        for (int64_t j = 0; j < 22; ++j) flat.at(t, j)[1] = 0.1f * static_cast<float>(j);
    }
    for (const Quat& q : fit_rig(flat).local) CHECK(length(q) == doctest::Approx(1));
}

TEST_CASE("ik: the recorded clip is met within a millimetre") {
    if (!mc::testing::have_shared("data/HumanML3D/new_joints/012314.npy")) return;
    const JointSequence clip = mc::testing::recorded_clip(mc::testing::shared_dir());
    const RigMotion rig = fit_rig(clip);
    const auto error = joint_error(bvh_joints(parse_bvh(format_bvh(rig_to_bvh(rig)), "t")), clip);
    MESSAGE("012314: mean " << error.mean * 1000 << " mm, worst " << error.worst * 1000
                            << " mm; largest step " << largest_step(rig_to_bvh(rig))
                            << " degrees, largest turn " << largest_turn(rig));
    CHECK(error.mean < 1e-3);
    const auto plain = joint_error(bvh_joints(rig_to_bvh(rig, true)), clip);
    CHECK(plain.mean < 1e-3);
    const auto reference = joint_error(rig_joints(fit_template_rig(clip, 10)), clip);
    MESSAGE("template: mean " << reference.mean * 1000 << " mm");
    CHECK(reference.mean < 0.08);
}

TEST_CASE("ik: noisy joints cost about their noise and cause no flips") {
    const JointSequence clean = rig_joints(walking_rig(100, M_PI, 1));
    JointSequence noisy = clean;
    std::mt19937 random(3);
    for (float& x : noisy.xyz) {
        x += 0.01f * (static_cast<float>(random() % 2001) / 1000.0f - 1.0f);  // up to 1 cm
    }
    const RigMotion rig = fit_rig(noisy);
    CHECK(joint_error(rig_joints(rig), noisy).mean < 0.01);
    const RigMotion calm = fit_rig(clean);
    for (int64_t j : {0, 1, 5, 15, 19}) {
        double worst = 0;
        for (int64_t t = 0; t < rig.frames; ++t) {
            worst = std::max(worst, degrees_between(rig.rotation(t, j), calm.rotation(t, j)));
        }
        CAPTURE(j);
        CHECK(worst < 30);
    }
}

TEST_CASE("ik: wrists and ankles come to their places though bones change their lengths") {
    for (int64_t joints : {22, 21}) {
        // Forearms and shanks, upper arms and thighs grow and shrink in turn by a tenth and more;
        // hands and feet go along.
        JointSequence clip = rig_joints(walking_rig(120, 0.4, 1, joints));
        const auto rig_of = rig_for_joints(joints);
        for (int64_t t = 0; t < clip.frames; ++t) {
            const JointSequence source = slice(clip, t, t + 1);
            for (size_t j = 0; j < rig_of.size(); ++j) {
                if (length(rig_of[j].flex) == 0) continue;
                const size_t middle = j + 1, end = j + 2;
                const double phase = 0.3 * static_cast<double>(t) + static_cast<double>(j);
                const float grown[2] = {static_cast<float>(0.12 * std::sin(phase)),
                                        static_cast<float>(-0.10 * std::sin(0.7 * phase))};
                for (int k = 0; k < 3; ++k) {
                    const auto at = [&](size_t i) { return source.at(0, rig_of[i].source)[k]; };
                    const float a = grown[0] * (at(middle) - at(j));
                    const float b = a + grown[1] * (at(end) - at(middle));
                    clip.at(t, rig_of[middle].source)[k] += a;
                    for (size_t i = end; i < rig_of.size() && rig_of[i].parent >= int(middle); ++i)
                        clip.at(t, rig_of[i].source)[k] += b;
                }
            }
        }
        const RigMotion rig = fit_rig(clip);
        const JointSequence fitted = rig_joints(rig);
        const auto place = [](const JointSequence& s, int64_t t, int joint) {
            const float* p = s.at(t, joint);
            return Vec3{p[0], p[1], p[2]};
        };
        double sum = 0, worst = 0, worst_middle = 0;
        int64_t count = 0;
        for (size_t j = 0; j < rig_of.size(); ++j) {
            if (length(rig_of[j].flex) == 0) continue;
            const int root = rig_of[j].source, middle = rig_of[j + 1].source;
            const int end = rig_of[j + 2].source;
            const double reach = length(rig.offsets[j + 1]) + length(rig.offsets[j + 2]);
            for (int64_t t = 0; t < clip.frames; ++t) {
                if (length(place(clip, t, end) - place(fitted, t, root)) > reach) continue;
                const double error = length(place(clip, t, end) - place(fitted, t, end));
                sum += error;
                ++count;
                worst = std::max(worst, error);
                worst_middle = std::max(worst_middle,
                                        length(place(clip, t, middle) - place(fitted, t, middle)));
            }
        }
        REQUIRE(count > clip.frames * 2);
        MESSAGE(joints << " joints, " << count << " places in reach: mean "
                       << sum / static_cast<double>(count) * 1000 << " mm, worst " << worst * 1000
                       << "; elbows and knees worst " << worst_middle * 1000);
        // The lengths alone made this 22 and 79 mm with 22 joints.
        CHECK(sum / static_cast<double>(count) < 0.008);
        CHECK(worst < 0.03);
        CHECK(worst_middle < 0.15);
    }
}

TEST_CASE("ik: the template variant gives the template's bone lengths and its own poses back") {
    const RigMotion truth = walking_rig(6, 2.5);
    const JointSequence source = rig_joints(truth);
    const RigMotion rig = fit_template_rig(source, 100);
    CHECK(joint_error(rig_joints(rig), source).worst < 1e-3);
    CHECK_THROWS_AS(fit_template_rig(rig_joints(walking_rig(3, 0, 0, 21))), mc::Error);
}

TEST_CASE("ik: what is no clip is refused with its place") {
    JointSequence clip = rig_joints(walking_rig(3));
    clip.at(2, 5)[1] = NAN;
    CHECK_THROWS_WITH(fit_rig(clip), "joints: frame 2, joint 5 is not finite");
    clip.joints = 24;
    CHECK_THROWS_AS(fit_rig(clip), mc::Error);
    clip.joints = 22;
    clip.frames = 4;
    CHECK_THROWS_AS(fit_rig(clip), mc::Error);
    CHECK_THROWS_AS(fit_rig(JointSequence{}), mc::Error);
    CHECK_THROWS_AS(bvh_joints(parse_bvh("HIERARCHY ROOT a\n{ OFFSET 0 0 0 CHANNELS 0 } MOTION\n"
                                         "Frames: 1\nFrame Time: 1\n",
                                         "f")),
                    mc::Error);
}
