// The programs end to end, as a user runs them: a made-up data set, every stage trained for a few
// steps, one of them killed and resumed, a bundle, motions from it, their BVH read again.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "motion/bvh.h"
#include "motion/features.h"
#include "motion/ik.h"
#include "motion/motion_file.h"
#include "motion/rig_bvh.h"
#include "tensor/formats/atomic_file.h"
#include "tensor/formats/pytorch.h"
#include "tensor/formats/safetensors.h"
#include "tests/motion/sample_motions.h"
#include "tests/tools/pipeline.h"

namespace fs = std::filesystem;
using namespace mc::testing;

TEST_CASE("programs: from a mocap folder to motions that read back") {
    Pipeline& p = pipeline();
    const std::string out = p.dir + "/out";
    must("generate", "\"a person waves\" --bundle " + p.bundle +
                         " --length 3 --count 2 --seed 5 --format bvh,html,npy,glb,png --out " +
                         out);
    for (int take = 1; take <= 2; ++take) {
        const std::string stem = out + "/a_person_waves_" + std::to_string(take);
        const auto joints = mc::motion::read_joints(stem + ".npy");
        CHECK(joints.frames == 60);
        const auto again = mc::motion::bvh_joints(mc::motion::read_bvh(stem + ".bvh"));
        REQUIRE(again.frames == joints.frames);
        double error = 0;
        for (size_t i = 0; i < joints.xyz.size(); i += 3)
            error += std::hypot(joints.xyz[i] - again.xyz[i], joints.xyz[i + 1] - again.xyz[i + 1],
                                joints.xyz[i + 2] - again.xyz[i + 2]);
        // The untrained model's figure is no body (its bones change length), so this is loose;
        // ik_test holds the centimetre.
        CHECK(error / static_cast<double>(joints.xyz.size() / 3) < 1.0);
        CHECK(fs::file_size(stem + ".glb") > 1000);
        CHECK(fs::file_size(stem + ".png") > 1000);
    }
    CHECK(bytes_of(out + "/a_person_waves.html").find("a person waves") != std::string::npos);
    // The same seed gives the same bits, whatever the number of threads.
    must("generate", "\"a person waves\" --bundle " + p.bundle +
                         " --length 3 --count 2 --seed 5 --threads 1 --format npy --out " + p.dir +
                         "/out1");
    CHECK(bytes_of(out + "/a_person_waves_2.npy") ==
          bytes_of(p.dir + "/out1/a_person_waves_2.npy"));
}

TEST_CASE("programs: another text encoder drops in") {
    Pipeline& p = pipeline();
    const std::string how = "\"a person waves\" --length 3 --format npy --bundle " + p.bundle;
    must("generate", how + " --out " + p.dir + "/swapped --text-encoder " + p.dir +
                         "/text/text_encoder.safetensors");
    CHECK(fs::exists(p.dir + "/swapped/a_person_waves.npy"));
    refuses("generate", how + " --text-encoder " + p.bundle + "/vq.safetensors", 1,
            "is it a CLIP text encoder?");
    refuses("generate", "x --checkpoints " + p.dir, 2, "--text-encoder");
    refuses("generate",
            "x --checkpoints " + p.dir + " --vocab " + p.dir + "/vocab.txt.gz --text-encoder " +
                p.dir + "/text/text_encoder.safetensors",
            1, "has no masked transformer");
}

TEST_CASE("programs: products in sixteen bits") {
    Pipeline& p = pipeline();
    const std::string how = "\"a person waves\" --length 3 --format npy --bundle " + p.bundle;
    for (const std::string precision : {"int16", "bf16"}) {
        const std::string out = p.dir + "/" + precision;
        must("generate", how + " --precision " + precision + " --out " + out);
        CHECK(fs::exists(out + "/a_person_waves.npy"));
    }
    refuses("generate", how + " --precision fp16", 1, "--device cuda");
    refuses("generate", how + " --precision int8", 2, "int16");
}

TEST_CASE("programs: the best of several candidates is kept") {
    Pipeline& p = pipeline();
    const std::string how = "\"a person waves\" --length 3 --format npy --bundle " + p.bundle;
    const auto cosine = [&](const std::string& more) {
        const Outcome ran = run_program("generate", how + " --out " + p.dir + "/best" + more);
        INFO(ran.text);
        REQUIRE(ran.status == 0);
        const size_t at = ran.text.find("words and motion ");
        REQUIRE(at != std::string::npos);
        return std::pair(std::stod(ran.text.substr(at + 17)),
                         ran.text.find("the best of 2 candidates") != std::string::npos);
    };
    const auto [bundles, two] = cosine("");
    CHECK(two);  // the bundle's own default
    const auto [alone, one] = cosine(" --candidates 1");
    CHECK_FALSE(one);
    CHECK(bundles >= alone);
    CHECK(cosine(" --candidates 9").first >= bundles);
    refuses("generate", how + " --candidates 0", 2, "--candidates");
    refuses("generate",
            how + " --candidates 2 --text-encoder " + p.dir + "/text/text_encoder.safetensors", 1,
            "no motion tower");
    const std::string bundle = "bundle --provenance x --data " + p.data + " --vocab " + p.dir +
                               "/vocab.txt.gz --vq " + p.dir + "/vq --masked " + p.dir +
                               "/masked --out " + p.dir + "/none ";
    const std::string text = p.dir + "/moclip/text_encoder.safetensors";
    refuses("train", bundle + "--candidates 2 --text " + text, 1, "--moclip");
    refuses("train", bundle + "--moclip " + text, 1, "motion_config");
    mc::StringMap about = mc::SafetensorsFile(p.dir + "/moclip/moclip.safetensors").metadata();
    about["motion_config"] = "{";
    mc::write_safetensors(p.dir + "/broken.safetensors", {}, about);
    refuses("train", bundle + "--moclip " + p.dir + "/broken.safetensors", 1,
            "broken.safetensors: the model configuration is not an object");
    refuses("train", bundle, 2, "--text");
    // The same towers as the public program saves them, with what their shapes do not tell.
    const std::string published = p.dir + "/moCLIP_l04_t2m.pth";
    mc::NamedTensors towers;
    for (const auto& [name, tensor] :
         mc::SafetensorsFile(p.dir + "/moclip/moclip.safetensors").all())
        if (name != "logit_matrix") towers.emplace_back(name, tensor.clone());
    mc::write_pytorch(published, towers);
    const std::string with = "bundle --provenance made-up --data " + p.data + " --vocab " + p.dir +
                             "/vocab.txt.gz --vq " + p.dir + "/vq --masked " + p.dir +
                             "/masked --candidates 2 --out " + p.dir + "/published --moclip ";
    const std::string told =
        " --set motion.heads=2 motion.input_space=metric_root_relative motion.pe_axis=time "
        "motion.key_padding_mask=true motion.pooling=attention";
    must("train", with + published + told);
    CHECK(bytes_of(p.dir + "/published/motion.safetensors") ==
          bytes_of(p.bundle + "/motion.safetensors"));
    const auto motion_of = [](const std::string& folder) {
        return nlohmann::json::parse(bytes_of(folder + "/bundle.json")).at("motion");
    };
    CHECK(motion_of(p.dir + "/published") == motion_of(p.bundle));
    refuses("train", bundle + "--moclip " + published + " --set motion.pooling=median", 1,
            "want one of mean_all");
    refuses("train", bundle + "--moclip " + published + " --set motion.pool=attention", 1,
            "did you mean");
    refuses("train", bundle + "--moclip " + p.dir + "/moclip/moclip.safetensors" + told, 1,
            "says itself what its motion tower is");
    refuses("train", bundle + "--text " + text + told, 1, "--moclip");
    // A run begins from another's towers.
    must("moclip_train", "--quiet --data " + p.data + " --text " + p.dir +
                             "/text/text_encoder.safetensors --vocab " + p.dir +
                             "/vocab.txt.gz --start " + p.dir + "/moclip --out " + p.dir +
                             "/moclip2 --set steps=1 frozen_share=0 batch=8 motion.width=32 "
                             "motion.heads=2 motion.layers=1 motion.part_dim=16 "
                             "motion.hidden_dim=16");
    CHECK(fs::exists(p.dir + "/moclip2/moclip.safetensors"));
}

TEST_CASE("programs: a run goes on with what it began with, and a bundle is of one tokenizer") {
    Pipeline& p = pipeline();
    must("train", "vq --out " + p.dir + "/vq_other" + p.vq_options + " seed=5");
    const std::string masked = "masked --resume --quiet --out " + p.dir + "/masked --data " +
                               p.data + p.text,
                      small =
                          " --set steps=4 batch=4 validate_every=2 model.latent_dim=32 "
                          "model.n_heads=2 model.n_layers=1 model.ff_size=64 model.code_dim=16";
    must("train", masked + "--vq " + p.dir + "/vq" + small);
    refuses("train", masked + "--vq " + p.dir + "/vq_other" + small, 1,
            "another configuration (made_with.tokenizer: ");
    refuses("train",
            "bundle --provenance x --data " + p.data + " --vq " + p.dir + "/vq_other --masked " +
                p.dir + "/masked --out " + p.dir + "/none" + p.text,
            1, "/masked: was trained on the tokens of another tokenizer than ");
    CHECK_FALSE(fs::exists(p.dir + "/none"));
    // Only a bundle is replaced.
    fs::create_directory(p.dir + "/taken");
    std::ofstream(p.dir + "/taken/thesis.txt") << "years";
    refuses("train",
            "bundle --replace --provenance x --data " + p.data + " --vq " + p.dir +
                "/vq --masked " + p.dir + "/masked --out " + p.dir + "/taken/" + p.text,
            1, "/taken: is no model bundle, so it is not replaced");
    CHECK(bytes_of(p.dir + "/taken/thesis.txt") == "years");
}

TEST_CASE("programs: an edit leaves every other row as it was") {
    Pipeline& p = pipeline();
    const std::string how = " --bundle " + p.bundle + " --format features,npy,bvh ";
    must("generate", "\"a person walks\" --length 4 --seed 3 --out " + p.dir + "/source" + how);
    const std::string source = p.dir + "/source/a_person_walks";
    must("generate", "\"a person jumps\" --edit " + source + "_features.npy --frames 18:40,60:64 " +
                         "--out " + p.dir + "/edited" + how);
    const auto before = mc::motion::read_features(source + "_features.npy");
    const auto after = mc::motion::read_features(p.dir + "/edited/a_person_jumps_features.npy");
    REQUIRE(before.frames == 80);
    REQUIRE(after.frames == 80);
    for (int64_t t = 0; t < before.frames; ++t) {
        const bool made = (t >= 18 && t < 40) || (t >= 60 && t < 64);
        CAPTURE(t);
        CHECK(std::equal(before.at(t), before.at(t) + before.dims, after.at(t)) == !made);
    }
    // The prompt may come last.
    must("generate", "--edit " + source + "_features.npy --frames 18:40 --frames 60:64 " +
                         "\"a person jumps\" --out " + p.dir + "/edited_last" + how);
    CHECK(bytes_of(p.dir + "/edited_last/a_person_jumps.npy") ==
          bytes_of(p.dir + "/edited/a_person_jumps.npy"));
    // What was made keeps its bits too when the same edit is asked for again, from joints or BVH it
    // is another motion (one row less), but it works.
    must("generate", "\"a person jumps\" --edit " + source + ".npy --frames 18:40 --out " + p.dir +
                         "/edited_joints" + how);
    must("generate", "\"a person jumps\" --edit " + source + ".bvh --frames 18:40 --out " + p.dir +
                         "/edited_bvh" + how);
    mc::write_text_file(
        p.dir + "/blender.bvh",
        mc::motion::format_bvh(as_blender_writes(mc::motion::read_bvh(source + ".bvh"))));
    const Outcome blender =
        run_program("generate", "\"a person jumps\" --frames 18:40 --edit " + p.dir +
                                    "/blender.bvh --out " + p.dir + "/edited_blender" + how);
    INFO(blender.text);
    CHECK(blender.status == 0);
    CHECK(blender.text.find("generate: warning: " + p.dir + "/blender.bvh: has +Z up") !=
          std::string::npos);
    CHECK(blender.text.find("80 frames at 24 a second became 66 at 20") != std::string::npos);
    const std::string edit =
        "x --out " + p.dir + "/bad --bundle " + p.bundle + " --edit " + source + "_features.npy ";
    refuses("generate", edit, 2, "--frames");
    refuses("generate", edit + "--frames 30", 1, "want A:B");
    refuses("generate", edit + "--frames 30:40,", 1, "\"\" is no range");
    refuses("generate", edit + "--frames 20:30 40:50", 1, "the prompt \"40:50\" has no word");
    refuses("generate", edit + "--frames 30:20", 1, "30:20");
    refuses("generate", edit + "--frames 70:90", 1, "70:90");
    refuses("generate", edit + "--frames 3:9 --length 4", 2, "--length");
    refuses("generate",
            "x --frames 3:9 --out " + p.dir + "/bad --bundle " + p.bundle + " --edit " + p.dir +
                "/vocab.txt.gz",
            1, "vocab.txt.gz");
}

TEST_CASE("programs: with locked feet joints and features are of one motion") {
    Pipeline& p = pipeline();
    must("generate",
         "\"a person walks\" --length 3 --seed 3 --lock-feet --format features,npy --out " + p.dir +
             "/locked --bundle " + p.bundle);
    const std::string stem = p.dir + "/locked/a_person_walks";
    const auto joints = mc::motion::read_joints(stem + ".npy");
    const auto again =
        mc::motion::joints_from_features(mc::motion::read_features(stem + "_features.npy"));
    CHECK(joints.frames == 60);
    REQUIRE(again.frames == 60);
    double worst = 0;
    for (size_t i = 0; i < joints.xyz.size(); ++i)
        worst = std::max(worst, std::fabs(static_cast<double>(joints.xyz[i] - again.xyz[i])));
    CHECK(worst < 1e-4);
}

TEST_CASE("programs: prompts from a file or standard input, with and without lengths") {
    Pipeline& p = pipeline();
    const std::string text =
                          "\xEF\xBB\xBF"
                          "a person walks # 2.5 \n\n  a person jumps\r\n",
                      file = p.dir + "/prompts.txt",
                      how = " --bundle " + p.bundle + " --format npy --out " + p.dir;
    std::ofstream(file) << text;
    must("generate", "--prompts " + file + how + "/prompted");
    must("generate", "--prompts - <" + file + how + "/piped");
    for (const std::string out : {"/prompted/", "/piped/"}) {
        CHECK(mc::motion::read_joints(p.dir + out + "001_a_person_walks.npy").frames == 48);
        CHECK(fs::exists(p.dir + out + "002_a_person_jumps.npy"));
    }
    const auto refused = [&](const std::string& lines, const std::string& words) {
        std::ofstream(file) << lines;
        refuses("generate", "--prompts " + file + how + "/refused", 1, "prompts.txt:" + words);
    };
    refused("a person walks\n #3\n", "2: the prompt \"\" has no word");
    refused("a person walks\n!\n", "2: the prompt \"!\" has no word");
    refused("a person walks#fast\n", "1: length fast is not");
    refused(" \n\n", " has no prompt");
    refuses("generate", "--prompts - </dev/null" + how + "/refused", 1,
            "standard input: has no prompt");
    const Outcome unquoted = run_program("generate", "person jumps" + how + "/unquoted");
    CHECK(unquoted.status == 0);
    CHECK(unquoted.text.find("2 prompts of one word each") != std::string::npos);
    CHECK(unquoted.text.find("Latin") == std::string::npos);

    std::ofstream(file) << "a person walks\nчеловек прыгает\n人跳\n";
    const Outcome foreign = run_program("generate", "--prompts " + file + how + "/foreign");
    INFO(foreign.text);
    CHECK(foreign.status == 0);
    CHECK(foreign.text.find("generate: warning: " + file +
                            ":2: this prompt and 1 more are not in Latin letters") !=
          std::string::npos);
    refuses("generate", "--prompts " + file + " --length 60" + how + "/refused", 1,
            "generate: --length: length 60");
}

TEST_CASE("programs: a training that is killed and resumed ends in the same bits") {
    Pipeline& p = pipeline();
    const std::string program = std::string(MOCLIP_BINARY_DIR) + "/bin/train",
                      out = p.dir + "/killed";
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        const std::string command =
            "exec " + program + " vq --out " + out + p.vq_options + ">/dev/null 2>&1";
        execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
        _exit(127);
    }
    for (int i = 0; i < 3000 && !fs::exists(out + "/latest.safetensors"); ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    must("train", "vq --resume --out " + out + p.vq_options);
    CHECK(bytes_of(out + "/latest.safetensors") == bytes_of(p.dir + "/vq/latest.safetensors"));
    refuses("train", "vq --out " + out + p.vq_options, 1, "--resume");
    refuses("train",
            "masked --out " + p.dir + "/wrong" + " --quiet --data " + p.data + " --vq " + p.dir +
                "/masked" + p.text,
            1, "stage");
}

TEST_CASE("programs: a run that is there already is noticed before any data is read") {
    Pipeline& p = pipeline();
    const std::string there = "a run is there already",
                      no_data = " --data " + p.dir + " --out " + p.dir;
    for (const std::string stage : {"masked", "residual", "length"})
        refuses("train", stage + no_data + "/" + stage + " --vq " + p.dir + "/vq" + p.text, 1,
                there);
    refuses("train", "vq" + no_data + "/vq", 1, there);
    refuses(
        "train",
        "text --teacher " + p.dir + " --vocab " + p.dir + "/vocab.txt.gz --out " + p.dir + "/text",
        1, there);
    refuses("moclip_train", no_data + "/moclip" + p.text, 1, there);
    // So are heads that do not share a width evenly, a tokenizer that is not the stage's, and a
    // schedule that is none.
    for (const std::string stage : {"masked", "residual", "bamm", "bad"})
        refuses("train",
                stage + no_data + "/new --vq " + p.dir + "/vq" + p.text + "--set model.n_heads=7",
                1, "is no multiple of its 7 heads");
    refuses("train",
            "bad --quiet --data " + p.dir + "/mocap --out " + p.dir + "/new --vq " + p.dir + "/vq" +
                p.text,
            1, "the tokenizer has 3 layers of codes");
    for (const std::string stage : {"masked", "residual", "length"})
        refuses("train",
                stage + no_data + "/new --vq " + p.dir + "/vq" + p.text + "--set schedule=poem", 1,
                "schedule is poem");
    refuses("train", "vq" + no_data + "/new --set schedule=poem", 1, "schedule is poem");
    refuses("moclip_train", no_data + "/new" + p.text + "--set schedule=poem", 1,
            "schedule is poem");
    // What cannot be begun with leaves no folder.
    const std::string no_run = " --data " + p.dir + " --out " + p.dir + "/never/run";
    refuses("train", "vq" + no_run, 1, "train.txt");
    for (const std::string stage : {"masked", "residual", "length"})
        refuses("train", stage + " --quiet" + no_run + " --vq " + p.dir + "/vq" + p.text, 1,
                "train.txt");
    refuses("moclip_train", no_run + p.text, 1, "train.txt");
    refuses("train",
            "text --teacher " + p.dir + " --vocab " + p.dir + "/vocab.txt.gz --out " + p.dir +
                "/never/run --start " + p.dir + "/vocab.txt.gz",
            1, "vocab.txt.gz");
    refuses("train",
            "vq --quiet --data " + p.data + " --out " + p.dir + "/never/run --start " + p.dir +
                "/masked",
            1, "stage masked");
    CHECK_FALSE(fs::exists(p.dir + "/never"));
    // The other stages take long to begin, and say what they do.
    const Outcome ran =
        run_program("train", "length --data " + p.data + " --vq " + p.dir + "/vq" + p.text +
                                 "--out " + p.dir + "/length_said --set steps=1 batch=4");
    CHECK(ran.status == 0);
    CHECK(ran.text.starts_with("reading " + p.data + ": its clips become tokens"));
}

TEST_CASE("programs: BAMM and BAD, trained, bundled, generating") {
    Pipeline& p = pipeline();
    const std::string few = " --set steps=4 batch=4 validate_every=2 save_every=2 ";
    must("train", "bamm --out " + p.dir + "/bamm" + p.token_options + few +
                      "model.latent_dim=32 model.n_heads=2 model.n_layers=1 model.ff_size=64 "
                      "model.code_dim=16");
    must("train", "vq --preset small-bad --out " + p.dir + "/vq1 --quiet --data " + p.data + few +
                      "window=32 model.width=32 model.code_dim=16 model.depth=1 model.nb_code=16");
    const std::string bad_model =
        few +
        "model.embed_dim=32 model.n_heads=2 model.ff_rate=2 model.base_layers=1 "
        "model.head_layers=1";
    const std::string on_one_codebook = " --quiet --data " + p.data + " --vq " + p.dir + "/vq1";
    must("train", "bad --out " + p.dir + "/bad_run" + on_one_codebook + p.text + bad_model);
    refuses("train", "bad --out " + p.dir + "/x" + p.token_options + bad_model, 1, "small-bad");

    const std::string bundle = "bundle --data " + p.data + p.text + "--provenance made-up ";
    must("train", bundle + "--vq " + p.dir + "/vq --bamm " + p.dir + "/bamm --residual " + p.dir +
                      "/residual --out " + p.dir + "/bundle_bamm");
    const std::string of_bad =
        bundle + "--vq " + p.dir + "/vq1 --bad " + p.dir + "/bad_run --length " + p.dir + "/length";
    must("train", of_bad + " --out " + p.dir + "/bundle_bad");
    refuses("train", of_bad + " --bamm " + p.dir + "/bamm --out " + p.dir + "/x", 1, "--bamm");
    refuses("train", of_bad + " --residual " + p.dir + "/residual --out " + p.dir + "/x", 1,
            "--residual");
    refuses("train", bundle + "--vq " + p.dir + "/vq --out " + p.dir + "/x", 1, "--masked");

    for (const std::string name : {"bamm", "bad"}) {
        const std::string with =
            "--generator " + name + " --bundle " + p.dir + "/bundle_" + name + " --format npy ";
        const std::string out = p.dir + "/made_" + name;
        must("generate", "\"a person waves\" --count 2 --seed 5 " + with + "--out " + out);
        must("generate",
             "\"a person waves\" --count 2 --seed 5 --threads 1 " + with + "--out " + out + "1");
        CHECK(bytes_of(out + "/a_person_waves_2.npy") == bytes_of(out + "1/a_person_waves_2.npy"));
        must("generate", "\"a person jumps\" --length 3 " + with + "--out " + out);
        CHECK(mc::motion::read_joints(out + "/a_person_jumps.npy").frames == 60);
        // An edit leaves every other row as it was.
        must("generate", "\"a person walks\" --length 4 --seed 3 --format features --out " + out +
                             " --generator " + name + " --bundle " + p.dir + "/bundle_" + name);
        const std::string source = out + "/a_person_walks_features.npy";
        must("generate", "\"a person waves\" --edit " + source +
                             " --frames 18:40 --format features --out " + out + " --generator " +
                             name + " --bundle " + p.dir + "/bundle_" + name);
        const auto before = mc::motion::read_features(source),
                   after = mc::motion::read_features(out + "/a_person_waves_features.npy");
        REQUIRE(after.frames == before.frames);
        for (int64_t t = 0; t < before.frames; ++t) {
            CAPTURE(t);
            CHECK(std::equal(before.at(t), before.at(t) + before.dims, after.at(t)) ==
                  (t < 18 || t >= 40));
        }
        refuses(
            "generate",
            "\"a person jumps\" --generator " + name + " --bundle " + p.bundle + " --out " + out, 1,
            "momask");
    }
}
