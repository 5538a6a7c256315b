// KIT-ML's layout through the programs: 251 columns, 21 joints, 12.5 frames a second, millimetres.
#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "models/clip/merge_file.h"
#include "models/clip/text_transformer.h"
#include "models/clip/tokenizer.h"
#include "motion/bvh.h"
#include "motion/figure.h"
#include "motion/motion_file.h"
#include "motion/statistics.h"
#include "tensor/formats/safetensors.h"
#include "tests/tiny_evaluator.h"
#include "tests/tools/pipeline.h"
#include "tools/common/motion_input.h"

namespace fs = std::filesystem;
using namespace mc;
using namespace mc::testing;

namespace {

constexpr int64_t kColumns = 251;

// Motions near a standing figure's mean, whose columns swing within KIT's own ranges.
void write_kit(const fs::path& root) {
    std::vector<double> mean(kColumns, 0.0), std(kColumns, 0.3);
    mean[3] = 560;
    for (int64_t c = 0; c < kColumns; ++c) {
        if (c < 3) std[c] = 0.02;
        if (c == 3 || (c >= 4 && c < 64)) std[c] = 90;
        if (c >= 4 && c < 64) mean[c] = c % 3 == 2 ? 500 + 7.0 * static_cast<double>(c) : 20.0;
    }
    fs::create_directories(root / "new_joint_vecs");
    fs::create_directories(root / "texts");
    std::ofstream train(root / "train.txt"), val(root / "val.txt"), test(root / "test.txt");
    for (int clip = 0; clip < 12; ++clip) {
        motion::FeatureSequence f;
        f.frames = 40 + clip;
        f.dims = kColumns;
        f.fps = 12.5;
        for (int64_t t = 0; t < f.frames; ++t)
            for (int64_t c = 0; c < kColumns; ++c)
                f.rows.push_back(static_cast<float>(
                    mean[c] + 0.3 * std[c] *
                                  std::sin(0.2 * static_cast<double>(t * (1 + clip % 3)) +
                                           static_cast<double>(c))));
        const std::string name = "0000" + std::to_string(clip);
        motion::write_features(root / "new_joint_vecs" / (name + ".npy"), f, false);
        std::ofstream(root / "texts" / (name + ".txt"))
            << "a person walks.#a/DET person/NOUN walk/VERB#nan#nan\r\n";
        (clip < 8 ? train : clip < 10 ? val : test) << name << "\r\n";
    }
    motion::write_normalisation({mean, std}, root / "Mean.npy", root / "Std.npy", true);
}

void write_text_tower(const fs::path& folder) {
    clip::write_maybe_gzip((folder / "vocab.txt.gz").string(), "#version: 0.2\nt h\nth e</w>\n");
    clip::TextConfig config;
    config.vocab = clip::Tokenizer::from_file((folder / "vocab.txt.gz").string()).vocab_size();
    config.context = 20;
    config.width = 64;
    config.heads = config.layers = 1;
    config.embed_dim = 16;
    Generator init(2);
    clip::TextTransformer tower(config, &init);
    const nn::TensorMap state = tower.state();
    write_safetensors(folder / "tower.safetensors", {state.begin(), state.end()}, {});
}

// Its stages, trained for two steps, and a bundle of them, with no setting that names the data set.
struct Kit {
    ScratchDir scratch;
    std::string dir = scratch.path.string(), data = dir + "/kit", bundle = dir + "/bundle";
    std::string text = " --text " + dir + "/tower.safetensors --vocab " + dir + "/vocab.txt.gz ";
    std::string moclip = text +
                         " --set steps=2 batch=4 motion.width=32 motion.heads=2 motion.layers=1 "
                         "motion.part_dim=16 motion.hidden_dim=16";
    std::string vq =
        " --set steps=2 batch=4 window=24 validate_every=2 model.width=32 model.code_dim=16 "
        "model.depth=1 model.nb_code=16 model.num_quantizers=2";
    std::string masked = " --vq " + dir + "/vq" + text +
                         "--set steps=2 batch=4 validate_every=2 model.latent_dim=32 "
                         "model.n_heads=2 model.n_layers=1 model.ff_size=64 model.code_dim=16";
    std::string parts =
        text + "--vq " + dir + "/vq --masked " + dir + "/masked --provenance made-up";

    Kit() {
        write_kit(data);
        write_text_tower(scratch.path);
        const std::string quiet = " --quiet --data " + data + " --out " + dir;
        for (const std::string mode : {"", " --mode reference"})
            must("moclip_train",
                 quiet + "/moclip" + (mode.empty() ? "" : "_reference") + mode + moclip);
        must("train", "vq" + quiet + "/vq" + vq);
        must("train", "masked" + quiet + "/masked" + masked);
        must("train", "bundle --data " + data + parts + " --out " + bundle);
    }
};

const Kit& kit() {
    static const Kit made;
    return made;
}

}  // namespace

TEST_CASE("KIT: every stage, a bundle and a motion, with no setting that names the data set") {
    const std::string dir = kit().dir;
    // Errors of decimetres, not of hundreds of metres.
    std::ifstream log(dir + "/vq/log.jsonl");
    double error = 0;
    for (std::string line; std::getline(log, line);)
        if (const auto record = nlohmann::json::parse(line); record.contains("validation"))
            error = record["validation"]["mpjpe_mm"];
    CHECK(error > 1);
    CHECK(error < 2000);
    must("generate", "\"a person walks\" --length 4 --format npy,bvh,glb --bundle " + dir +
                         "/bundle --out " + dir + "/out");
    const motion::JointSequence made = motion::read_joints(dir + "/out/a_person_walks.npy");
    CHECK(made.joints == 21);
    CHECK(made.frames == 48);  // of 50
    // Refused before a motion is made, not after it.
    refuses("generate",
            "\"a person walks\" --lock-feet --bundle " + dir + "/bundle --out " + dir + "/locked",
            1, "generate: --lock-feet: knows HumanML3D's feet");
    CHECK_FALSE(fs::exists(dir + "/locked"));
    // glTF is in metres, whatever the data set is in.
    const std::string glb = bytes_of(dir + "/out/a_person_walks.glb");
    const auto gltf = nlohmann::json::parse(glb.substr(20, glb.find(std::string("BIN\0", 4)) - 24));
    double reach = 0;
    for (const auto& node : gltf["nodes"])
        if (node.contains("translation"))
            for (const double x : node["translation"]) reach = std::max(reach, std::abs(x));
    CHECK(reach > 0.05);
    CHECK(reach < 3);
    // So is BVH, and it comes back as the joints that it was made of.
    const std::string bvh_path = dir + "/out/a_person_walks.bvh";
    const motion::Bvh bvh = motion::read_bvh(bvh_path);
    CHECK(bvh.frame_time == doctest::Approx(0.08));
    for (const motion::BvhJoint& joint : bvh.joints) CHECK(motion::length(joint.offset) < 1);
    const motion::JointSequence again = tools::read_motion(bvh_path);
    CHECK(again.frames == made.frames);
    CHECK(motion::figure_scale(again) == doctest::Approx(motion::figure_scale(made)).epsilon(0.01));
}

TEST_CASE("KIT: what is of other columns than the data set is refused before anything long") {
    const Kit& k = kit();
    const Pipeline& human = pipeline();
    const std::string t2m = k.dir + "/t2m";
    write_tiny_evaluator(
        t2m, motion::read_normalisation(human.data + "/Mean.npy", human.data + "/Std.npy"));
    const std::string evaluator = " --evaluator " + t2m;
    refuses("evaluate",
            "--data " + human.data + " --split all" + evaluator + " --bundle " + k.bundle, 1,
            "motions of " + k.bundle + " have 251 columns, the evaluator takes 263");
    refuses("evaluate", "--data " + k.data + evaluator + " --bundle " + human.bundle, 1,
            "motions of " + k.data + " have 251 columns");
    refuses("evaluate",
            "--facts " + (source_dir() / "pretrained/facts/facts.jsonl").string() + " --bundle " +
                k.bundle,
            1, "[facts] the generator's motions have 251 columns");
    const std::string as_kit = " --quiet --data " + human.data + " --out " + k.dir;
    refuses("train", "masked" + as_kit + "/none" + k.masked, 1,
            "the data set's motions have 263 columns, the tokenizer takes 251");
    refuses("train", "vq" + as_kit + "/none --start " + k.dir + "/vq" + k.vq, 1,
            "does not fit the model: wrong shape");
    refuses("moclip_train", as_kit + "/none --start " + k.dir + "/moclip" + k.moclip, 1,
            "does not fit the model: wrong shape");
    refuses("train", "bundle --data " + human.data + k.parts + " --out " + k.dir + "/no_bundle", 1,
            "normalisation of 263 columns for features of 251");
    refuses("generate",
            "\"a person walks\" --bundle " + k.bundle + " --edit " + human.data +
                "/new_joint_vecs/000000.npy --frames 4:8 --out " + k.dir + "/none",
            1, "the motion has 263 features a frame, this model 251");
}
