// Runs the built `evaluate` on good and broken files.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "motion/features.h"
#include "motion/motion_file.h"
#include "tests/run_program.h"
#include "tests/synthetic_motion.h"
#include "tests/test_paths.h"

namespace fs = std::filesystem;
using mc::testing::Action;

namespace {

using mc::testing::Outcome;

Outcome run(const std::string& arguments) {
    return mc::testing::run_program("evaluate", arguments);
}

bool built() {
    if (fs::exists(MOCLIP_BINARY_DIR "/bin/evaluate")) return true;
    MESSAGE("SKIPPED: the program evaluate is not built");
    return false;
}

const char* const kFacts =
    R"({"prompt": "goes on foot", "group": "walk", "checks": [{"fact": "path", "op": ">=", "value": 1}]}
{"prompt": "up in the air", "group": "jump", "checks": [{"fact": "airborne", "op": ">=", "value": 1}]}
)";

// facts.jsonl and the motions of two seeds: walks as joints, jumps as features.
void write_example(const std::string& dir) {
    std::ofstream(dir + "facts.jsonl") << kFacts;
    fs::create_directories(dir + "motions");
    for (int seed = 0; seed < 2; ++seed) {
        const auto s = static_cast<uint64_t>(seed);
        mc::motion::write_joints(dir + "motions/1_" + std::to_string(seed) + ".npy",
                                 mc::testing::synthetic_motion(Action::kWalk, 60, s));
        mc::motion::write_features(
            dir + "motions/2_" + std::to_string(seed) + ".npy",
            mc::motion::motion_features(mc::testing::synthetic_motion(Action::kJump, 60, s)));
    }
}

}  // namespace

TEST_CASE("evaluate: help has examples, wrong usage is status 2") {
    if (!built()) return;
    const Outcome help = run("--help");
    CHECK(help.status == 0);
    CHECK(help.text.find("evaluate --facts pretrained/facts/facts.jsonl") != std::string::npos);
    for (const char* arguments : {"", "--facts", "--facts x --motions y --seeds 0", "--bundle y",
                                  "--facts x --motions y --bundle z", "--facts x --seed -1",
                                  "--motions y", "--facts x --motions y --seeds many",
                                  "--facts x --list-facts", "--json x --list-facts"}) {
        CAPTURE(std::string(arguments));
        CHECK(run(arguments).status == 2);
    }
}

TEST_CASE("evaluate: scores a folder of motions, writes the report and the strips") {
    if (!built()) return;
    mc::testing::ScratchDir scratch;
    const std::string dir = scratch.path.string() + "/";
    write_example(dir);
    const Outcome outcome =
        run("--facts " + dir + "facts.jsonl --motions " + dir + "motions --seeds 2 --json " + dir +
            "r.json --strips " + dir + "s/t");
    CAPTURE(outcome.text);
    CHECK(outcome.status == 0);
    CHECK(outcome.text.find("100.0 %") != std::string::npos);
    const auto report = nlohmann::json::parse(std::ifstream(dir + "r.json"));
    CHECK(report["score"].get<double>() == 1);
    CHECK(report["seeds"].get<int>() == 2);
    CHECK(report["cases"][1]["runs"][1]["facts"]["airborne"].get<double>() >= 1);
    for (const char* name : {"1_0.png", "1_1.png", "2_0.png", "2_1.png"})
        CHECK(fs::file_size(dir + "s/t/" + name) > 1000);
    CHECK_FALSE(mc::testing::has_temporaries(dir));
}

TEST_CASE("evaluate: lists the facts and measures one motion") {
    if (!built()) return;
    mc::testing::ScratchDir scratch;
    const std::string dir = scratch.path.string() + "/";
    write_example(dir);
    const Outcome list = run("--list-facts");
    CHECK(list.status == 0);
    CHECK(list.text.find("pelvis_min") != std::string::npos);
    const Outcome one = run("--measure " + dir + "motions/2_0.npy");
    CHECK(one.status == 0);
    CHECK(one.text.find("air_height") != std::string::npos);
}

TEST_CASE("evaluate: failures are one line that names the file, and status 1") {
    if (!built()) return;
    mc::testing::ScratchDir scratch;
    const std::string dir = scratch.path.string() + "/";
    write_example(dir);
    std::ofstream(dir + "broken.jsonl") << kFacts << "{\"prompt\": \n";
    std::ofstream(dir + "empty.jsonl");
    std::ofstream(dir + "junk.npy") << "not an array";
    std::ofstream(dir + "file") << "in the way";
    fs::create_directories(dir + "cut");
    fs::copy_file(dir + "motions/1_0.npy", dir + "cut/1_0.npy");
    fs::resize_file(dir + "cut/1_0.npy", 500);
    const std::string motions = " --motions " + dir + "motions --seeds 2";
    const std::pair<std::string, std::string> broken[] = {
        {"--facts " + dir + "none.jsonl" + motions, "none.jsonl"},
        {"--facts " + dir + "broken.jsonl" + motions, "broken.jsonl:3: "},
        {"--facts " + dir + "empty.jsonl" + motions, "no line has a prompt"},
        {"--facts " + dir + "facts.jsonl --motions " + dir + "motions --seeds 3", "1_2.npy"},
        {"--facts " + dir + "facts.jsonl --motions " + dir + "none", "1_0.npy"},
        {"--facts " + dir + "facts.jsonl --motions " + dir + "cut", "cut/1_0.npy"},
        {"--facts " + dir + "facts.jsonl --strips " + dir + "file/s" + motions, "file/s"},
        {"--facts " + dir + "facts.jsonl --json " + dir + "no/r.json" + motions, "no/r.json"},
        {"--facts " + dir + "facts.jsonl --bundle " + dir + "none", "none"},
        {"--measure " + dir + "junk.npy", "junk.npy"},
    };
    for (const auto& [arguments, what] : broken) {
        CAPTURE(arguments);
        const Outcome outcome = run(arguments);
        CAPTURE(outcome.text);
        CHECK(outcome.status == 1);
        CHECK(outcome.text.find("evaluate: ") != std::string::npos);
        CHECK(outcome.text.find(what) != std::string::npos);
    }
}
