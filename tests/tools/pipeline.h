// Every stage of the default pipeline trained by the programs for a few steps on a made-up data
// set, and a bundle of them.
#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "tests/run_program.h"
#include "tests/synthetic_motion.h"
#include "tests/synthetic_teacher.h"
#include "tests/test_paths.h"

namespace mc::testing {

inline void must(const std::string& program, const std::string& arguments) {
    const Outcome ran = run_program(program, arguments);
    INFO(program << " " << arguments << "\n" << ran.text);
    REQUIRE(ran.status == 0);
}

// One line, the right status, and the words that tell what is wrong.
inline void refuses(const std::string& program, const std::string& arguments, int status,
                    const std::string& words) {
    const Outcome ran = run_program(program, arguments);
    INFO(program << " " << arguments << "\n" << ran.text);
    CHECK(ran.status == status);
    CHECK(ran.text.find(words) != std::string::npos);
    if (status == 1) CHECK(std::count(ran.text.begin(), ran.text.end(), '\n') == 1);
}

inline std::string bytes_of(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    std::stringstream all;
    all << file.rdbuf();
    return all.str();
}

// Made once and shared by the test files.
struct Pipeline {
    ScratchDir scratch;
    std::string dir = scratch.path.string();
    std::string data = dir + "/data", bundle = dir + "/bundle", text, vq_options, token_options;

    Pipeline() {
        write_synthetic_mocap(scratch.path / "mocap", 48, 60);
        must("motion", "dataset build --mocap " + dir + "/mocap --out " + data);
        write_teacher(scratch.path);
        must("train", "vocab --sentences " + dir + "/sentences.txt " + dir +
                          "/mocap/captions.jsonl --merges 60 --min-count 1 --out " + dir +
                          "/vocab.txt.gz");
        must("train", "text --quiet --teacher " + dir + " --vocab " + dir + "/vocab.txt.gz --out " +
                          dir +
                          "/text --set steps=3 batch=6 group=2 validate_every=3 model.width=64 "
                          "model.layers=1 model.heads=1 "
                          "model.embed_dim=32");
        must("moclip_train", "--quiet --data " + data + " --text " + dir +
                                 "/text/text_encoder.safetensors --vocab " + dir +
                                 "/vocab.txt.gz --out " + dir +
                                 "/moclip --set steps=4 batch=8 validate_every=4 motion.width=32 "
                                 "motion.heads=2 motion.layers=1 "
                                 "motion.part_dim=16 motion.hidden_dim=16");
        text =
            " --text " + dir + "/moclip/text_encoder.safetensors --vocab " + dir + "/vocab.txt.gz ";
        vq_options = " --quiet --data " + data +
                     " --set steps=6 batch=4 window=32 validate_every=3 save_every=2 "
                     "model.width=32 model.code_dim=16 "
                     "model.depth=1 model.nb_code=16 model.num_quantizers=3 ";
        must("train", "vq --out " + dir + "/vq" + vq_options);
        token_options = " --quiet --data " + data + " --vq " + dir + "/vq" + text;
        const std::string small =
            " --set steps=4 batch=4 validate_every=2 model.latent_dim=32 model.n_heads=2 "
            "model.n_layers=1 "
            "model.ff_size=64 model.code_dim=16 ";
        must("train", "masked --out " + dir + "/masked" + token_options + small);
        must("train", "residual --out " + dir + "/residual" + token_options + small);
        must("train", "length --out " + dir + "/length" + token_options +
                          " --set steps=4 batch=4 validate_every=2");
        must("train", "bundle --data " + data + " --moclip " + dir + "/moclip/moclip.safetensors" +
                          " --candidates 2 --vocab " + dir + "/vocab.txt.gz --vq " + dir +
                          "/vq --masked " + dir + "/masked --residual " + dir +
                          "/residual --length " + dir + "/length --out " + bundle +
                          " --provenance made-up");
    }
};

inline Pipeline& pipeline() {
    static Pipeline made;
    return made;
}

}  // namespace mc::testing
