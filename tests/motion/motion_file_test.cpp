#include "motion/motion_file.h"

#include <doctest/doctest.h>

#include <limits>

#include "kernels/error.h"
#include "motion/features.h"
#include "tests/error_of.h"
#include "tests/synthetic_motion.h"
#include "tests/test_paths.h"

using namespace mc::motion;

TEST_CASE("motion files: joints and features come back, float64 too") {
    mc::testing::ScratchDir scratch;
    const auto clip = mc::testing::synthetic_motion(mc::testing::Action::kTurn, 12);
    const auto rows = motion_features(clip);
    write_joints(scratch.path / "j.npy", clip);
    write_features(scratch.path / "f.npy", rows);
    CHECK(read_joints(scratch.path / "j.npy").xyz == clip.xyz);
    CHECK(read_features(scratch.path / "f.npy").rows == rows.rows);
    CHECK(read_features(scratch.path / "f.npy").fps == 20);
    const std::vector<double> wide(rows.rows.begin(), rows.rows.end());
    mc::write_npy(scratch.path / "d.npy", {rows.frames, rows.dims}, wide.data());
    CHECK(read_features(scratch.path / "d.npy").rows == rows.rows);
    const std::vector<float> kit(5 * 251, 0.5f);
    mc::write_npy(scratch.path / "k.npy", {5, 251}, kit.data());
    CHECK(read_features(scratch.path / "k.npy").fps == 12.5);
}

TEST_CASE("motion files: wrong shapes, types and numbers are refused with the file's name") {
    mc::testing::ScratchDir scratch;
    const auto path = scratch.path / "x.npy";
    const std::vector<float> ones(10 * 263, 1.f);
    auto joints = [&] { return mc::testing::error_of([&] { read_joints(path); }); };
    auto features = [&] { return mc::testing::error_of([&] { read_features(path); }); };
    mc::write_npy(path, {10, 263}, ones.data());
    CHECK(joints().find("x.npy: got shape (10, 263), want (frames, 22, 3)") != std::string::npos);
    mc::write_npy(path, {10, 100}, ones.data());
    CHECK(features().find("got shape (10, 100)") != std::string::npos);
    mc::write_npy(path, {0, 263}, ones.data());
    CHECK(features().find("0 frames") != std::string::npos);
    const std::vector<int64_t> whole(22 * 3, 1);
    mc::write_npy(path, {1, 22, 3}, whole.data());
    CHECK(joints().find("want float32 or float64") != std::string::npos);
    std::vector<float> bad(3 * 66, 1.f);
    bad[66 + 3 * 5 + 1] = std::numeric_limits<float>::infinity();
    mc::write_npy(path, {3, 22, 3}, bad.data());
    CHECK(joints().find("x.npy: frame 1, joint 5 (right_knee): inf") != std::string::npos);
}
