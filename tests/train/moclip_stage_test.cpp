#include "train/moclip_stage.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <map>

#include "tests/error_of.h"
#include "tests/moclip_workshop.h"
#include "tests/reference_test.h"

using namespace mc;
using namespace mc::train;

namespace fs = std::filesystem;

namespace {

using Workshop = mc::testing::MoClipWorkshop;

bool same_bits(const Tensor& a, const Tensor& b) {
    return a.shape() == b.shape() &&
           std::memcmp(a.raw(), b.raw(), static_cast<size_t>(a.numel()) * size_of(a.dtype())) == 0;
}

}  // namespace

TEST_CASE("moclip stage: three recorded optimiser steps of either phase") {
    for (const std::string phase : {"phase1", "phase2", "phase2_lr1e-3"})
        testing::check_case("moclip_train_" + phase + ".safetensors");
}

TEST_CASE("moclip stage: resumed equals uninterrupted, across the release of the text tower") {
    const Workshop shop;
    const auto config = shop.config();
    const int threads = num_threads();
    set_num_threads(1);
    const auto whole = shop.stage(config);
    run_loop(*whole, shop.loop(config, shop.scratch.path / "whole"));
    set_num_threads(2);
    for (const int64_t stop : {3, 4, 6}) {  // before the switch at 4, at it, after it
        const fs::path out = shop.scratch.path / ("stop" + std::to_string(stop));
        {
            const auto stage = shop.stage(config);
            LoopOptions options = shop.loop(config, out);
            options.steps = stop;
            run_loop(*stage, options);
        }
        const auto stage = shop.stage(config);
        LoopOptions options = shop.loop(config, out);
        options.resume = true;
        CHECK(run_loop(*stage, options).steps == 8);
        CAPTURE(stop);
        const nn::TensorMap a = whole->model().state(), b = stage->model().state();
        REQUIRE(a.size() == b.size());
        for (const auto& [name, tensor] : a) CHECK_MESSAGE(same_bits(tensor, b.at(name)), name);
        REQUIRE(stage->frozen_recall());
        CHECK(stage->frozen_recall()->at3 == whole->frozen_recall()->at3);
    }
    set_num_threads(threads);
}

TEST_CASE("moclip stage: the first phase leaves the text tower alone, the second moves it") {
    const Workshop shop;
    const auto config = shop.config();
    const auto stage = shop.stage(config);
    const clip::TextTowerFile source = clip::read_text_tower(shop.tower());
    LoopOptions options = shop.loop(config, shop.scratch.path / "run");
    options.steps = 4;
    run_loop(*stage, options);
    CHECK_FALSE(stage->frozen_recall());
    for (const auto& [name, tensor] : source.state)
        CHECK_MESSAGE(same_bits(tensor, stage->model().state().at(name)), name);
    options.steps = 8;
    options.resume = true;
    const auto again = shop.stage(config);
    const LoopResult result = run_loop(*again, options);
    CHECK(result.train.contains("distill"));
    CHECK(again->frozen_recall()->pool > 1);

    // What is written drops in as a text encoder, and says where it comes from.
    const fs::path written = shop.scratch.path / "text_encoder.safetensors";
    again->write_text_encoder(written);
    const clip::TextTowerFile tuned = clip::read_text_tower(written);
    CHECK(tuned.config.heads == 2);
    CHECK(tuned.state.size() == source.state.size());
    CHECK_FALSE(same_bits(tuned.state.at("text_projection"), source.state.at("text_projection")));
    clip::ClipTextEncoder encoder(written, shop.vocabulary());
    CHECK(encoder.encode({"a person walks"}).size(1) == 8);
    const StringMap about = SafetensorsFile(written).metadata();
    CHECK(about.at("mode") == "paper");
    CHECK(about.at("dataset") == "data");
    CHECK(about.at("pe_axis") == "time");
    CHECK(about.at("parts") == "t2m6");
    again->write_model(shop.scratch.path / "moclip.safetensors");
    const SafetensorsFile whole(shop.scratch.path / "moclip.safetensors");
    CHECK(whole.find("motion.encoder.six_layers_v2.5.bias"));
    CHECK(whole.find("logit_matrix"));
    const auto [teacher_norm, student_norm] = again->text_norms();
    CHECK(teacher_norm > 0);
    CHECK(student_norm > 0);
}

TEST_CASE("moclip stage: motions and captions meet") {
    const Workshop shop;
    const auto config = shop.config({"steps=60", "frozen_share=0.8", "batch=12"});
    const auto stage = shop.stage(config);
    const double before = stage->validate().at("cosine");
    run_loop(*stage, shop.loop(config, shop.scratch.path / "run"));
    CHECK(stage->validate().at("cosine") > before + 0.2);
}

TEST_CASE("moclip stage: reference mode, naive mode, and the scale that a whole CLIP brings") {
    const Workshop shop;
    for (const std::vector<std::string>& settings :
         {std::vector<std::string>{"mode=reference", "motion.part_table=t2m8_compat", "steps=2"},
          std::vector<std::string>{"naive=true", "steps=2"}}) {
        const auto config = shop.config(settings);
        const auto stage = shop.stage(config);
        const bool reference = config.at("mode") == "reference";
        LoopOptions options = shop.loop(config, shop.scratch.path / (reference ? "r" : "n"));
        const LoopResult result = run_loop(*stage, options);
        CHECK(result.finished);
        CHECK(result.train.contains("alignment") == reference);
        CHECK(stage->model().state().contains("logit_matrix") != reference);
    }
    const clip::TextTowerFile source = clip::read_text_tower(shop.tower());
    NamedTensors all(source.state.begin(), source.state.end());
    all.emplace_back("logit_scale", Tensor::full({}, 4.0));
    const std::string path = (shop.scratch.path / "whole.safetensors").string();
    write_safetensors(path, all, {{"heads", "2"}});
    MoClipStage stage(moclip_stage_options(shop.config(), shop.data().string()), path,
                      shop.vocabulary());
    CHECK(stage.model().state().at("logit_matrix").item<float>({3, 3}) ==
          doctest::Approx(std::exp(4.0)));
    CHECK(stage.model().state().at("logit_matrix").item<float>({3, 2}) == 0);
}

TEST_CASE("moclip stage: reference mode makes a third of the crops a unit shorter") {
    const auto crop = [](int64_t length, float u, bool doubled) {
        const motion::Crop c = moclip_crop(length, u, doubled);
        return std::pair(c.start, c.frames);
    };
    CHECK(crop(47, 0.0f, false) == std::pair<int64_t, int64_t>(0, 44));
    CHECK(crop(47, 0.99f, false) == std::pair<int64_t, int64_t>(3, 44));
    CHECK(crop(199, 0.99f, false) == std::pair<int64_t, int64_t>(3, 196));
    CHECK(crop(47, 0.66f, true) == std::pair<int64_t, int64_t>(3, 44));
    CHECK(crop(47, 0.67f, true) == std::pair<int64_t, int64_t>(0, 40));
    CHECK(crop(47, 0.999f, true) == std::pair<int64_t, int64_t>(7, 40));
    CHECK(crop(199, 0.9999f, true) == std::pair<int64_t, int64_t>(7, 192));
    const Workshop shop;
    const auto doubled = [&](const std::string& mode) {
        return moclip_stage_options(shop.config({"mode=" + mode, "motion.part_table=t2m6"}),
                                    shop.data().string())
            .double_units;
    };
    CHECK(doubled("reference"));
    CHECK_FALSE(doubled("paper"));
}

TEST_CASE("moclip stage: reference mode cuts captions of more than 60 tokens to 60 words") {
    const Workshop shop;
    const MotionData whole(shop.motions.options);
    const std::string clip = whole.samples().front().clip;
    std::string text, tokens;
    for (int i = 0; i < 61; ++i) {
        text += (i ? " w" : "w") + std::to_string(i);
        tokens += i ? " w/NOUN" : "w/NOUN";
    }
    std::ofstream(shop.data() / "texts" / (clip + ".txt")) << text << "#" << tokens << "#0#0\n";
    const auto caption = [&](const std::string& mode) {
        MotionDataOptions options =
            moclip_stage_options(shop.config({"mode=" + mode, "motion.part_table=t2m6"}),
                                 shop.data().string())
                .data;
        options.min_frames = shop.motions.options.min_frames;
        const MotionData data(options);
        REQUIRE(data.samples().front().clip == clip);
        return data.samples().front().captions.front().text;
    };
    CHECK(caption("reference").ends_with(" w59"));
    CHECK(caption("paper") == text);
}

TEST_CASE("moclip stage: a collapsed motion tower finds nothing, a broken one is an error") {
    const Workshop shop;
    const auto stage = shop.stage(shop.config());
    nn::TensorMap state = stage->model().state();
    state.at("motion.proj.weight").fill_(0);  // every motion is the same point
    const MoClipStage::Recall recall = stage->retrieval("val");
    const double chance = 1.0 / static_cast<double>(recall.pool);
    CHECK(recall.at1 == doctest::Approx(chance).epsilon(1e-6));
    CHECK(recall.at3 == doctest::Approx(3 * chance).epsilon(1e-6));
    state.at("motion.proj.bias").fill_(std::nan(""));
    CHECK(mc::testing::error_of([&] { stage->retrieval("val"); }).find("nan") != std::string::npos);
}

TEST_CASE("moclip stage: settings that make no sense are errors") {
    const Workshop shop;
    const auto error = [&](const std::vector<std::string>& settings) -> std::string {
        return mc::testing::error_of([&] { shop.stage(shop.config(settings)); });
    };
    CHECK(error({"mode=poem"}).find("want paper or reference") != std::string::npos);
    CHECK(error({"motion.heads=5"}).find("motion.heads") != std::string::npos);
    CHECK(error({"motion.part_dim=15"}) ==
          "motion.part_dim 15 is odd; positions have one half of it, velocities the other");
    CHECK(error({"schedule=multi_step"}).find("want cosine") != std::string::npos);
    CHECK(error({"lr=0"}) ==
          "lr=0.0: want more than 0; the second phase's rates are in proportion to it");
    CHECK(error({"frozen_share=1.5"}).find("0 to 1") != std::string::npos);
    CHECK(error({"motion.part_table=t2m8_fixed"}).find("six parts") != std::string::npos);
    CHECK(error({"min_frames=3"}).find("min_frames=3: want 4 or more") != std::string::npos);
    const std::string val = (shop.data() / "val.txt").string();
    std::filesystem::copy_file(val, val + ".whole");
    std::string first;
    std::getline(std::ifstream(val), first);
    std::ofstream(val) << first << "\n";
    CHECK(error({}) == "[moclip] retrieval needs at least 2 motions in the val split, there are 1");
    std::filesystem::rename(val + ".whole", val);
    clip::write_maybe_gzip(shop.vocabulary(), "#version: 0.2\nt h\n");
    CHECK(error({}).find("name the vocabulary it was trained with") != std::string::npos);
}
