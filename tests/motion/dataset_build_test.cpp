#include "motion/dataset_build.h"

#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "kernels/error.h"
#include "motion/dataset.h"
#include "motion/features.h"
#include "motion/motion_file.h"
#include "tests/error_of.h"
#include "tests/synthetic_motion.h"
#include "tests/test_paths.h"

using namespace mc::motion;
namespace fs = std::filesystem;

namespace {

std::string slurp(const fs::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<std::string> lines_of(const fs::path& path) {
    std::vector<std::string> lines;
    std::istringstream in(slurp(path));
    for (std::string line; std::getline(in, line);) lines.push_back(line);
    return lines;
}

// A folder of synthetic motion capture and where to build.
struct Workshop {
    mc::testing::ScratchDir scratch;
    BuildOptions options;

    explicit Workshop(int64_t clips = 40, int64_t frames = 50) {
        options.mocap = scratch.path / "mocap";
        options.out = scratch.path / "out";
        mc::testing::write_synthetic_mocap(options.mocap, clips, frames);
        std::ofstream(options.mocap / "LICENSE-MADE.txt") << "free\n";
    }
    std::string error() const {
        return mc::testing::error_of([&] { build_dataset(options); });
    }
    void captions(const std::string& text) {
        std::ofstream(options.mocap / "captions.jsonl") << text;
    }
};

const std::string kLine =
    R"({"clip":"made_00_01","file":"made.npz","from":0,"to":40,"category":"walk","captions":["a"]})";

std::string with(std::string from, const std::string& to) {
    std::string line = kLine;
    line.replace(line.find(from), from.size(), to);
    return line + "\n";
}

}  // namespace

TEST_CASE("caption lines: words tagged OTHER, no stray separators") {
    CHECK(caption_line("A person's left-handed wave, twice") ==
          "A person's left-handed wave, twice#a/OTHER persons/OTHER lefthanded/OTHER wave/OTHER "
          "twice/OTHER#0.0#0.0");
    CHECK(caption_line(" turns #2\ntimes  ") == "turns 2 times#turns/OTHER times/OTHER#0.0#0.0");
    CHECK(caption_line("") == "##0.0#0.0");
}

TEST_CASE("build: a synthetic folder becomes a readable data set") {
    Workshop shop;
    int64_t calls = 0, last = 0;
    const BuildReport report = build_dataset(shop.options, [&](int64_t done, int64_t total) {
        ++calls;
        CHECK(done <= total);
        last = total;
    });
    // 40 clips, ten of them cut in two, one of those 50 lines bad.
    CHECK(report.segments == 50);
    CHECK(report.bad == 1);
    CHECK(report.too_short == 0);
    CHECK(report.clips == 98);
    CHECK(calls == 49);
    CHECK(last == 49);

    const fs::path& out = shop.options.out;
    const auto all = lines_of(out / "all.txt"), train = lines_of(out / "train.txt");
    const auto val = lines_of(out / "val.txt"), test = lines_of(out / "test.txt");
    CHECK(all.size() == 98);
    CHECK(train.size() + val.size() + test.size() == 98);
    CHECK(lines_of(out / "train_val.txt").size() == train.size() + val.size());
    CHECK_FALSE(val.empty());
    CHECK_FALSE(test.empty());
    std::map<std::string, std::string> split_of, trial_of;
    for (const auto& [list, name] : {std::pair{&train, "train"}, {&val, "val"}, {&test, "test"}})
        for (const auto& clip : *list) CHECK(split_of.emplace(clip, name).second);
    std::map<std::string, std::set<std::string>> splits_of_trial;
    for (const auto& line : lines_of(out / "categories.txt")) {
        std::istringstream fields(line);
        std::string name, category, clip;
        fields >> name >> category >> clip;
        splits_of_trial[clip].insert(split_of.at(name));
    }
    for (const auto& [clip, splits] : splits_of_trial) CHECK(splits.size() == 1);

    DatasetOptions read;
    read.root = out;
    read.split = "all";
    read.min_frames = 16;
    read.strict = true;
    const Dataset data = read_dataset(read);
    CHECK(data.samples.size() == 98);
    CHECK(data.total_frames() == report.rows);
    const MotionSample &plain = data.samples[0], &twin = data.samples[1];
    CHECK(plain.name == "000000");
    CHECK(twin.name == "M000000");
    CHECK(plain.frames == 49);
    CHECK(plain.category == "walk");
    CHECK(plain.captions.size() == 5);  // two captions, a paraphrase, two pool phrasings
    CHECK(plain.captions[4].text == "goes ahead on foot");
    const auto& wave = data.samples[4];
    CHECK(wave.captions[0].text == "a person waves with the right hand");
    CHECK(data.samples[5].captions[0].text == "a person waves with the left hand");

    const auto clip = mc::testing::synthetic_motion(mc::testing::Action::kWalk, 50, 0);
    CHECK(plain.features->rows == motion_features(clip).rows);
    CHECK(twin.features->rows == motion_features(mirror(clip, humanml3d_skeleton())).rows);
    const JointSequence joints = read_joints(out / "new_joints" / "000000.npy");
    CHECK(joints.xyz == joints_from_features(*plain.features).xyz);

    const Normalisation n = read_normalisation(out / "Mean.npy", out / "Std.npy");
    std::vector<double> mean(263, 0.0);
    for (const auto& s : data.samples)
        for (int64_t t = 0; t < s.frames; ++t)
            for (int64_t c = 0; c < 263; ++c)
                mean[static_cast<size_t>(c)] +=
                    s.features->at(t)[c] / static_cast<double>(report.rows);
    for (size_t c = 0; c < 263; ++c) CHECK(std::abs(n.mean[c] - mean[c]) < 1e-6);

    const auto about = nlohmann::json::parse(slurp(out / "dataset.json"));
    CHECK(about.at("counts").at("clips") == 98);
    CHECK(about.at("source").at("segments_by_archive").at("made.npz") == 50);
    CHECK(slurp(out / "LICENSE-MADE.txt") == "free\n");
    for (const auto& entry : fs::directory_iterator(shop.scratch.path))
        CHECK((entry.path() == shop.options.mocap || entry.path() == out));
}

TEST_CASE(
    "build: the same input gives the same bytes; an existing folder is replaced only when asked") {
    Workshop shop(12);
    build_dataset(shop.options);
    std::map<std::string, std::string> first;
    for (const auto& e : fs::recursive_directory_iterator(shop.options.out))
        if (e.is_regular_file()) first[fs::relative(e.path(), shop.options.out)] = slurp(e.path());
    CHECK(shop.error().find("is there already") != std::string::npos);
    shop.options.replace = true;
    build_dataset(shop.options);
    size_t files = 0;
    for (const auto& e : fs::recursive_directory_iterator(shop.options.out))
        if (e.is_regular_file()) {
            CHECK(first.at(fs::relative(e.path(), shop.options.out)) == slurp(e.path()));
            ++files;
        }
    CHECK(files == first.size());
    fs::remove(shop.options.out / "dataset.json");
    CHECK(shop.error().find("no data set of ours") != std::string::npos);
}

TEST_CASE("build: short segments, long ones, no twins") {
    Workshop shop(8, 450);
    shop.captions(
        with("40", "16") + with("40", "17") + with("\"to\":40", "\"to\":200") +
        with("\"to\":40", "\"to\":201") + with("\"to\":40", "\"to\":450") +
        R"({"clip":"made_01_01","file":"made.npz","from":0,"to":300,"category":"jump","captions":["b"]})"
        "\n");
    fs::remove(shop.options.mocap / "phrasings.jsonl");
    shop.options.mirror = false;
    const BuildReport report = build_dataset(shop.options);
    CHECK(report.too_short == 1);
    CHECK(report.too_long == 1);
    CHECK(report.windows == 5);
    CHECK(report.warnings.size() == 1);
    CHECK(lines_of(shop.options.out / "all.txt") ==
          std::vector<std::string>{"000001", "000002", "000003_w0", "000003_w1", "000004_w0",
                                   "000004_w1", "000004_w2"});
    DatasetOptions read;
    read.root = shop.options.out;
    read.split = "all";
    read.min_frames = 16;
    const Dataset data = read_dataset(read);
    CHECK(data.samples.size() == 7);
    CHECK(data.samples[1].frames == 199);
    CHECK(data.samples[2].frames + data.samples[3].frames == 200);
    CHECK(data.samples[4].frames + data.samples[5].frames + data.samples[6].frames == 449);
    CHECK(data.samples[6].captions[0].text == "a");
}

TEST_CASE("build: broken inputs are named in one line and leave nothing behind") {
    Workshop shop(4);
    const std::string where = (shop.options.mocap / "captions.jsonl").string();
    fs::remove(shop.options.mocap / "phrasings.jsonl");
    auto check = [&](const std::string& lines, const std::string& what) {
        CAPTURE(lines);
        shop.captions(lines);
        const std::string error = shop.error();
        CAPTURE(error);
        CHECK(error.find(what) != std::string::npos);
        CHECK(error.find('\n') == std::string::npos);
        CHECK_FALSE(fs::exists(shop.options.out));
        CHECK(std::distance(fs::directory_iterator(shop.scratch.path), {}) == 1);
    };
    check(kLine + "\n{not json\n", where + ":2: not a usable JSON line");
    check("[1, 2]\n", where + ":1: not a usable");
    check(with("\"from\":0", "\"from\":\"x\""), ":1: \"from\" is \"x\", want a whole number");
    check(with("\"from\":0", "\"from\":1.5"), ":1: \"from\" is 1.5, want a whole number");
    check(with("\"captions\"", "\"caption\""),
          where + ":1: not a usable JSON line: key 'captions' not found");
    check(std::string(1000, '[') + "\n", where + ":1: JSON nested more than 100 deep");
    check("\x93NUMPY\x01\n", where + ":1: not a usable JSON line: not JSON at byte 1");
    check(with("\"from\":0", "\"from\":-3"), "no range");
    check(with("\"from\":0", "\"from\":40"), "no range");
    check(with("\"to\":40", "\"to\":4000"), "but clip 'made_00_01' has 50");
    check(with("made_00_01", "made_77_01"), "clip 'made_77_01' is not in");
    check(with("made_00_01", "../../etc"), "no plain name");
    check(with("made.npz", "none.npz"), "none.npz: cannot read");
    check(with("[\"a\"]", "[]"), "no captions");
    check(with("[\"a\"]", "[\" \"]"), "a caption has no words");
    check(with("[\"a\"]", "[\"a\", \"\"]"), "a caption has no words");
    check("", "no segments");
    check(with("\"to\":40", "\"to\":5"), "no segment is left");
    shop.captions(kLine + "\n");
    const auto phrasing = [&](const std::string& segment, const std::string& text) {
        std::ofstream(shop.options.mocap / "phrasings.jsonl")
            << R"({"group":"g","segments":[)" << segment << R"(],"phrasings":[")" << text
            << "\"]}\n";
        return shop.error();
    };
    const std::string one = R"(["made_00_01",0,40])";
    CHECK(phrasing(R"(["made_00_01",0,41])", "x").find("segment made_00_01 0..41 is not in") !=
          std::string::npos);
    CHECK(phrasing(R"(["made_00_01",0,40.9])", "x")
              .find("phrasings.jsonl:1: the end in segment made_00_01 is 40.9, want a whole") !=
          std::string::npos);
    CHECK(phrasing(R"(["made_00_01",false,40])", "x").find("the begin in segment") !=
          std::string::npos);
    CHECK(phrasing(one, "").find("phrasings.jsonl:1: a phrasing has no words") !=
          std::string::npos);
    fs::remove(shop.options.mocap / "phrasings.jsonl");
    fs::remove(shop.options.mocap / "captions.jsonl");
    CHECK(shop.error() == where + ": cannot open");
    shop.captions(kLine + "\n");
    shop.options.min_frames = 0;
    CHECK(shop.error().find("1 <= min") != std::string::npos);
    shop.options.min_frames = 16;
    shop.options.out.clear();
    CHECK(shop.error().find("no folder is named") != std::string::npos);
    shop.options.out = shop.scratch.path / "out";
    fs::remove_all(shop.options.mocap / "joints");
    CHECK(shop.error().find("joints: no such folder") != std::string::npos);
}

TEST_CASE("build: NaN and joints without bones are named with archive, clip and frame") {
    Workshop shop(1);
    auto clip = mc::testing::synthetic_motion(mc::testing::Action::kWalk, 50);
    auto write = [&] {
        mc::NpzWriter npz(shop.options.mocap / "joints" / "made.npz");
        npz.add("made_00_01", {clip.frames, 22, 3}, clip.xyz.data());
        npz.commit();
        shop.captions(kLine + "\n");
        fs::remove(shop.options.mocap / "phrasings.jsonl");
    };
    std::copy(clip.at(12, 4), clip.at(12, 4) + 3, clip.at(12, 7));
    write();
    CHECK(
        shop.error().find("captions.jsonl:1: clip 'made_00_01': [features humanml3d] frame 12: the "
                          "bone left_knee to left_ankle") != std::string::npos);
    clip.at(20, 3)[0] = std::numeric_limits<float>::quiet_NaN();
    write();
    CHECK(shop.error().find("made.npz:made_00_01: frame 20, joint 3 (spine1): nan") !=
          std::string::npos);
}

TEST_CASE("build: the shared motion capture, in full") {
    if (!mc::testing::have_shared("data/mocap/captions.jsonl")) return;
    mc::testing::ScratchDir scratch;
    BuildOptions options;
    options.mocap = mc::testing::shared_dir() / "data" / "mocap";
    options.out = scratch.path / "out";
    const BuildReport report = build_dataset(options);
    CHECK(report.segments == 1293);
    CHECK(report.bad == 18);
    CHECK(report.clips == 2 * (1293 - 18 - report.too_short));
    CHECK(report.too_long == 0);
    const double clips = static_cast<double>(report.clips);
    CHECK(static_cast<double>(report.split_clips.at("test")) / clips ==
          doctest::Approx(0.11).epsilon(0.2));
    CHECK(static_cast<double>(report.split_clips.at("val")) / clips ==
          doctest::Approx(0.055).epsilon(0.3));
    for (const char* category : {"walk", "run", "jump", "kick", "dance", "sit", "throw"})
        CHECK(report.categories.at(category).at("test") >= 2);
    // Close to the published statistics: the same kind of motion on the same skeleton.
    const auto published = mc::testing::shared_dir() / "data/HumanML3D";
    if (!fs::exists(published / "Mean.npy")) return;
    const Normalisation ours =
        read_normalisation(options.out / "Mean.npy", options.out / "Std.npy");
    const Normalisation theirs = read_normalisation(published / "Mean.npy", published / "Std.npy");
    for (size_t c = 0; c < 263; ++c) {
        CHECK(std::abs(ours.mean[c] - theirs.mean[c]) < 1.6 * theirs.std[c]);
        CHECK(ours.std[c] < 2 * theirs.std[c]);
    }
}
