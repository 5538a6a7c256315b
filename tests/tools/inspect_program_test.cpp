// Runs the built `inspect` on good and broken files.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "tensor/formats/npy.h"
#include "tensor/formats/pytorch.h"
#include "tests/run_program.h"
#include "tests/test_paths.h"

namespace fs = std::filesystem;
using namespace mc;

namespace {

using mc::testing::Outcome;

Outcome run(const std::string& arguments) {
    return mc::testing::run_program("inspect", arguments);
}

bool built() {
    if (fs::exists(MOCLIP_BINARY_DIR "/bin/inspect")) return true;
    MESSAGE("SKIPPED: the program inspect is not built");
    return false;
}

bool has(const Outcome& outcome, const std::string& part) {
    INFO(outcome.text);
    return outcome.text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("inspect: names, types, shapes, values and sizes of every format") {
    if (!built()) return;
    testing::ScratchDir scratch;
    const std::string dir = scratch.path.string() + "/";
    const Tensor w = Tensor::from({1, 2, 3, 4, 5, 6}, {2, 3});
    write_safetensors(dir + "a.safetensors", {{"net.w", w}}, {{"licence", "MIT"}});
    const std::vector<float> values{1, -2, std::numeric_limits<float>::infinity()};
    write_npy(dir + "mean.npy", {3}, values.data());
    {
        NpzWriter npz(dir + "clips.npz");
        npz.add("clip", {1, 3}, values.data());
        npz.commit();
    }
    write_pytorch(dir + "net.tar", {{"vq_model", NamedTensors{{"w", w}, {"b", w}}},
                                    {"ep", int64_t{49}},
                                    {"name", std::string("a\x1b[2Jb\xc2\x9b\xe2\x80\xae"
                                                         "c\xc3\xa9")}});

    const Outcome safe = run(dir + "a.safetensors");
    CHECK(safe.status == 0);
    CHECK(has(safe, "a.safetensors: safetensors"));
    CHECK(has(safe, "licence = MIT"));
    CHECK(has(safe, "net.w  F32       (2, 3)"));
    CHECK(has(safe, "1 tensor, 6 elements, 24 bytes"));
    CHECK(has(run(dir + "clips.npz"), "clip  <f4       (1, 3)"));
    const Outcome stats = run("--stats " + dir + "mean.npy");
    CHECK(has(stats, "-2           1        -0.5  1 not finite"));

    const Outcome torch = run(dir + "net.tar");
    CHECK(torch.status == 0);
    CHECK(has(torch, "net.tar: PyTorch zip"));
    CHECK(has(torch, "ep = 49"));
    CHECK(has(torch, "vq_model.w  float32   (2, 3)"));
    CHECK(has(torch, "\\x1b[2J"));
    CHECK_FALSE(has(torch, "\x1b[2J"));
    CHECK(has(torch,
              "b\\xc2\\x9b\\xe2\\x80\\xae"
              "c\xc3\xa9"));  // letters stay
    CHECK(has(run("--below vq_model " + dir + "net.tar"), "  b     float32   (2, 3)"));

    const Outcome json = run("--json " + dir + "net.tar " + dir + "a.safetensors");
    const size_t end = json.text.find('\n');
    const auto first = nlohmann::json::parse(json.text.substr(0, end));
    CHECK(first["format"] == "PyTorch zip");
    CHECK(first["values"]["ep"] == 49);
    CHECK(first["values"]["vq_model"]["w"] == "<tensor>");
    CHECK(first["tensors"][0]["name"] == "vq_model.w");
    CHECK(first["tensors"][0]["shape"] == std::vector<int>{2, 3});
    CHECK(first["tensor_bytes"] == 48);
    const auto second = nlohmann::json::parse(json.text.substr(end + 1));
    CHECK(second["metadata"]["licence"] == "MIT");
    CHECK(second["tensors"][0]["dtype"] == "F32");
}

TEST_CASE("inspect: broken files are one line each, and the others are shown") {
    if (!built()) return;
    testing::ScratchDir scratch;
    const std::string dir = scratch.path.string() + "/";
    const float one = 1;
    write_npy(dir + "good.npy", {1}, &one);
    std::ofstream(dir + "bad.pt") << "\x80\x02"
                                  << "cos\nsystem\nX";
    const Outcome both = run(dir + "bad.pt " + dir + "good.npy");
    CHECK(both.status == 1);
    CHECK(has(both, "inspect: "));
    CHECK(has(both, "names os.system, which runs code"));
    CHECK(has(both, "good.npy: npy"));
    CHECK(run(dir + "absent").status == 1);
    CHECK(run("--below net " + dir + "good.npy").status == 1);
    CHECK(run("").status == 2);
    const Outcome help = run("--help");
    CHECK(help.status == 0);
    CHECK(has(help, "examples:"));
}
