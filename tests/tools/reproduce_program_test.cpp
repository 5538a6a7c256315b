// Runs the built `reproduce` on recorded cases, on copies with an error in them, and on no cases.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "tensor/formats/safetensors.h"
#include "tests/error_of.h"
#include "tests/run_program.h"
#include "tests/test_paths.h"

namespace fs = std::filesystem;
using namespace mc;

using mc::testing::contains;

namespace {

using mc::testing::Outcome;

Outcome run(const std::string& arguments) {
    return mc::testing::run_program("reproduce", arguments);
}

bool built() {
    if (fs::exists(MOCLIP_BINARY_DIR "/bin/reproduce")) return true;
    MESSAGE("SKIPPED: the program reproduce is not built");
    return false;
}

fs::path cases() {
    return testing::source_dir() / "tests/reference";
}

}  // namespace

TEST_CASE("reproduce: small cases of the tree agree, in the table and in JSON") {
    if (!built()) return;
    testing::ScratchDir dir;
    const std::string json = (dir.path / "report.json").string();
    const Outcome outcome = run(cases().string() + " --filter moclip_train --filter length_est" +
                                " --threads 2 --json " + json);
    CHECK(outcome.status == 0);
    CHECK(contains(outcome.text, "own error"));
    CHECK(contains(outcome.text, "output.losses[grad norm]"));
    CHECK(contains(outcome.text, "4 of 4 cases reproduced"));
    std::ifstream in(json);
    const auto report = nlohmann::json::parse(in);
    CHECK(report["failed"] == 0);
    REQUIRE(report["cases"].size() == 4);
    for (const auto& result : report["cases"]) CHECK(result["passed"] == true);

    const Outcome plain =
        run((cases() / "momask_length_estimator.safetensors").string() + " --json -");
    CHECK(plain.status == 0);
    const auto printed = nlohmann::json::parse(plain.text, nullptr, false);
    REQUIRE(printed.is_object());
    CHECK(printed["cases"][0]["kind"] == "momask_length_estimator");
}

TEST_CASE("reproduce: one wrong number, an unknown kind, a torn file: status 1, and which") {
    if (!built()) return;
    testing::ScratchDir dir;
    const SafetensorsFile good(cases() / "momask_length_estimator.safetensors");
    NamedTensors tensors = good.all();
    for (auto& [name, tensor] : tensors)
        if (name == "output64.logits") {
            tensor = tensor.clone();
            tensor.data<double>()[3] += 1e-4;
        }
    const fs::path wrong = dir.path / "a.safetensors", poem = dir.path / "b.safetensors",
                   torn = dir.path / "c.safetensors";
    write_safetensors(wrong, tensors, good.metadata());
    write_safetensors(poem, {}, {{"case", "poem"}});
    std::ofstream(torn, std::ios::binary) << "\x40\x00\x00";
    const Outcome outcome = run(dir.path.string() + " --quiet");
    CHECK(outcome.status == 1);
    CHECK(contains(outcome.text, "FAILED: value off by 0.0001"));
    CHECK(contains(outcome.text, "16 ok, 1 failed"));
    CHECK(contains(outcome.text, "no runner for kind poem"));
    CHECK(contains(outcome.text, "c.safetensors"));
    CHECK(contains(outcome.text, "0 of 3 cases reproduced"));
}

TEST_CASE("reproduce: wrong usage is status 2, a folder or filter without cases 1; help") {
    if (!built()) return;
    testing::ScratchDir dir;
    CHECK(run("").status == 2);
    CHECK(run("/no/such/case.safetensors").status == 2);
    CHECK(run(cases().string() + " --what").status == 2);
    CHECK(run(cases().string() + " --device tpu").status == 2);
    const Outcome empty = run(dir.path.string());
    CHECK(empty.status == 1);
    CHECK(contains(empty.text, "no reference cases"));
    const Outcome none = run(cases().string() + " --filter nothing-is-called-so");
    CHECK(none.status == 1);
    CHECK(contains(none.text, "no case matches --filter"));
    const Outcome help = run("--help");
    CHECK(help.status == 0);
    for (const char* part : {"--filter", "--json", "--device", "--threads", "Examples:"})
        CHECK(contains(help.text, part));
}
