#include "motion/foot_lock.h"

#include <algorithm>
#include <cmath>

#include "kernels/error.h"
#include "motion/features.h"
#include "tests/motion/sample_motions.h"
#include "tests/test_paths.h"

using namespace mc::motion;
using mc::testing::walking_rig;

namespace {

double distance(const JointSequence& s, int64_t t, int64_t a, int64_t b) {
    const float* p = s.at(t, a);
    const float* q = s.at(t, b);
    return std::hypot(p[0] - q[0], p[1] - q[1], p[2] - q[2]);
}

// A figure that stands 2 cm above y = 0 with slightly bent knees, its feet sliding about by a few
// millimetres.
JointSequence sliding(int64_t frames) {
    RigMotion rig = walking_rig(2);
    rig.frames = frames;
    rig.root.assign(static_cast<size_t>(frames), Vec3{});
    rig.local.assign(static_cast<size_t>(frames * 22), Quat{});
    for (int64_t t = 0; t < frames; ++t) {
        for (int64_t leg : {1, 5}) {
            rig.local[static_cast<size_t>(t * 22 + leg)] = axis_angle({1, 0, 0}, -0.2);
            rig.local[static_cast<size_t>(t * 22 + leg + 1)] = axis_angle({1, 0, 0}, 0.4);
            rig.local[static_cast<size_t>(t * 22 + leg + 2)] = axis_angle({1, 0, 0}, -0.2);
        }
    }
    JointSequence out = rig_joints(rig);
    const float low = out.at(0, 10)[1];
    for (int64_t t = 0; t < frames; ++t) {
        for (int64_t j = 0; j < 22; ++j) {
            out.at(t, j)[1] += 0.02f - low;
            out.at(t, j)[0] += 0.008f * std::sin(0.5f * static_cast<float>(t));
        }
    }
    return out;
}

// Mean speed (m/s) of the four foot joints between frames in both of which `source` has them slow
// and low.
double skate(const JointSequence& clip, const JointSequence& source) {
    double low = 1e9;
    for (int64_t t = 0; t < source.frames; ++t) low = std::min<double>(low, source.at(t, 10)[1]);
    const auto step = [](const JointSequence& s, int64_t t, int64_t j) {
        const float* p = s.at(t, j);
        const float* q = s.at(t + 1, j);
        return std::hypot(p[0] - q[0], p[1] - q[1], p[2] - q[2]);
    };
    double sum = 0;
    double count = 0;
    for (int64_t j : {7, 10, 8, 11}) {
        for (int64_t t = 0; t + 2 < source.frames; ++t) {
            if (step(source, t, j) > 0.015f || step(source, t + 1, j) > 0.015f) continue;
            if (source.at(t, j)[1] - low > (j < 10 ? 0.11 : 0.05)) continue;
            sum += step(clip, t, j) * clip.fps;
            ++count;
        }
    }
    REQUIRE(count > 0);
    return sum / count;
}

}  // namespace

TEST_CASE("foot_lock: a standing foot stops sliding and no bone changes its length") {
    const JointSequence clip = sliding(60);
    const JointSequence locked = lock_feet(clip);
    CHECK(skate(clip, clip) > 0.02);
    CHECK(skate(locked, clip) < 0.1 * skate(clip, clip));
    CHECK(locked.at(0, 10)[1] == doctest::Approx(0).epsilon(0.01));
    for (int64_t t = 0; t < clip.frames; ++t) {
        for (auto [a, b] : {std::pair{1, 4}, {4, 7}, {7, 10}, {2, 5}, {5, 8}, {8, 11}}) {
            CHECK(distance(locked, t, a, b) ==
                  doctest::Approx(distance(clip, t, a, b)).epsilon(1e-4));
        }
        CHECK(locked.at(t, 15)[0] == clip.at(t, 15)[0]);  // only legs move sideways
    }
}

TEST_CASE("foot_lock: the published constants hold contacts at y = 0") {
    JointSequence clip = sliding(40);
    for (int64_t t = 0; t < 40; ++t) {
        for (int64_t j = 0; j < 22; ++j) clip.at(t, j)[1] -= 0.01f;  // toes at 0.01: below 0.03
    }
    const JointSequence locked = lock_feet(clip, published_foot_lock());
    float mean = 0;
    for (int64_t t = 0; t < 40; ++t) mean += clip.at(t, 10)[0] / 40;
    for (int64_t t = 0; t < 40; ++t) {
        CHECK(locked.at(t, 10)[1] == 0);
        CHECK(locked.at(t, 10)[0] == doctest::Approx(mean));
    }
}

TEST_CASE("foot_lock: frames beside a contact are eased towards it") {
    JointSequence clip = sliding(20);
    for (int64_t t = 0; t < 20; ++t) {
        for (int64_t j = 0; j < 22; ++j) clip.at(t, j)[1] -= 0.02f;
    }
    for (int64_t t = 10; t < 20; ++t) clip.at(t, 10)[1] = 1.0f;  // the left toe leaves the floor
    const JointSequence locked = lock_feet(clip, published_foot_lock());
    // Contact ends at frame 8: frame 9 has a step of a metre to frame 10.
    const double a = 2 * std::pow(3.0 / 6, 3) - 3 * std::pow(3.0 / 6, 2) + 1;  // s - l + 1 = 3
    CHECK(locked.at(10, 10)[1] == doctest::Approx(1 - a).epsilon(1e-3));
    CHECK(locked.at(14, 10)[1] == doctest::Approx(1).epsilon(1e-3));
}

TEST_CASE("foot_lock: a recorded clip slides less and stays itself") {
    if (!mc::testing::have_shared("data/HumanML3D/new_joints/012314.npy")) return;
    const JointSequence clip = mc::testing::recorded_clip(mc::testing::shared_dir());
    const JointSequence locked = lock_feet(clip);
    MESSAGE("012314: skate " << skate(clip, clip) << " -> " << skate(locked, clip)
                             << " m/s, published "
                             << skate(lock_feet(clip, published_foot_lock()), clip));
    CHECK(skate(locked, clip) < 0.3 * skate(clip, clip));
    CHECK(mc::testing::joint_error(locked, clip).mean < 0.02);
}

TEST_CASE("foot_lock: a foot that leaves the floor goes its own way") {
    // Takes off at frame 20, as feet do that go up a stair or jump, and comes down at 32.
    JointSequence clip = sliding(60);
    const auto rise = [](int64_t t) {
        return t < 20 || t > 32 ? 0.0f : 0.1f * static_cast<float>(std::min(t - 19, 33 - t));
    };
    for (int64_t t = 0; t < 60; ++t) {
        for (int64_t j = 0; j < 22; ++j) clip.at(t, j)[1] += rise(t);
    }
    const JointSequence locked = lock_feet(clip);
    const float ground = clip.at(0, 0)[1] - locked.at(0, 0)[1];
    double furthest = 0;
    for (int64_t t = 0; t < 60; ++t) {
        for (int64_t j : {7, 8, 10, 11}) {
            const float *own = clip.at(t, j), *now = locked.at(t, j);
            furthest = std::max<double>(
                furthest, std::hypot(now[0] - own[0], now[1] + ground - own[1], now[2] - own[2]));
        }
    }
    CHECK(furthest < 0.02);  // the feet slide by 8 mm to either side
    CHECK(skate(locked, clip) < 0.1 * skate(clip, clip));
}

TEST_CASE("foot_lock: a figure that comes down from above is not sunk into the floor") {
    // From 0.6 m down to the floor, where it stands for the last fifth.
    JointSequence clip = sliding(100);
    for (int64_t t = 0; t < 80; ++t) {
        for (int64_t j = 0; j < 22; ++j) clip.at(t, j)[1] += 0.6f - 0.0075f * static_cast<float>(t);
    }
    const auto lowest = [](const JointSequence& s) {
        float low = 1e9f;
        for (size_t i = 1; i < s.xyz.size(); i += 3) low = std::min(low, s.xyz[i]);
        return low;
    };
    CHECK(lowest(lock_feet(clip, published_foot_lock())) < -0.05f);
    const JointSequence locked = lock_feet(clip);
    CHECK(lowest(locked) > -1e-5f);
    CHECK(lowest(locked) < 0.02f);
    CHECK(skate(slice(locked, 82, 100), slice(clip, 82, 100)) <
          0.1 * skate(slice(clip, 82, 100), slice(clip, 82, 100)));
}

TEST_CASE("foot_lock: a toe nearer than its foot is long does not go through the ground") {
    // Feet of changing length, held at the mean place of their toes.
    JointSequence clip = sliding(40);
    for (int64_t t = 0; t < 40; t += 2) {
        for (auto [ankle, toe] : {std::pair{7, 10}, {8, 11}}) {
            for (int k : {0, 2}) {
                clip.at(t, toe)[k] += 0.1f * (clip.at(t, ankle)[k] - clip.at(t, toe)[k]);
            }
        }
    }
    const JointSequence locked = lock_feet(clip);
    for (size_t i = 1; i < locked.xyz.size(); i += 3) CHECK(locked.xyz[i] > -1e-5f);
}

TEST_CASE("foot_lock: odd clips") {
    CHECK_THROWS_AS(lock_feet(JointSequence{}), mc::Error);
    JointSequence clip = sliding(3);
    clip.at(1, 7)[0] = INFINITY;
    CHECK_THROWS_AS(lock_feet(clip), mc::Error);
    const JointSequence one = sliding(1);
    CHECK(lock_feet(one).frames == 1);
    CHECK(lock_feet(one, published_foot_lock()).frames == 1);
    JointSequence zero = one;
    std::fill(zero.xyz.begin(), zero.xyz.end(), 0.0f);
    for (float x : lock_feet(zero).xyz) CHECK(std::isfinite(x));
}
