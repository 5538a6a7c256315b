#include "tools/common/motion_input.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "kernels/error.h"
#include "motion/features.h"
#include "motion/motion_file.h"
#include "motion/rig_bvh.h"
#include "tensor/formats/atomic_file.h"
#include "tests/motion/sample_motions.h"
#include "tests/run_program.h"
#include "tests/test_paths.h"

using namespace mc::motion;
using mc::testing::as_blender_writes;
using mc::testing::walking_rig;

namespace {

float highest(const JointSequence& joints) {
    float high = 0;
    for (size_t i = 1; i < joints.xyz.size(); i += 3) high = std::max(high, joints.xyz[i]);
    return high;
}

}  // namespace

TEST_CASE("motion input: a BVH that Blender wrote is the motion that it read") {
    mc::testing::ScratchDir scratch;
    const std::string path = (scratch.path / "walk.bvh").string();
    const Bvh ours = rig_to_bvh(fit_rig(rig_joints(walking_rig(97))));
    mc::write_text_file(path, format_bvh(as_blender_writes(ours)));
    std::vector<std::string> notes;
    const FeatureSequence features = mc::tools::read_motion_features(path, &notes);
    REQUIRE(notes.size() == 2);
    CHECK(notes[0] == path + ": has +Z up; turned to Y up");
    CHECK(notes[1] == path + ": 97 frames at 24 a second became 81 at 20");
    CHECK(features.frames == 80);
    CHECK(features.fps == 20);
    // Before, the figure lay along the floor and its head came out metres high.
    CHECK(highest(joints_from_features(features)) < 1.8f);
    const mc::testing::Outcome ran = mc::testing::run_program("evaluate", "--measure " + path);
    INFO(ran.text);
    CHECK(ran.status == 0);
    CHECK(ran.text.find("evaluate: warning: " + path + ": has +Z up") != std::string::npos);
}

TEST_CASE("motion input: other rates become the model's, rounded frame times are the rate meant") {
    mc::testing::ScratchDir scratch;
    const std::string path = (scratch.path / "walk.bvh").string();
    Bvh bvh = rig_to_bvh(fit_rig(rig_joints(walking_rig(61))));
    for (auto [time, frames] : {std::pair{0.033333, 41}, {0.05, 61}, {0.0499999, 61}}) {
        CAPTURE(time);
        bvh.frame_time = time;
        mc::write_text_file(path, format_bvh(bvh));
        std::vector<std::string> notes;
        const JointSequence joints = mc::tools::read_motion(path, &notes);
        CHECK(joints.frames == frames);
        CHECK(joints.fps == 20);
        CHECK(notes.size() == (frames == 61 ? 0 : 1));
    }
    bvh.frame_time = 1e5;
    mc::write_text_file(path, format_bvh(bvh));
    CHECK_THROWS_WITH(mc::tools::read_motion(path), doctest::Contains("walk.bvh: [resample]"));
}

TEST_CASE("motion input: a BVH comes in its skeleton's unit, whatever unit it was written in") {
    mc::testing::ScratchDir scratch;
    const std::string path = (scratch.path / "walk.bvh").string();
    for (const int64_t count : {22, 21}) {
        const RigMotion metres = fit_rig(rig_joints(walking_rig(40, 0.5, 1, count)));
        const double unit = count == 22 ? 1 : 1000;  // KIT's skeleton is in millimetres
        for (const auto& [factor, name] :
             {std::pair{1, ""}, {100, "centimetres"}, {1000, "millimetres"}}) {
            CAPTURE(count);
            CAPTURE(factor);
            mc::write_text_file(path, format_bvh(rig_to_bvh(scaled(metres, factor))));
            std::vector<std::string> notes;
            const JointSequence joints = mc::tools::read_motion(path, &notes);
            const auto error = mc::testing::joint_error(joints, rig_joints(scaled(metres, unit)));
            CHECK(error.worst < 5e-6 * unit);
            REQUIRE(notes.size() == (factor == 1 ? 0 : 1));
            if (factor != 1) CHECK(notes[0].find(name) != std::string::npos);
        }
    }
}

TEST_CASE("motion input: what the reader mended is passed on") {
    mc::testing::ScratchDir scratch;
    const std::string path = (scratch.path / "walk.bvh").string();
    std::string text = format_bvh(rig_to_bvh(fit_rig(rig_joints(walking_rig(10)))));
    std::ofstream(path) << text << "1 2 3\n";
    std::vector<std::string> notes;
    CHECK(mc::tools::read_motion(path, &notes).frames == 10);
    REQUIRE(notes.size() == 1);
    CHECK(notes[0].find("dropped an unfinished frame") != std::string::npos);
    std::ofstream(path) << text.substr(0, text.find("Frames:")) + "Frames: 0\nFrame Time: 0.05\n";
    CHECK_THROWS_WITH(mc::tools::read_motion(path), doctest::Contains("walk.bvh: has no frames"));
}

TEST_CASE("motion input: a mirrored figure is noticed, in a BVH and in joints") {
    mc::testing::ScratchDir scratch;
    const std::string joints_path = (scratch.path / "walk.npy").string(),
                      bvh_path = (scratch.path / "walk.bvh").string();
    const auto notes_of = [](const std::string& path) {
        std::vector<std::string> notes;
        mc::tools::read_motion_features(path, &notes);
        return notes;
    };
    for (const bool mirrored : {false, true}) {
        CAPTURE(mirrored);
        JointSequence walk = rig_joints(walking_rig(61, 0.5));
        Bvh bvh = rig_to_bvh(fit_rig(walk));
        if (mirrored) {
            for (size_t i = 0; i < walk.xyz.size(); i += 3) walk.xyz[i] = -walk.xyz[i];
            // x -> -x: offsets and the root's path change sides, rotations about Y and Z turn.
            for (BvhJoint& joint : bvh.joints) joint.offset.x *= -1;
            for (BvhJoint& joint : bvh.joints)
                for (size_t c = 0; c < joint.channels.size(); ++c)
                    for (int64_t t = 0; t < bvh.frames; ++t) {
                        const BvhChannel channel = joint.channels[c];
                        if (channel != BvhChannel::kXposition &&
                            channel != BvhChannel::kYrotation && channel != BvhChannel::kZrotation)
                            continue;
                        bvh.values[static_cast<size_t>(t * bvh.channels + joint.first_channel) +
                                   c] *= -1;
                    }
        }
        write_joints(joints_path, walk);
        mc::write_text_file(bvh_path, format_bvh(bvh));
        for (const std::string& path : {joints_path, bvh_path}) {
            const std::vector<std::string> notes = notes_of(path);
            REQUIRE(notes.size() == (mirrored ? 1 : 0));
            if (mirrored) CHECK(notes[0].starts_with(path + ": the feet point backward"));
        }
    }
}

TEST_CASE("motion input: frames to edit are ranges, and a list with any other piece is refused") {
    using Ranges = std::vector<std::pair<int64_t, int64_t>>;
    CHECK(mc::tools::frame_ranges("40:80") == Ranges{{40, 80}});
    CHECK(mc::tools::frame_ranges("40:80, 90:100") == Ranges{{40, 80}, {90, 100}});
    for (const char* list :
         {"", ",", "40:80,", ",40:80", "40:80,,90:100", "40", "40:", ":80", "40:80:", "40:80:90",
          "40-80", "4 0:80", "40:8x", "40:99999999999999999999"}) {
        CAPTURE(list);
        CHECK_THROWS_WITH_AS(mc::tools::frame_ranges(list), doctest::Contains("want A:B"),
                             mc::Error);
    }
    CHECK_THROWS_WITH_AS(mc::tools::frame_ranges("40:80,"),
                         doctest::Contains("--frames 40:80,: \"\" is no range"), mc::Error);
}
