#include "tools/common/train_text.h"

#include <doctest/doctest.h>

#include <fstream>
#include <string>
#include <vector>

#include "models/clip/clip_text_encoder.h"
#include "tests/synthetic_teacher.h"
#include "tests/test_paths.h"

using namespace mc;
using mc::testing::ScratchDir;
using mc::testing::write_teacher;

namespace {

// The exit status of `train ARGS`, or what it threw.
std::string run(const std::vector<std::string>& args) {
    CLI::App app("demo", "train");
    app.require_subcommand(1);
    std::function<int()> action;
    tools::add_text_commands(app, action);
    std::vector<const char*> argv = {"train"};
    for (const std::string& arg : args) argv.push_back(arg.c_str());
    try {
        app.parse(static_cast<int>(argv.size()), argv.data());
        return std::to_string(action());
    } catch (const std::exception& e) {
        return e.what();
    }
}

}  // namespace

TEST_CASE("train: vocab, then text, then an encoder that loads") {
    ScratchDir dir;
    const std::string folder = dir.path.string(), vocab = folder + "/runs/vocab.txt.gz",
                      out = folder + "/run";
    write_teacher(dir.path);
    CHECK(run({"vocab", "--sentences", folder + "/sentences.txt", "--merges", "20", "--out",
               vocab}) == "0");
    std::vector<std::string> text = {"text",
                                     "--teacher",
                                     folder,
                                     "--vocab",
                                     vocab,
                                     "--out",
                                     out,
                                     "--quiet",
                                     "--threads",
                                     "1",
                                     "--steps",
                                     "3",
                                     "--batch",
                                     "6",
                                     "--set",
                                     "model.width=16",
                                     "model.layers=1",
                                     "model.heads=2",
                                     "model.embed_dim=8",
                                     "held_out_percent=20",
                                     "motion_sentences=30"};
    CHECK(run(text) == "0");
    clip::ClipTextEncoder encoder(out + "/text_encoder.safetensors", out + "/vocab.txt.gz");
    CHECK(encoder.encode({"walk", ""}).shape() == Shape{2, 8});
    CHECK(run(text).find("add --resume to go on") != std::string::npos);
    text.push_back("--resume");
    CHECK(run(text) == "0");
    text.push_back("--seed");
    text.push_back("5");
    CHECK(run(text).find("another configuration (seed: 3407, now 5)") != std::string::npos);
}

TEST_CASE("train: wrong text commands are refused") {
    ScratchDir dir;
    const std::string folder = dir.path.string();
    CHECK(run({"vocab", "--sentences", folder + "/none.txt", "--out", "x"}).find("none.txt") !=
          std::string::npos);
    CHECK(run({"text", "--teacher", folder, "--out", "x"}).find("--vocab") != std::string::npos);
    std::ofstream(dir.path / "vocab.txt") << "#version: 0.2\nt h\n";
    const std::vector<std::string> text = {
        "text", "--teacher", folder, "--vocab", folder + "/vocab.txt", "--out", folder + "/run"};
    CHECK(run(text).find("sentences.txt: cannot read it") != std::string::npos);
    auto typo = text;
    typo.insert(typo.end(), {"--set", "wdith=3"});
    CHECK(run(typo).find("wdith") != std::string::npos);
}
