// What the programs say to bad input, broken bundles and a full disk: one clear line, and nothing
// half written.
#include <doctest/doctest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "tensor/formats/safetensors.h"
#include "tests/tools/pipeline.h"

namespace fs = std::filesystem;
using namespace mc::testing;

TEST_CASE("programs: bad input is one clear line") {
    Pipeline& p = pipeline();
    const std::string good = " --bundle " + p.bundle + " --out " + p.dir + "/bad ";
    refuses("generate", "--no-such-option", 2, "--help");
    refuses("generate", good, 1, "prompt");
    refuses("generate", "\"a person jumps\" --length 0" + good, 1, "length 0");
    refuses("generate", "\"a person jumps\" --length 60" + good, 1, "length 60");
    refuses("generate", "\"a person jumps\" --length 0.9" + good, 1, "1 to 9.8 seconds");
    refuses("generate", "\"a person jumps\" --length 9.9" + good, 1, "1 to 9.8 seconds");
    refuses("generate", "\"a person jumps\" --length nan" + good, 1, "1 to 9.8 seconds");
    refuses("generate", "\"a person jumps\" --format gif" + good, 1, "gif");
    refuses("generate", "\"a person jumps\" --seed -1" + good, 2, "--seed");
    refuses("generate", "\"a person jumps\" --seed 99999999999999999999" + good, 2, "--seed");
    refuses("generate", "\"a person jumps\" --guidance nan" + good, 2, "--guidance");
    refuses("generate", "\"a person jumps\" --top-k nan" + good, 2, "--top-k");
    refuses("generate", "\"a person jumps\" --temperature inf" + good, 2, "--temperature");
    refuses("train", "bundle --steps -1", 2, "--steps");
    refuses("train", "bundle --guidance nan", 2, "--guidance");
    refuses("train",
            "bundle --data " + p.data + p.text + "--vq " + p.dir + "/vq --masked " + p.dir +
                "/masked --provenance x --out " + p.data + "/all.txt/bundle",
            1, "all.txt/bundle: cannot make the folder: Not a directory; name another");
    refuses("generate", "\"$(printf 'a \\377 b')\"" + good, 1, "UTF-8");
    refuses("generate", "\"a person jumps\" --bundle " + p.dir + "/none", 1, "none/bundle.json");
    refuses("generate", "\"a person jumps\" --bundle " + p.bundle + " --out /proc/nowhere", 1,
            "--out");
    must("generate",
         "\"a person waves\" --format \"BVH, npy\" --out " + p.dir + "/spelt --bundle " + p.bundle);
    CHECK(fs::exists(p.dir + "/spelt/a_person_waves.bvh"));
    for (const std::string empty : {"", " ", "...", "40:80", "\u3000"})
        refuses("generate", "\"" + empty + "\"" + good, 1, "has no word");
    std::string words;
    for (int i = 0; i < 10000; ++i) words += "walk ";
    std::ofstream(p.dir + "/long.txt") << words << "\n";
    const Outcome ran =
        run_program("generate", "--format npy --prompts " + p.dir + "/long.txt" + good);
    INFO(ran.text);
    CHECK(ran.status == 0);  // cut, and said so once
    CHECK(ran.text.starts_with("generate: warning: \"walk walk"));
    CHECK(ran.text.find("only its first 75 tokens count") != std::string::npos);
    CHECK(ran.text.find("warning", 20) == std::string::npos);
    CHECK_FALSE(fs::exists(p.dir + "/bad/a_person_jumps.npy"));

    if (!fs::exists(mc::testing::source_dir() / "pretrained/bad"))
        refuses("generate", "\"a person jumps\" --generator bad --out " + p.dir + "/bad", 1,
                "pretrained/bad here; train one (TRAINING.md)");
    refuses("train", "vq --data " + p.dir + " --out " + p.dir + "/x", 1, "train.txt");
    refuses("train", "vq --data " + p.data + " --out " + p.dir + "/x --set modle.width=3", 1,
            "modle.width");
}

TEST_CASE("programs: a broken bundle is one clear line") {
    Pipeline& p = pipeline();
    const fs::path broken = p.dir + "/broken";
    auto fresh = [&] {
        fs::remove_all(broken);
        fs::copy(p.bundle, broken);
    };
    auto refused = [&](const std::string& words) {
        refuses("generate",
                "\"a person jumps\" --out " + p.dir + "/bad --bundle " + broken.string(), 1, words);
    };
    fresh();
    fs::remove(broken / "masked.safetensors");
    refused("masked.safetensors");
    fresh();
    fs::resize_file(broken / "vq.safetensors", fs::file_size(broken / "vq.safetensors") / 2);
    refused("vq.safetensors");
    fresh();
    std::ofstream(broken / "bundle.json") << "{";
    refused("bundle.json");
    fresh();
    {
        nlohmann::json info = nlohmann::json::parse(std::ifstream(broken / "bundle.json"));
        info["version"] = 99;
        std::ofstream(broken / "bundle.json") << info;
    }
    refused("99");
    for (const auto& [key, value] : std::map<std::string, nlohmann::json>{{"steps", -1},
                                                                          {"guidance", 1e300},
                                                                          {"top_k", "x"},
                                                                          {"temperature", -0.5},
                                                                          {"candidates", 1.5}}) {
        fresh();
        nlohmann::json info = nlohmann::json::parse(std::ifstream(broken / "bundle.json"));
        info["defaults"][key] = value;
        std::ofstream(broken / "bundle.json") << info;
        refused("bundle.json: defaults: \"" + key + "\" is " + value.dump() + ", want a ");
    }
    fresh();
    {
        nlohmann::json info = nlohmann::json::parse(std::ifstream(broken / "bundle.json"));
        info["masked"]["config"]["latent_dim"] = 64;
        std::ofstream(broken / "bundle.json") << info;
    }
    refused("wrong shape");
    fresh();
    fs::remove(broken / "motion.safetensors");
    refused("motion.safetensors");
    fresh();
    {
        nlohmann::json info = nlohmann::json::parse(std::ifstream(broken / "bundle.json"));
        info.erase("motion");
        std::ofstream(broken / "bundle.json") << info;
    }
    refused("candidates");
    fresh();
    {
        nlohmann::json info = nlohmann::json::parse(std::ifstream(broken / "bundle.json"));
        info["motion"]["config"]["pooling"] = "median";
        std::ofstream(broken / "bundle.json") << info;
    }
    refused("median");
    const auto set_last_weight = [&](const char* half) {
        std::fstream file(broken / "residual.safetensors",
                          std::ios::in | std::ios::out | std::ios::binary);
        file.seekp(-2, std::ios::end);
        file.write(half, 2);
    };
    fresh();
    set_last_weight("\x00\x3c");  // 1
    refused("residual.safetensors: is damaged, or of another bundle (CRC-32 ");
    fresh();
    std::ofstream(broken / "vocab.txt.gz", std::ios::app) << '\0';
    refused("vocab.txt.gz: is damaged");
    fresh();
    set_last_weight("\x00\x7e");  // NaN
    {
        nlohmann::json info = nlohmann::json::parse(std::ifstream(broken / "bundle.json"));
        CHECK(info["residual"].erase("weights_crc32") == 1);
        std::ofstream(broken / "bundle.json") << info;
    }
    refused("nan");
}

TEST_CASE("programs: a file beyond the limit of the shell is one clear line and no half") {
    Pipeline& p = pipeline();
    const std::string out = p.dir + "/limited";
    const Outcome ran = run_command("ulimit -f 200; exec " + std::string(MOCLIP_BINARY_DIR) +
                                    "/bin/train vq --out " + out + p.vq_options);
    CHECK(ran.status == 1);
    CHECK(ran.text == "train: " + out +
                          "/latest.safetensors: cannot write: File too large; raise the limit on a "
                          "file's size (ulimit -f) or write to another disk\n");
    CHECK(std::distance(fs::directory_iterator(out), {}) == 1);  // the log
}

// A file system of its own, so small that what is written does not fit. Needs unprivileged mounts.
TEST_CASE("programs: a full disk is one clear line and leaves nothing half written") {
    Pipeline& p = pipeline();
    const std::string disk = p.dir + "/disk";
    fs::create_directories(disk);
    const auto on_full_disk = [&](const std::string& command) {
        const std::string inside = "mount -t tmpfs -o size=20k full " + disk + " && { " + command +
                                   "; echo status $?; find " + disk + " -type f; }";
        return run_command("unshare -rm sh -c '" + inside + "'");
    };
    if (on_full_disk("true").status != 0) {
        MESSAGE("SKIPPED: no mounts without privileges here");
        return;
    }
    const std::string bin = std::string(MOCLIP_BINARY_DIR) + "/bin/";
    const auto refused = [&](const std::string& command, const std::string& kept) {
        const Outcome ran = on_full_disk(bin + command);
        INFO(command << "\n" << ran.text);
        const size_t end = ran.text.find('\n');
        CHECK(ran.text.substr(0, end).find("No space left on device; free some space") !=
              std::string::npos);
        CHECK(ran.text.substr(end + 1).starts_with("status 1\n" + kept));
        CHECK(ran.text.find(".tmp") == ran.text.rfind(".tmp", end));  // none but in the message
    };
    refused("generate \"a person waves\" --format html --bundle " + p.bundle + " --out " + disk +
                "/out",
            "");
    refused("motion dataset build --mocap " + p.dir + "/mocap --out " + disk + "/data", "");
    refused("train vq --out " + disk + "/vq" + p.vq_options, disk + "/vq/log.jsonl");
    refused("train bundle --data " + p.data + p.text + "--vq " + p.dir + "/vq --masked " + p.dir +
                "/masked --residual " + p.dir + "/residual --length " + p.dir +
                "/length --provenance made-up --out " + disk + "/bundle",
            "");
    refused("moclip_train --quiet --data " + p.data + " --text " + p.dir +
                "/text/text_encoder.safetensors --vocab " + p.dir + "/vocab.txt.gz --out " + disk +
                "/moclip --set steps=1 batch=8 motion.width=32 motion.heads=2 motion.layers=1 "
                "motion.part_dim=16 motion.hidden_dim=16",
            disk + "/moclip/log.jsonl");
}
