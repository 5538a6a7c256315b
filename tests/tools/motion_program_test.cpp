// Runs the built `motion` on good and broken files.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "motion/features.h"
#include "motion/motion_file.h"
#include "motion/rig_bvh.h"
#include "tensor/formats/atomic_file.h"
#include "tests/motion/sample_motions.h"
#include "tests/run_program.h"
#include "tests/synthetic_motion.h"
#include "tests/test_paths.h"

using namespace mc::motion;
namespace fs = std::filesystem;

namespace {

using mc::testing::Outcome;

Outcome run(const std::string& arguments) {
    return mc::testing::run_program("motion", arguments);
}

bool built() {
    if (fs::exists(MOCLIP_BINARY_DIR "/bin/motion")) return true;
    MESSAGE("SKIPPED: the program motion is not built");
    return false;
}

}  // namespace

TEST_CASE("motion: help has examples, wrong usage is status 2") {
    if (!built()) return;
    for (const char* arguments : {"--help", "dataset build --help"}) {
        const Outcome help = run(arguments);
        CHECK(help.status == 0);
        CHECK(help.text.find("motion dataset build --mocap") != std::string::npos);
    }
    for (const char* arguments : {"", "fly", "features", "dataset", "dataset build --mocap x",
                                  "dataset build --mocap x --out y --min-frames many"}) {
        CAPTURE(arguments);
        const Outcome wrong = run(arguments);
        CHECK(wrong.status == 2);
        CHECK(wrong.text.starts_with("motion: "));
        CHECK(wrong.text.ends_with(" --help\n"));
        CHECK(wrong.text.find('\n') == wrong.text.size() - 1);
    }
}

TEST_CASE("motion: features, joints and info of a file") {
    if (!built()) return;
    mc::testing::ScratchDir scratch;
    const std::string dir = scratch.path.string() + "/";
    const auto clip = mc::testing::synthetic_motion(mc::testing::Action::kWalk, 41);
    write_joints(dir + "j.npy", clip);
    CHECK(run("features " + dir + "j.npy " + dir + "f.npy").status == 0);
    CHECK(read_features(dir + "f.npy").rows == motion_features(clip).rows);
    CHECK(run("joints " + dir + "f.npy " + dir + "k.npy").status == 0);
    CHECK(read_joints(dir + "k.npy").frames == 40);
    CHECK(run("joints --from-rotations " + dir + "f.npy " + dir + "r.npy").status == 0);
    CHECK(run("features --as-is " + dir + "k.npy " + dir + "g.npy").status == 0);
    const Outcome info = run("info " + dir + "f.npy");
    CHECK(info.status == 0);
    CHECK(info.text.find("features of 40 frames x 263 columns (humanml3d)") != std::string::npos);
    CHECK(info.text.find("2.00 s at 20") != std::string::npos);
    if (fs::exists("/dev/full"))
        CHECK(mc::testing::run_command("(" MOCLIP_BINARY_DIR "/bin/motion info " + dir +
                                       "f.npy >/dev/full)")
                  .status == 1);
}

TEST_CASE("motion: features of a BVH are those of the joints in it") {
    if (!built()) return;
    mc::testing::ScratchDir scratch;
    const std::string dir = scratch.path.string() + "/";
    const Bvh bvh = rig_to_bvh(fit_rig(rig_joints(mc::testing::walking_rig(41))));
    mc::write_text_file(dir + "walk.bvh", format_bvh(bvh));
    write_joints(dir + "walk.npy", bvh_joints(parse_bvh(format_bvh(bvh), "walk")));
    for (const char* file : {"walk.bvh", "walk.npy"}) {
        const Outcome made = run("features " + dir + file + " " + dir + file + "_features.npy");
        CHECK(made.status == 0);
        CHECK(made.text.empty());
    }
    const FeatureSequence features = read_features(dir + "walk.bvh_features.npy");
    CHECK(features.frames == 40);
    CHECK(features.rows == read_features(dir + "walk.npy_features.npy").rows);
    mc::write_text_file(dir + "blender.bvh", format_bvh(mc::testing::as_blender_writes(bvh)));
    const Outcome turned = run("features " + dir + "blender.bvh " + dir + "f.npy");
    CHECK(turned.status == 0);
    CHECK(turned.text.find("motion: warning: " + dir + "blender.bvh: has +Z up") !=
          std::string::npos);
    // And back to a BVH, or a GLB, by the name; once files of joints with such names.
    CHECK(run("joints " + dir + "f.npy " + dir + "again.bvh").status == 0);
    const Bvh again = read_bvh(dir + "again.bvh");
    CHECK(mc::testing::joint_error(bvh_joints(again),
                                   joints_from_features(read_features(dir + "f.npy")))
              .mean < 0.01);
    CHECK(run("joints " + dir + "f.npy " + dir + "again.glb").status == 0);
    CHECK(mc::testing::read_bytes(dir + "again.glb").starts_with("glTF"));
    const Outcome info = run("info " + dir + "again.bvh");
    CHECK(info.status == 0);
    CHECK(info.text.find("joints of " + std::to_string(again.frames) + " frames x 22 joints") !=
          std::string::npos);
    // Rows of features have no features.
    CHECK(run("features " + dir + "f.npy " + dir + "g.npy").status == 1);
}

TEST_CASE("motion: failures are one line that names the file, and status 1") {
    if (!built()) return;
    mc::testing::ScratchDir scratch;
    const std::string dir = scratch.path.string() + "/";
    std::ofstream(dir + "junk.npy") << "not an array";
    for (const std::string& arguments : {"info " + dir + "junk.npy", "info " + dir + "none.npy",
                                         "features " + dir + "junk.npy " + dir + "o.npy",
                                         "joints " + dir + "junk.npy " + dir + "o.npy",
                                         "dataset build --mocap " + dir + " --out " + dir + "o"}) {
        CAPTURE(arguments);
        const Outcome outcome = run(arguments);
        CHECK(outcome.status == 1);
        CHECK(outcome.text.find(dir) != std::string::npos);
        CHECK(outcome.text.find('\n') == outcome.text.size() - 1);
        CHECK_FALSE(fs::exists(dir + "o.npy"));
    }
    mc::motion::write_joints(dir + "walk.npy",
                             mc::testing::synthetic_motion(mc::testing::Action::kWalk, 40));
    const Outcome onto = run("features " + dir + "walk.npy " + dir + "../" +
                             scratch.path.filename().string() + "/walk.npy");
    CHECK(onto.status == 1);
    CHECK(onto.text.find("walk.npy: is what is read, and would be lost") != std::string::npos);
    CHECK(read_joints(dir + "walk.npy").frames == 40);
}

TEST_CASE("motion dataset build: prints what it made") {
    if (!built()) return;
    mc::testing::ScratchDir scratch;
    const std::string dir = scratch.path.string() + "/";
    mc::testing::write_synthetic_mocap(scratch.path / "mocap", 12, 40);
    const std::string command = "dataset build --mocap " + dir + "mocap --out " + dir + "made";
    const Outcome outcome = run(command);
    CHECK(outcome.status == 0);
    CHECK(outcome.text.find("15 segments: 1 bad") != std::string::npos);
    CHECK(fs::exists(dir + "made/Mean.npy"));
    CHECK(run(command).status == 1);
    const Outcome again = run(command + " --replace --no-mirror --log");
    CHECK(again.status == 0);
    CHECK(again.text.find("\"clips\":14") != std::string::npos);
    CHECK(run("info " + dir + "mocap/joints/made.npz").text.find("12 arrays") != std::string::npos);
}
