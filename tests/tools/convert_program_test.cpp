// Runs the built `convert` on tiny files in PyTorch's format: text encoders out and in again,
// public checkpoints to bundles that generate the same motion.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "models/clip/text_tower_file.h"
#include "tensor/formats/load_tensors.h"
#include "tests/public_checkpoints.h"
#include "tests/run_program.h"
#include "tests/test_paths.h"
#include "tests/tools/pipeline.h"

namespace fs = std::filesystem;
using namespace mc;

namespace {

using mc::testing::bytes_of;
using mc::testing::must;
using mc::testing::Outcome;

void refuses(const std::string& arguments, int status, const std::string& words) {
    testing::refuses("convert", arguments, status, words);
}

bool same(const clip::TextTowerFile& a, const clip::TextTowerFile& b) {
    if (a.state.size() != b.state.size()) return false;
    for (const auto& [name, tensor] : a.state) {
        const auto other = b.state.find(name);
        if (other == b.state.end() || !(other->second.shape() == tensor.shape()) ||
            other->second.to(DType::f32).to_vector<float>() !=
                tensor.to(DType::f32).to_vector<float>())
            return false;
    }
    return true;
}

}  // namespace

TEST_CASE("convert text: every layout and container reads back the same") {
    const testing::ScratchDir scratch;
    const std::string dir = scratch.path.string() + "/";
    const testing::PublicText text(scratch.path, 32);
    const clip::TextTowerFile tower = clip::read_text_tower(text.weights);
    for (const char* layout : {"openai", "huggingface"})
        for (const char* name : {"a.pt", "a.pth", "a.bin", "a.safetensors"}) {
            CAPTURE(layout);
            CAPTURE(name);
            must("convert",
                 "text " + text.weights.string() + " --out " + dir + name + " --layout " + layout);
            CHECK(same(clip::read_text_tower(dir + name), tower));
        }
    const TensorFile written = load_tensors(dir + "a.safetensors");
    CHECK(written.metadata.at("format") == "pt");
    CHECK(std::any_of(written.tensors.begin(), written.tensors.end(), [](const auto& e) {
        return e.first == "text_model.encoder.layers.0.self_attn.q_proj.weight";
    }));
    must("convert", "text " + text.weights.string() + " --out " + dir + "half.pt --dtype f16");
    const clip::TextTowerFile half = clip::read_text_tower(dir + "half.pt");
    CHECK(half.state.at("text_projection").dtype() == DType::f16);
    CHECK(half.state.at("ln_final.weight").dtype() == DType::f32);

    // A run or bundle folder stands for the encoder in it.
    fs::create_directories(scratch.path / "run");
    must("convert",
         "text " + text.weights.string() + " --out " + dir + "run/text_encoder.safetensors");
    must("convert", "text " + dir + "run --out " + dir + "of_run.pt");
    CHECK(same(clip::read_text_tower(dir + "of_run.pt"), tower));
}

TEST_CASE("convert text: into a whole CLIP, of which all else stays") {
    const testing::ScratchDir scratch;
    const std::string dir = scratch.path.string() + "/";
    const testing::PublicText text(scratch.path, 32);
    const clip::TextTowerFile tower = clip::read_text_tower(text.weights);
    NamedTensors whole{{"visual.proj", Tensor::full({3, 2}, 5).to(DType::f16)},
                       {"logit_scale", Tensor::full({}, 4.6)}};
    for (const auto& [name, tensor] : tower.state)
        whole.emplace_back(name, Tensor::zeros(tensor.shape()));
    write_pytorch(dir + "whole.pt", whole);
    must("convert",
         "text " + text.weights.string() + " --into " + dir + "whole.pt --out " + dir + "new.pt");
    CHECK(same(clip::read_text_tower(dir + "new.pt"), tower));
    const TensorFile file = load_tensors(dir + "new.pt");
    REQUIRE(file.tensors.size() == whole.size());
    CHECK(file.tensors[0].first == "visual.proj");
    CHECK(file.tensors[0].second.dtype() == DType::f16);
    CHECK(file.tensors[0].second.to(DType::f32).to_vector<float>() == std::vector<float>(6, 5));
    CHECK(file.tensors[1].second.to(DType::f32).to_vector<float>()[0] == doctest::Approx(4.6));

    const std::string into = "text " + text.weights.string() + " --into " + dir + "whole.pt ";
    refuses(into + "--out " + dir + "new.safetensors", 1, "want the format of");
    refuses(into + "--out " + dir + "x.pt --dtype f16", 2, "--dtype");
    refuses(into + "--out " + dir + "whole.pt", 1, "whole.pt: is what is read");
    fs::create_directories(scratch.path / "narrow");
    const testing::PublicText narrow(scratch.path / "narrow", 16);
    refuses("text " + narrow.weights.string() + " --into " + dir + "whole.pt --out " + dir + "x.pt",
            1, "embedding 32");
    CHECK_FALSE(fs::exists(scratch.path / "x.pt"));
}

TEST_CASE("convert bundle: public MoMask, BAMM and BAD generate the same from a bundle") {
    const testing::ScratchDir scratch;
    const std::string dir = scratch.path.string() + "/";
    const testing::PublicText text(scratch.path);
    testing::write_public_momask(scratch.path / "momask");
    testing::write_public_bamm(scratch.path / "bamm");
    testing::write_public_bad(scratch.path / "bad");
    const std::string encoder =
        " --text-encoder " + text.weights.string() + " --vocab " + text.vocabulary.string();
    for (const std::string name : {"momask", "bamm", "bad"}) {
        CAPTURE(name);
        const std::string as = " --generator " + name;
        const std::string bundle = dir + "bundle_" + name,
                          command = "bundle " + dir + name + as + encoder + " --out " + bundle;
        must("convert", command + " --dtype f32");
        const std::string prompt = "the --length 2 --steps 3 --format features --out " + dir;
        must("generate", prompt + "a_" + name + " --bundle " + bundle);
        must("generate", prompt + "b_" + name + " --checkpoints " + dir + name + as + encoder);
        const std::string made = bytes_of(dir + "a_" + name + "/the_features.npy");
        CHECK(made.size() > 1000);
        CHECK(made == bytes_of(dir + "b_" + name + "/the_features.npy"));

        refuses(command, 1, "--replace");
        must("convert", command + " --replace --licence ours --provenance \"made up\"");
        const auto info = nlohmann::json::parse(std::ifstream(bundle + "/bundle.json"));
        CHECK(info["licence"] == "ours");
        CHECK(info["provenance"] == "made up");
        CHECK(info["generator"] == name);
        must("generate", prompt + "c_" + name + " --bundle " + bundle);
    }
    const auto info = nlohmann::json::parse(std::ifstream(dir + "bundle_momask/bundle.json"));
    CHECK(info["vq"]["config"]["nb_code"] == 8);
    // Of another system; nothing is left half written.
    const std::string wrong = "bundle " + dir + "bamm" + encoder + " --out " + dir + "x";
    refuses(wrong, 1, "--generator bamm");
    CHECK_FALSE(fs::exists(dir + "x"));
    refuses("bundle " + dir + "momask" + encoder + " --generator bad --out " + dir + "x", 1,
            "output/vq/vq_last.pth");
    fs::create_directories(scratch.path / "narrow");
    const testing::PublicText narrow(scratch.path / "narrow", 256);
    refuses("bundle " + dir + "momask --text-encoder " + narrow.weights.string() + " --vocab " +
                narrow.vocabulary.string() + " --out " + dir + "x",
            1, "256 wide");
    CHECK_FALSE(fs::exists(dir + "x"));
    CHECK_FALSE(mc::testing::has_temporaries(dir));
}

TEST_CASE("convert: wrong usage, wrong files, help") {
    const testing::ScratchDir scratch;
    const std::string dir = scratch.path.string() + "/";
    const testing::PublicText text(scratch.path, 32);
    refuses("", 2, "--help");
    refuses("text " + dir + "none --out " + dir + "a.pt", 2, "none");
    refuses("text " + text.weights.string() + " --out " + dir + "a.txt", 1, ".safetensors");
    refuses("text " + text.weights.string() + " --out " + dir + "a.pt --layout jax", 2, "jax");
    refuses("text " + dir + " --out " + dir + "a.pt", 1, "has no text_encoder.safetensors");
    refuses("text " + text.vocabulary.string() + " --out " + dir + "a.pt", 1, "vocab.txt.gz");
    refuses("bundle " + dir + " --out " + dir + "x", 2, "--text-encoder");
    for (const char* command : {"--help", "text --help", "bundle --help"}) {
        const Outcome help = testing::run_program("convert", command);
        CHECK(help.status == 0);
        CHECK(help.text.find("Examples:") != std::string::npos);
    }
}
