#include "motion/dataset.h"

#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <set>

#include "kernels/error.h"
#include "motion/motion_file.h"
#include "tests/error_of.h"
#include "tests/test_paths.h"

using namespace mc::motion;

namespace {

namespace fs = std::filesystem;

// A data set written by hand: each clip a ramp, row t column c = t + c/1000.
struct Folder {
    mc::testing::ScratchDir scratch;
    std::string list;

    Folder() {
        for (const char* sub : {"new_joint_vecs", "texts"}) fs::create_directories(root() / sub);
    }
    const fs::path& root() const { return scratch.path; }

    void add(const std::string& name, int64_t frames, const std::string& text, int64_t dims = 263) {
        FeatureSequence f{frames, dims, 20, {}};
        for (int64_t t = 0; t < frames; ++t)
            for (int64_t c = 0; c < dims; ++c)
                f.rows.push_back(static_cast<float>(t) + static_cast<float>(c) / 1000);
        if (frames > 0) write_features(root() / "new_joint_vecs" / (name + ".npy"), f);
        std::ofstream(root() / "texts" / (name + ".txt")) << text;
        list += name + '\n';
        std::ofstream(root() / "train.txt") << list;
    }
    Dataset read(bool strict = false) const {
        DatasetOptions options;
        options.root = root();
        options.strict = strict;
        return read_dataset(options);
    }
};

std::vector<std::string> names(const Dataset& data) {
    std::vector<std::string> result;
    for (const auto& s : data.samples) result.push_back(s.name);
    return result;
}

std::string caption_error(const std::string& line) {
    return mc::testing::error_of([&] { parse_caption(line, "x.txt:3"); });
}

}  // namespace

TEST_CASE("caption lines: fields, nan, extra fields, broken ones") {
    const Caption c = parse_caption("  a man walks#a/DET man/NOUN walk/VERB#1.5#nan\r\n", "x");
    CHECK(c.text == "a man walks");
    CHECK(c.tokens == std::vector<std::string>{"a/DET", "man/NOUN", "walk/VERB"});
    CHECK(c.start == 1.5);
    CHECK(c.end == 0);
    CHECK_FALSE(c.whole());
    CHECK(parse_caption("a#b/X#nan#NaN#more#fields", "x").whole());
    CHECK(parse_caption("#"
                        "#0#0",
                        "x")
              .text.empty());
    CHECK(caption_error("a man walks") == "x.txt:3: got 1 fields, want caption#tokens#start#end");
    CHECK(caption_error("a#b#0.0").find("got 3 fields") != std::string::npos);
    CHECK(caption_error("a#b#0.0#soon").find("'soon' is no time") != std::string::npos);
    CHECK(caption_error("a#b#1e999#0").find("is no time") != std::string::npos);
    CHECK(caption_error("a#b##0").find("is no time") != std::string::npos);
}

TEST_CASE("more than 60 tokens cut the text to 60 words") {
    Caption c;
    for (int i = 0; i < 61; ++i) c.text += (i ? " w" : "w") + std::to_string(i);
    c.tokens.assign(60, "w/NOUN");
    CHECK(encoder_text(c) == c.text);
    c.tokens.push_back("w/NOUN");
    CHECK(encoder_text(c).ends_with(" w59"));
    c.text = "short";
    CHECK(encoder_text(c) == "short");
}

TEST_CASE("samples: wholes after their parts, lengths, shared rows") {
    Folder folder;
    folder.add(
        "000001", 100,
        "whole one#a/X#0.0#0.0\npart#b/X#1.0#4.02\nwhole two#c/X#nan#nan\ntoo short#d/X#0#1.5\n"
        "\nbeyond#e/X#1.0#99\n");
    folder.add("M000002", 40, "exactly the least#a/X#0#0\n");
    folder.add("000003", 39, "too short#a/X#0#0\n");
    folder.add("000004", 200, "too long#a/X#0#0\n");
    folder.add("000005", 199, "longest#a/X#0#0\n");
    folder.add("000006", 100, "only a part#a/X#2.0#4.0\n");
    std::ofstream(folder.root() / "categories.txt")
        << "000001\twalk\tcmu_01\t0\t101\nM000002\tjump\n";
    const Dataset data = folder.read(true);
    CHECK(names(data) == std::vector<std::string>{"000001#1", "000001#4", "000001", "M000002",
                                                  "000005", "000006#0"});
    CHECK(data.dims == 263);
    CHECK(data.fps == 20);
    CHECK(data.outside_length == 3);
    CHECK(data.warnings.empty());
    const MotionSample &part = data.samples[0], &beyond = data.samples[1], &whole = data.samples[2];
    CHECK(part.begin == 20);
    CHECK(part.frames == 60);
    CHECK(part.rows()[0] == 20.f);
    CHECK(part.features == whole.features);
    CHECK(beyond.frames == 80);
    CHECK(whole.captions.size() == 2);
    CHECK(whole.captions[1].text == "whole two");
    CHECK(whole.category == "walk");
    CHECK(part.category == "walk");
    CHECK(data.samples[3].category == "jump");
    CHECK(data.samples[3].mirrored());
    CHECK_FALSE(whole.mirrored());
    CHECK(data.samples[4].category.empty());
    CHECK(data.total_frames() == 60 + 80 + 100 + 40 + 199 + 40);

    DatasetOptions options;
    options.root = folder.root();
    options.sort_by_length = true;
    CHECK(names(read_dataset(options)) == std::vector<std::string>{"M000002", "000006#0",
                                                                   "000001#1", "000001#4", "000001",
                                                                   "000005"});
    options.min_frames = 16;
    options.seconds_to_frames = 12.5;
    CHECK(read_dataset(options).samples[0].frames == 18);  // int(0*12.5) to int(1.5*12.5)
}

TEST_CASE("broken clips are skipped with a warning, or refused when strict") {
    Folder folder;
    folder.add("000001", 50, "fine#a/X#0#0\n");
    folder.add("000002", 0, "no motion#a/X#0#0\n");
    folder.add("000003", 50, "part#a/X#0.0#2.0\nbroken line\nwhole#a/X#0#0\n");
    folder.add("000004", 50, "");
    folder.add("000005", 50, "narrow#a/X#0#0\n", 251);
    folder.add("007975", 50, "has nan#a/X#0#0\n");
    folder.add("../x", 0, "");
    FeatureSequence f{50, 263, 20, std::vector<float>(50 * 263, 1.f)};
    f.at(31)[7] = std::numeric_limits<float>::quiet_NaN();
    write_features(folder.root() / "new_joint_vecs" / "007975.npy", f);
    const Dataset data = folder.read();
    CHECK(names(data) == std::vector<std::string>{"000001", "000003#0"});
    REQUIRE(data.warnings.size() == 6);
    CHECK(data.warnings[0].find("000002.npy: cannot open") != std::string::npos);
    CHECK(data.warnings[1].find("000003.txt:2: got 1 fields") != std::string::npos);
    CHECK(data.warnings[2].find("000004.txt: no captions") != std::string::npos);
    CHECK(data.warnings[3].find("251 columns") != std::string::npos);
    CHECK(data.warnings[4].find("007975.npy: frame 31, column 7: nan") != std::string::npos);
    CHECK(data.warnings[5].find("no name of a clip") != std::string::npos);
    CHECK_THROWS_AS(folder.read(true), mc::Error);
}

TEST_CASE("a data set without a usable clip is an error that says why") {
    Folder folder;
    CHECK_THROWS_AS(folder.read(), mc::Error);
    folder.add("000001", 0, "no motion#a/X#0#0\n");
    try {
        folder.read();
        FAIL("no error");
    } catch (const mc::Error& e) {
        CHECK(std::string(e.what()).find("1 broken; first:") != std::string::npos);
    }
    std::ofstream(folder.root() / "categories.txt") << "no tab\n";
    CHECK_THROWS_AS(folder.read(), mc::Error);
}

TEST_CASE("training crops are whole units within the clip and reach every start") {
    for (int64_t length = 4; length < 200; ++length)
        for (int coin : {0, 1, 2}) {
            const int64_t single = 4 * (length / 4);
            const int64_t want = coin == 2 && length >= 8 ? single - 4 : single;
            std::set<int64_t> starts;
            for (uint64_t draw = 0; draw < 16; ++draw) {
                const Crop crop = training_crop(length, coin, draw);
                REQUIRE(crop.frames == want);
                REQUIRE(crop.start + crop.frames <= length);
                starts.insert(crop.start);
            }
            CHECK(static_cast<int64_t>(starts.size()) == length - want + 1);
        }
    CHECK(training_crop(199, 0, 3).frames == 196);
    CHECK(training_crop(199, 0, 3).start == 3);
    CHECK(training_crop(500, 0, ~uint64_t{0}).frames == 196);
    CHECK_THROWS_AS(training_crop(3, 0, 0), mc::Error);
    CHECK_THROWS_AS(training_crop(40, 3, 0), mc::Error);
}

TEST_CASE("a normalised crop ends in zero rows") {
    Folder folder;
    folder.add("000001", 50, "fine#a/X#0#0\n");
    const Dataset data = folder.read();
    Normalisation n{std::vector<double>(263, 1.0), std::vector<double>(263, 2.0)};
    std::vector<float> rows(196 * 263, 9.f);
    normalised_crop(data.samples[0], {2, 48}, n, 196, rows.data());
    CHECK(rows[0] == 0.5f);
    CHECK(rows[263 + 100] == doctest::Approx((3.1 - 1) / 2).epsilon(1e-6));
    CHECK(rows[47 * 263] == 24.f);
    for (size_t i = 48 * 263; i < rows.size(); ++i) REQUIRE(rows[i] == 0.f);
    CHECK_THROWS_AS(normalised_crop(data.samples[0], {3, 48}, n, 196, rows.data()), mc::Error);
    CHECK_THROWS_AS(normalised_crop(data.samples[0], {0, 48}, n, 40, rows.data()), mc::Error);
}

TEST_CASE("balanced weights give every category the same share") {
    std::vector<MotionSample> samples(5);
    for (size_t i = 0; i < 5; ++i) samples[i].category = i < 4 ? "walk" : "jump";
    CHECK(balanced_weights(samples)[4] == doctest::Approx(0.5));
    CHECK(balanced_weights(samples)[0] == doctest::Approx(0.125));
    CHECK(balanced_weights(samples, 0)[4] == doctest::Approx(0.2));
}

TEST_CASE("tokenizer windows follow the reference, first window twice and last start never") {
    std::vector<MotionSample> samples(4);
    for (size_t i = 0; i < 4; ++i) samples[i].frames = std::vector<int64_t>{64, 66, 30, 67}[i];
    const WindowIndex windows(samples, 64);
    REQUIRE(windows.size() == 5);
    std::vector<std::pair<size_t, int64_t>> places;
    for (int64_t k = 0; k < 5; ++k) places.emplace_back(windows.at(k).sample, windows.at(k).start);
    CHECK(places ==
          std::vector<std::pair<size_t, int64_t>>{{1, 0}, {1, 0}, {1, 1}, {3, 0}, {3, 1}});
    CHECK_THROWS_AS(windows.at(5), mc::Error);
    CHECK_THROWS_AS(windows.at(-1), mc::Error);
    CHECK_THROWS_AS(WindowIndex(samples, 67), mc::Error);
    CHECK_THROWS_AS(WindowIndex(samples, 0), mc::Error);
}
