#include "motion/features.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "kernels/error.h"
#include "tensor/formats/npy.h"
#include "tests/error_of.h"
#include "tests/reference_test.h"
#include "tests/synthetic_motion.h"

using namespace mc::motion;
using mc::testing::Action;
using mc::testing::synthetic_motion;

namespace {

JointSequence joints_of(const std::vector<float>& xyz, int64_t joints) {
    JointSequence s;
    s.joints = joints;
    s.frames = static_cast<int64_t>(xyz.size()) / (3 * joints);
    s.xyz = xyz;
    return s;
}

FeatureSequence features_of(const std::vector<float>& rows, int64_t dims) {
    FeatureSequence f;
    f.dims = dims;
    f.frames = static_cast<int64_t>(rows.size()) / dims;
    f.rows = rows;
    return f;
}

template <typename A, typename B>
double max_gap(const A& a, const B& b) {
    REQUIRE(a.size() == b.size());
    double gap = 0;
    for (size_t i = 0; i < a.size(); ++i)
        gap = std::max(gap, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
    return gap;
}

// Largest difference in columns [from, to) over the rows both have.
double column_gap(const FeatureSequence& a, const FeatureSequence& b, int64_t from, int64_t to) {
    double gap = 0;
    for (int64_t t = 0; t < std::min(a.frames, b.frames); ++t)
        for (int64_t c = from; c < to; ++c)
            gap = std::max(gap, static_cast<double>(std::abs(a.at(t)[c] - b.at(t)[c])));
    return gap;
}

std::string error_of(const JointSequence& joints) {
    return mc::testing::error_of([&] { motion_features(joints); });
}

JointSequence sample_joints() {
    return joints_of(
        mc::read_npy(mc::testing::shared_dir() / "data/HumanML3D/new_joints/012314.npy").as_f32(),
        22);
}

FeatureSequence sample_features() {
    return features_of(
        mc::read_npy(mc::testing::shared_dir() / "data/HumanML3D/new_joint_vecs/012314.npy")
            .as_f32(),
        263);
}

bool have_sample() {
    return mc::testing::have_shared("data/HumanML3D/new_joint_vecs/012314.npy");
}

// The table of motion_data.md 11 (B), rounded up by a half: the data themselves are float32 of
// other arithmetic.
void check_groups(const FeatureSequence& got, const FeatureSequence& want,
                  const std::vector<double>& tolerance, double factor = 1.5) {
    const int64_t ends[] = {0, 1, 3, 4, 67, 193, 259, 263};
    for (size_t g = 0; g < 7; ++g) {
        CAPTURE(g);
        CHECK(column_gap(got, want, ends[g], ends[g + 1]) <= factor * tolerance[g]);
    }
}

const std::vector<double> kExtractTable{1.37e-7, 3.94e-8, 0, 2.16e-7, 7.75e-6, 3.44e-7, 0};
const std::vector<double> kProcessTable{3.61e-7, 6.76e-8, 3.41e-7, 1.10e-6, 7.77e-6, 1.87e-6, 0};

}  // namespace

TEST_CASE("recorded cases: process, extraction and recovery match the reference") {
    // Left out: root-relative positions, which are not kept here.
    for (const std::string name : {"012314", "000612"})
        mc::testing::check_case("motion_features_" + name + ".safetensors", 1);
}

TEST_CASE("sample 012314: errors stay within the published table") {
    if (!have_sample()) return;
    const Skeleton& s = humanml3d_skeleton();
    const JointSequence joints = sample_joints();
    const FeatureSequence vecs = sample_features();
    CHECK(max_gap(joints_from_features(vecs).xyz, joints.xyz) <=
          2.4e-7);  // one unit in the last place
    CHECK(max_gap(joints_from_rotations(vecs, s.offsets(bone_lengths(joints, s))).xyz,
                  joints.xyz) <= 1.5 * 1.46e-6);

    const JointSequence whole = rebuild_last_frame(vecs);
    REQUIRE(whole.frames == 171);
    const FeatureSequence extracted = extract_features(whole, s);
    REQUIRE(extracted.frames == 170);
    check_groups(extracted, vecs, kExtractTable);
    check_groups(motion_features(whole), vecs, kProcessTable);

    JointSequence moved = whole;  // 1.1 times as large, turned by 37 degrees, elsewhere
    const Quat turn = axis_angle({0, 1, 0}, 37 * std::numbers::pi / 180);
    for (size_t i = 0; i < moved.xyz.size(); i += 3) {
        const Vec3 v = 1.1 * rotate(turn, {whole.xyz[i], whole.xyz[i + 1], whole.xyz[i + 2]}) +
                       Vec3{3, 0.4, -2};
        moved.xyz[i] = static_cast<float>(v.x);
        moved.xyz[i + 1] = static_cast<float>(v.y);
        moved.xyz[i + 2] = static_cast<float>(v.z);
    }
    // The table's input was float64; ours is rounded to float32 at coordinates up to 6, an error
    // of 2.4e-7 that velocities and short bones feel.
    check_groups(motion_features(moved), vecs, kProcessTable, 8);
}

TEST_CASE("worked example 1: the heading jumps from the identity to the smoothed one") {
    if (!have_sample()) return;
    const JointSequence whole = rebuild_last_frame(sample_features());
    const auto smooth = inverse_kinematics(whole, humanml3d_skeleton(), true);
    const auto plain = inverse_kinematics(whole, humanml3d_skeleton(), false);
    auto check = [](Quat q, double w, double y) {
        CHECK(q.w == doctest::Approx(w).epsilon(1e-6));
        CHECK(q.y == doctest::Approx(y).epsilon(1e-6));
        CHECK(std::abs(q.x) + std::abs(q.z) < 1e-12);
    };
    check(smooth[0], 1, 0);
    check(smooth[22], 0.9943477, 0.1061728);
    check(smooth[50 * 22], 0.5335567, -0.8457643);
    check(smooth[100 * 22], 0.9323518, -0.3615524);
    check(smooth[170 * 22], 0.9218322, -0.3875892);
    CHECK(plain[22].y == doctest::Approx(0.0021959).epsilon(1e-3));
    check(plain[50 * 22], 0.4402643, -0.8978682);
    const FeatureSequence f = extract_features(whole, humanml3d_skeleton());
    CHECK(f.at(0)[0] == doctest::Approx(0.1063733).epsilon(1e-6));
    CHECK(f.at(1)[0] == doctest::Approx(0.0050500).epsilon(1e-4));
}

TEST_CASE("worked examples 2 and 3: row 50 and the contacts of row 100") {
    if (!have_sample()) return;
    const JointSequence whole = rebuild_last_frame(sample_features());
    const FeatureSequence f = extract_features(whole, humanml3d_skeleton());
    const float* row = f.at(50);
    CHECK(std::abs(row[0] - 0.009958) < 5e-7);
    CHECK(std::abs(row[1] - 2.2e-6) < 1e-7);
    CHECK(std::abs(row[2] + 1.6e-6) < 1e-7);
    CHECK(std::abs(row[3] - 0.7382476) < 1e-7);
    const double code[] = {-0.3901663, -0.8177476, 0.4231535, -0.8538326, 0.1493434, -0.4986645};
    for (int i = 0; i < 6; ++i) CHECK(std::abs(row[67 + i] - code[i]) < 1e-6);
    const double hip[] = {0.0592038, 0.6539590, 0.0038214},
                 head[] = {0.0287592, 1.2694169, 0.2408191};
    for (int i = 0; i < 3; ++i) {
        CHECK(std::abs(row[4 + i] - hip[i]) < 2e-7);
        CHECK(std::abs(row[4 + 3 * 14 + i] - head[i]) < 2e-7);
    }
    const RootPath path = recover_root(f);
    CHECK(std::abs(path.half_angles[50] + 1.0079960) < 2e-6);
    CHECK(path.yaw(50) == doctest::Approx(2.0159920).epsilon(1e-5));
    CHECK(length(path.positions[50] - Vec3{2.3146860, 0.7382476, 0.3581865}) < 2e-6);

    const float* hundred = f.at(100);
    CHECK(std::vector<float>(hundred + 259, hundred + 263) == std::vector<float>{1, 1, 0, 1});
    const double root[] = {0.0045862, -0.0621736, -0.0469867, 0.8707625};
    const double local[] = {-0.0617400, -0.0164641, -0.0475550};
    for (int i = 0; i < 4; ++i) CHECK(std::abs(hundred[i] - root[i]) < 2e-7);
    for (int i = 0; i < 3; ++i) CHECK(std::abs(hundred[193 + i] - local[i]) < 2e-7);
}

TEST_CASE("worked example 4: the mirrored sample") {
    if (!have_sample()) return;
    const Skeleton& s = humanml3d_skeleton();
    const JointSequence twin = mirror(rebuild_last_frame(sample_features()), s);
    const auto lengths = bone_lengths(twin, s);
    CHECK(0.815831 / (lengths[5] + lengths[8]) == doctest::Approx(0.987622).epsilon(2e-6));
    const FeatureSequence f = motion_features(twin);
    const double first[] = {-0.096991, 0.002114, 0.001540, 0.840264};
    for (int i = 0; i < 4; ++i) CHECK(std::abs(f.at(0)[i] - first[i]) < 1e-6);
    auto total = [](const FeatureSequence& x) {
        double sum = 0;
        for (int64_t t = 0; t < x.frames; ++t) sum += x.at(t)[0];
        return sum;
    };
    CHECK(total(f) == doctest::Approx(0.386922).epsilon(1e-5));
    CHECK(total(sample_features()) == doctest::Approx(-0.398015).epsilon(1e-5));
}

TEST_CASE("mirroring twice gives the clip back, for both skeletons") {
    JointSequence clip = synthetic_motion(Action::kWave, 30, 3);
    CHECK(mirror(mirror(clip, humanml3d_skeleton()), humanml3d_skeleton()).xyz == clip.xyz);
    CHECK(mirror(clip, humanml3d_skeleton()).xyz != clip.xyz);
    clip.joints = 21;
    clip.frames = static_cast<int64_t>(clip.xyz.size()) / 63;
    clip.xyz.resize(static_cast<size_t>(clip.frames * 63));
    CHECK(mirror(mirror(clip, kit_skeleton()), kit_skeleton()).xyz == clip.xyz);
}

TEST_CASE("made-up motions survive joints -> features -> joints") {
    const Skeleton& s = humanml3d_skeleton();
    for (int a = 0; a < mc::testing::kActions; ++a)
        for (uint64_t seed : {1, 2, 3}) {
            CAPTURE(a);
            const JointSequence clip = synthetic_motion(static_cast<Action>(a), 50, seed);
            const JointSequence canonical = process(clip, s);
            const FeatureSequence f = motion_features(clip);
            REQUIRE(f.frames == 49);
            CHECK(max_gap(rebuild_last_frame(f).xyz, canonical.xyz) < 2e-5);
            CHECK(max_gap(joints_from_rotations(f, s.target_offsets()).xyz,
                          slice(canonical, 0, 49).xyz) < 2e-5);
            // Canonical: on the floor, at the origin, facing +Z, lengths of the target.
            float floor = 1e9f;
            for (size_t i = 1; i < canonical.xyz.size(); i += 3)
                floor = std::min(floor, canonical.xyz[i]);
            CHECK(std::abs(floor) < 1e-6f);
            CHECK(std::abs(canonical.at(0, 0)[0]) + std::abs(canonical.at(0, 0)[2]) < 1e-6f);
            CHECK(max_gap(bone_lengths(canonical, s, 37), s.bone_lengths) < 1e-6);
            const JointSequence again = canonicalise(canonical, s);
            CHECK(max_gap(again.xyz, canonical.xyz) < 1e-6);
            CHECK(max_gap(process(canonical, s).xyz, canonical.xyz) < 5e-6);
        }
}

TEST_CASE("features do not depend on where the clip stands, its heading or its size") {
    const JointSequence clip = synthetic_motion(Action::kWalk, 60, 5);
    JointSequence moved = clip;
    const Quat turn = axis_angle({0, 1, 0}, 2.2);
    for (size_t i = 0; i < moved.xyz.size(); i += 3) {
        const Vec3 v =
            1.7 * rotate(turn, {clip.xyz[i], clip.xyz[i + 1], clip.xyz[i + 2]}) + Vec3{-1, 2, 5};
        moved.xyz[i] = static_cast<float>(v.x);
        moved.xyz[i + 1] = static_cast<float>(v.y);
        moved.xyz[i + 2] = static_cast<float>(v.z);
    }
    CHECK(max_gap(motion_features(clip).rows, motion_features(moved).rows) < 2e-5);
}

TEST_CASE("resampling keeps the way and the time of a motion") {
    JointSequence line;
    line.frames = 31;
    line.joints = 22;
    line.fps = 30;
    line.xyz.resize(31 * 22 * 3);
    for (int64_t t = 0; t < 31; ++t) line.at(t, 5)[2] = 0.1f * static_cast<float>(t);
    const JointSequence slow = resample(line, 20);
    CHECK(slow.frames == 21);
    CHECK(slow.fps == 20);
    for (int64_t t = 0; t < 21; ++t)
        CHECK(slow.at(t, 5)[2] == doctest::Approx(0.15 * static_cast<double>(t)));
    const JointSequence fast = resample(line, 60);
    CHECK(fast.frames == 61);
    CHECK(fast.at(33, 5)[2] == doctest::Approx(1.65));
    CHECK(resample(slice(line, 0, 1), 20).frames == 1);
    line.fps = 1 / 0.0499999;
    CHECK(resample(line, 20).xyz == line.xyz);
    line.fps = 0;
    CHECK_THROWS_AS(resample(line, 20), mc::Error);
}

TEST_CASE("KIT clips have 251 columns and come back too") {
    // A figure on the KIT tree in its own units, swaying; every joint moves.
    const Skeleton& s = kit_skeleton();
    std::vector<double> lengths(21, 150.0);
    lengths[0] = 0;
    std::vector<Quat> rotations;
    std::vector<Vec3> roots;
    for (int t = 0; t < 40; ++t) {
        for (int j = 0; j < 21; ++j)
            rotations.push_back(axis_angle({0.3 + j, 1, 0.5 * j}, 0.2 * std::sin(0.3 * t + j)));
        // With the KIT zero pose (right at +X) a half turn makes the figure face +Z.
        rotations[static_cast<size_t>(t * 21)] = axis_angle({0, 1, 0}, std::numbers::pi + 0.02 * t);
        roots.push_back({10.0 * t, 560 + 5 * std::sin(0.2 * t), 3.0 * t});
    }
    const JointSequence clip = forward_kinematics(rotations, roots, s.offsets(lengths), s);
    CHECK(clip.fps == 12.5);
    const FeatureSequence f = motion_features(clip);
    CHECK(f.frames == 39);
    CHECK(f.dims == 251);
    CHECK(f.fps == 12.5);
    const JointSequence canonical = process(clip, s);
    CHECK(max_gap(rebuild_last_frame(f).xyz, canonical.xyz) < 0.02);  // of 3000 units
    CHECK(max_gap(joints_from_rotations(f, s.offsets(lengths)).xyz, slice(canonical, 0, 39).xyz) <
          0.02);
    const JointSequence larger =
        uniform_skeleton(clip, s, s.offsets(std::vector<double>(21, 300.0)));
    CHECK(bone_lengths(larger, s, 20)[9] == doctest::Approx(300).epsilon(1e-6));
}

TEST_CASE("a straight walk has steady speed columns, no turn and resting feet") {
    const FeatureSequence f = motion_features(synthetic_motion(Action::kWalk, 80, 11));
    double forward = 0, sideways = 0;
    for (int64_t t = 1; t < f.frames; ++t) {
        CHECK(std::abs(f.at(t)[0]) < 0.02);
        forward += f.at(t)[2];
        sideways += f.at(t)[1];
    }
    CHECK(forward > 2);
    CHECK(std::abs(sideways) < 0.5 * forward);
    const FeatureSequence still = motion_features(synthetic_motion(Action::kWave, 40, 11));
    for (int64_t t = 0; t < still.frames; ++t)
        for (int c = 259; c < 263; ++c) CHECK(still.at(t)[c] == 1);
}

TEST_CASE("broken joints are refused in one line with the place") {
    const JointSequence good = synthetic_motion(Action::kJump, 20);
    REQUIRE(error_of(good).empty());
    JointSequence bad = good;
    bad.at(7, 15)[1] = std::numeric_limits<float>::quiet_NaN();
    CHECK(error_of(bad).find("frame 7, joint 15 (head)") != std::string::npos);
    bad = good;
    bad.at(19, 0)[2] = std::numeric_limits<float>::infinity();
    CHECK(error_of(bad).find("frame 19, joint 0") != std::string::npos);
    bad = good;
    std::copy(bad.at(4, 1), bad.at(4, 1) + 3, bad.at(4, 4));
    CHECK(error_of(bad).find("frame 4: the bone left_hip to left_knee has no length") !=
          std::string::npos);
    bad = good;
    for (int j : {2, 5, 8}) std::copy(bad.at(0, 0), bad.at(0, 0) + 3, bad.at(0, j));
    CHECK_FALSE(error_of(bad).empty());
    bad = good;
    for (int64_t j : {1, 2, 16, 17}) std::copy(bad.at(3, 9), bad.at(3, 9) + 3, bad.at(3, j));
    CHECK(error_of(bad).find("frame 3: hips and shoulders") != std::string::npos);
    bad = good;
    bad.joints = 24;
    CHECK(error_of(bad).find("got 24") != std::string::npos);
    bad = good;
    bad.frames = 21;
    CHECK(error_of(bad).find("numbers") != std::string::npos);
    CHECK(error_of(slice(good, 0, 1)).find("at least 2") != std::string::npos);
    CHECK_THROWS_AS(slice(good, 5, 5), mc::Error);
    CHECK_THROWS_AS(slice(good, 0, 21), mc::Error);
    CHECK_THROWS_AS(slice(good, -1, 2), mc::Error);

    FeatureSequence f = motion_features(good);
    f.at(3)[100] = std::numeric_limits<float>::quiet_NaN();
    CHECK_THROWS_WITH_AS(joints_from_features(f),
                         "features: frame 3, column 100: nan is not a feature", mc::Error);
    f.dims = 262;
    CHECK_THROWS_AS(recover_root(f), mc::Error);
    CHECK_THROWS_AS(process(good, humanml3d_skeleton(), std::vector<Vec3>(3)), mc::Error);
}
