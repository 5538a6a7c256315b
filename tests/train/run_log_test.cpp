#include "train/run_log.h"

#include <doctest/doctest.h>

#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "kernels/error.h"
#include "tests/test_paths.h"

using namespace mc;
using namespace mc::train;
using mc::testing::ScratchDir;

namespace {

std::string text_of(const std::filesystem::path& path) {
    std::stringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
}

}  // namespace

TEST_CASE("run log: one JSON object a line, on the disk at once") {
    ScratchDir dir;
    const auto path = dir.path / "log.jsonl";
    RunLog log(path);
    log.write({{"step", 1}, {"loss", 0.5}});
    CHECK(text_of(path) == "{\"loss\":0.5,\"step\":1}\n");
    log.write({{"step", 2}, {"loss", std::numeric_limits<double>::quiet_NaN()}});
    log.write({{"text", "\xff"}});
    CHECK(text_of(path).find("{\"loss\":null,\"step\":2}\n") != std::string::npos);
}

TEST_CASE("run log: a resumed run drops the lines that it writes again") {
    ScratchDir dir;
    const auto path = dir.path / "log.jsonl";
    {
        RunLog log(path);
        log.write({{"config", "small"}});
        for (int step = 1; step <= 5; ++step) log.write({{"step", step}});
    }
    std::ofstream(path, std::ios::app) << "{\"step\":6,\"lo";  // killed while writing
    {
        RunLog log(path, 3);
        log.write({{"step", 4}, {"again", true}});
    }
    CHECK(text_of(path) ==
          "{\"config\":\"small\"}\n{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n"
          "{\"again\":true,\"step\":4}\n");
    CHECK_FALSE(mc::testing::has_temporaries(path.parent_path()));
    { RunLog log(path); }
    CHECK(text_of(path).empty());
}

TEST_CASE("run log: damaged lines go, a missing file begins, a wrong folder is an error") {
    ScratchDir dir;
    const auto path = dir.path / "log.jsonl";
    { RunLog log(path, 10); }
    CHECK(text_of(path).empty());
    std::ofstream(path) << "\n[1]\nnonsense\n{\"step\":\"x\"}\n" << std::string(5, '\0') << "\n";
    { RunLog log(path, 10); }
    CHECK(text_of(path) == "{\"step\":\"x\"}\n");
    CHECK_THROWS_WITH_AS(RunLog(dir.path / "no" / "log"), doctest::Contains("cannot write the log"),
                         Error);
}

TEST_CASE("run log: a full disk is an error with a remedy") {
    if (!std::filesystem::exists("/dev/full")) return;
    RunLog log("/dev/full");
    CHECK_THROWS_WITH_AS(log.write({{"step", 1}}), doctest::Contains("free some space"), Error);
}
