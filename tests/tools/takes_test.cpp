#include "tools/common/takes.h"

#include <doctest/doctest.h>

#include <fstream>

#include "kernels/error.h"
#include "motion/features.h"
#include "motion/motion_file.h"
#include "motion/rig_bvh.h"
#include "tests/motion/sample_motions.h"
#include "tests/test_paths.h"

namespace fs = std::filesystem;
using namespace mc::tools;
using mc::testing::read_bytes;

namespace {

Take walk(double heading) {
    const mc::motion::JointSequence joints =
        mc::motion::rig_joints(mc::testing::walking_rig(41, heading));
    return {mc::motion::motion_features(joints), joints, "a walk"};
}

// What files are in a folder, in order.
std::string names(const fs::path& folder) {
    std::vector<std::string> all;
    for (const auto& entry : fs::directory_iterator(folder))
        all.push_back(entry.path().filename().string());
    std::ranges::sort(all);
    std::string list;
    for (const std::string& name : all) list += name + " ";
    return list;
}

}  // namespace

TEST_CASE("takes: another motion's files stay, and the same takes keep their names") {
    mc::testing::ScratchDir scratch;
    const fs::path out = scratch.path;
    const std::vector<Take> first = {walk(0)}, second = {walk(1)}, both = {walk(0), walk(1)};
    const auto write = [&](const std::vector<Take>& takes, const std::string& formats,
                           bool replace = false) {
        return write_takes(out, "walk", "a walk", takes, format_list(formats), replace);
    };
    CHECK(write(first, "npy,bvh").taken.empty());
    CHECK(names(out) == "walk.bvh walk.npy ");
    const std::string bytes = read_bytes(out / "walk.npy");

    WrittenTakes written = write(second, "npy");
    CHECK(written.taken == (out / "walk.npy").string());
    CHECK(written.files == std::vector<fs::path>{out / "walk-2.npy"});
    CHECK(read_bytes(out / "walk.npy") == bytes);
    // The same again, and a format more of it.
    CHECK(write(second, "npy,html").files[0] == out / "walk-2.npy");
    CHECK(write(first, "features").files[0] == out / "walk_features.npy");
    CHECK(names(out) == "walk-2.html walk-2.npy walk.bvh walk.npy walk_features.npy ");
    CHECK(mc::motion::read_features(out / "walk_features.npy").rows == first[0].features.rows);
    // Of another motion than walk.bvh and walk-2.npy, though neither would be written over.
    CHECK(write(second, "glb").files[0] == out / "walk-2.glb");
    CHECK(write({walk(2)}, "png").files[0] == out / "walk-3.png");
    // Several takes have one page, and it is another than that of one.
    written = write(both, "npy,html");
    CHECK(written.files ==
          std::vector<fs::path>{out / "walk_1.npy", out / "walk_2.npy", out / "walk.html"});
    CHECK(write(first, "html").files[0] == out / "walk-4.html");
    // A folder of that name is in the way, a device is not.
    fs::create_directory(out / "walk-5.npy");
    fs::create_symlink("/dev/null", out / "walk-6.npy");
    CHECK(write({walk(3)}, "npy").files[0] == out / "walk-6.npy");
    CHECK(fs::is_symlink(out / "walk-6.npy"));

    written = write(second, "npy", true);
    CHECK(written.taken.empty());
    CHECK(written.files[0] == out / "walk.npy");
    CHECK(read_bytes(out / "walk.npy") != bytes);
    CHECK(read_bytes(out / "walk.npy") == read_bytes(out / "walk-2.npy"));
}

TEST_CASE("takes: what replaces a motion leaves none of its files in another format") {
    mc::testing::ScratchDir scratch;
    const fs::path out = scratch.path;
    const std::vector<Take> first = {walk(0)}, second = {walk(1)};
    const auto write = [&](const std::vector<Take>& takes, const std::string& formats,
                           bool replace = true, const fs::path& source = {}) {
        return write_takes(out, "walk", "a walk", takes, format_list(formats), replace, source);
    };
    write(first, "glb,html,features");
    fs::create_directory(out / "walk.png");  // nobody's motion
    const std::string glb = read_bytes(out / "walk.glb");
    const WrittenTakes written = write(second, "bvh");
    CHECK(written.taken.empty());
    CHECK(written.files == std::vector<fs::path>{out / "walk_features.npy", out / "walk.bvh",
                                                 out / "walk.glb", out / "walk.html"});
    CHECK(names(out) == "walk.bvh walk.glb walk.html walk.png walk_features.npy ");
    CHECK(read_bytes(out / "walk.glb") != glb);
    CHECK(mc::motion::read_features(out / "walk_features.npy").rows == second[0].features.rows);
    // All is of one motion: written again, it needs no other name, and only what is asked for.
    fs::remove(out / "walk.png");
    CHECK(write(second, "bvh", false).files == std::vector<fs::path>{out / "walk.bvh"});
    CHECK(write(second, "bvh").files == std::vector<fs::path>{out / "walk.bvh"});

    // The motion that the takes were edited from stays, also in a format that is not asked for.
    const WrittenTakes edited = write(first, "npy", true, out / "walk_features.npy");
    CHECK(edited.taken == (out / "walk_features.npy").string());
    CHECK(edited.files == std::vector<fs::path>{out / "walk-2.npy"});
    CHECK(mc::motion::read_features(out / "walk_features.npy").rows == second[0].features.rows);
    CHECK(write({walk(2)}, "npy", true, out / "walk_features.npy").files ==
          std::vector<fs::path>{out / "walk-2.npy"});
}

TEST_CASE("takes: names of files and formats") {
    CHECK(file_stem("A person jumps, twice!") == "a_person_jumps_twice");
    CHECK(file_stem("../../etc/passwd") == "etc_passwd");
    CHECK(file_stem("\u4eba") == "motion");
    CHECK(file_stem(std::string(100, 'x')).size() == 40);
    CHECK(format_list("BVH, npy") == std::vector<std::string>{"bvh", "npy"});
    for (const char* list : {"gif", "", ",", "npy,", ",npy", "npy,,bvh", "npy;bvh"}) {
        CAPTURE(list);
        CHECK_THROWS_WITH_AS(format_list(list), doctest::Contains("is none of bvh"), mc::Error);
    }
}
