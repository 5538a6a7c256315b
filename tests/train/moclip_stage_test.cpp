#include "train/moclip_stage.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <map>

#include "models/config_json.h"
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

// Trains a little, writes the model, makes the tower anew of what the file says, and wants the same
// embeddings.
moclip::MotionEncoderConfig trained_and_read(const Workshop& shop,
                                             const std::vector<std::string>& settings,
                                             const std::string& name) {
    const nlohmann::json config = shop.config(settings);
    const auto stage = shop.stage(config);
    CHECK(run_loop(*stage, shop.loop(config, shop.scratch.path / name)).finished);
    const fs::path path = shop.scratch.path / (name + ".safetensors");
    stage->write_model(path);
    const SafetensorsFile file(path);
    const auto about = nlohmann::json::parse(file.metadata().at("motion_config"));
    moclip::MotionEncoder tower(motion_encoder_config(about, name), nullptr);
    nn::TensorMap state;
    for (const auto& [key, tensor] : file.all())
        if (key.starts_with("motion.")) state[key.substr(7)] = tensor;
    tower.load(state);
    const Tensor joints = Generator(5).normal({2, 8, 22, 3});
    CHECK(same_bits(tower(joints, {8, 5}, {}).value(),
                    stage->model().motion(joints, {8, 5}, {}).value()));
    return tower.config();
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

TEST_CASE("moclip stage: the tower's options are the mode's where the group motion has none") {
    const Workshop shop;
    const auto tower = [&](const std::vector<std::string>& settings) {
        return to_json(moclip_stage_options(shop.config(settings), shop.data().string()).motion);
    };
    const std::vector<const char*> keys = {
        "input_space", "limb_attention", "pe_axis", "pe_kind",          "pe_rows",
        "parts",       "standardise",    "edges",   "key_padding_mask", "pooling"};
    nlohmann::json paper = to_json(moclip::MotionEncoderConfig::paper()),
                   reference = to_json(moclip::MotionEncoderConfig::reference());
    for (const char* key : keys) {
        CAPTURE(key);
        CHECK(tower({})[key] == paper[key]);
        CHECK(tower({"mode=reference"})[key] == reference[key]);
        // A run from before there were such keys goes on.
        CHECK_FALSE(without_nulls(shop.config())["motion"].contains(key));
    }
    CHECK(tower({"motion.pooling=mean_valid"})["pooling"] == "mean_valid");
    CHECK(tower({"naive=true"})["pe_axis"] == "none");
    CHECK(tower({"naive=true", "motion.pe_axis=time"})["pe_axis"] == "time");
    CHECK(tower({"motion.limb_attention=false"})["limb_attention"] == false);
}

TEST_CASE("moclip stage: learned positions are trained, saved and read again") {
    const Workshop shop;
    for (const std::string mode : {"paper", "reference"}) {
        CAPTURE(mode);
        const auto settings = [&](const std::string& rows) {
            return std::vector<std::string>{
                "mode=" + mode,
                mode == "paper" ? "motion.part_table=t2m6" : "motion.part_table=t2m8_compat",
                "steps=2", "motion.pe_kind=learned", "motion.pe_rows=" + rows};
        };
        const auto config = trained_and_read(shop, settings("70"), mode);
        CHECK(config.position_kind == moclip::PositionKind::learned);
        CHECK(config.position_rows == 70);
        const SafetensorsFile file(shop.scratch.path / (mode + ".safetensors"));
        CHECK(file.metadata().at("pe_kind") == "learned");
        const Tensor table = file.get("motion.position_enc.pe");
        const Tensor formula = nn::sinusoidal_positions(70, 12);
        CHECK_FALSE(same_bits(table.reshape({70, 12}), formula));
        CHECK(
            mc::testing::error_of([&] { shop.stage(shop.config(settings("12"))); }) ==
            (mode == "paper"
                 ? "motion.pe_rows=12: a motion has up to 28 frames; set motion.pe_rows=28 or more"
                 : "motion.pe_rows=12: up to 64 motions are embedded at once; set "
                   "motion.pe_rows=64 or more"));
    }
}

TEST_CASE("moclip stage: parts of one's own are trained, saved and read again") {
    const Workshop shop;
    const std::vector<std::string> settings = {
        "mode=reference", "steps=2", "motion.part_table=custom",
        "motion.parts=[[0,1,2,3,4,5,6,7,8,9,10],[11,12,13,14,15,16,17,18,19,20,21,0]]"};
    const auto config = trained_and_read(shop, settings, "custom");
    CHECK(config.part_table == "custom");
    REQUIRE(config.parts.size() == 2);
    CHECK(config.parts[1].back() == 0);
    const auto error = [&](const std::string& parts) {
        return mc::testing::error_of([&] {
            shop.stage(shop.config({"mode=reference", "motion.part_table=custom", parts}));
        });
    };
    CHECK(error("motion.parts=null").find("part_table=custom has no parts") != std::string::npos);
    CHECK(error("motion.parts=[[0,1]]") == "the group motion: joint 2 is in none of the parts");
    CHECK(error("motion.parts=0,1").find("want lists of whole numbers") != std::string::npos);
    // KIT-ML's joints on HumanML3D's skeleton.
    CHECK(error("motion.parts=[[0,1,2,3,4,5,6,7,8,9,10],[11,12,13,14,15,16,17,18,19,20]]") ==
          "motion.parts are of 21 joints, the data's skeleton has 22: joint 21 is in none of them");
    CHECK(mc::testing::error_of([&] {
              shop.stage(shop.config({"motion.parts=[[0]]"}));
          }).find("set part_table=custom") != std::string::npos);
}

TEST_CASE("moclip stage: limb edges of one's own are trained, saved and read again") {
    const Workshop shop;
    const auto config = trained_and_read(
        shop, {"steps=2", "motion.limb_edges=custom", "motion.edges=[[0,1],[2,5]]"}, "edges");
    CHECK(config.limb_edges == "custom");
    CHECK(config.edges == std::vector<std::vector<int>>{{0, 1}, {2, 5}});
    CHECK(mc::testing::error_of([&] {
              shop.stage(shop.config({"motion.limb_edges=custom", "motion.edges=[[0,6]]"}));
          }) == "the group motion: edges have [0,6], want two different parts of 0 to 5");
}

TEST_CASE("moclip stage: compat_eval_leak has no dropout in every fifth epoch") {
    const Workshop shop;
    const std::vector<std::string> common = {"mode=reference", "motion.part_table=t2m8_compat",
                                             "steps=100"};  // two an epoch
    const auto made = [&](std::vector<std::string> settings) {
        settings.insert(settings.begin(), common.begin(), common.end());
        return shop.stage(shop.config(settings));
    };
    const auto without = made({"motion.dropout=0"}),
               leaking = made({"motion.dropout=0.5", "compat_eval_leak=true"}),
               always = made({"motion.dropout=0.5", "compat_eval_leak=false"});
    CHECK(leaking->epoch_steps() == 2);
    for (const int64_t step : {0, 1, 2, 3, 8, 9, 10, 11, 12, 90, 91, 92, 99}) {
        CAPTURE(step);
        const auto loss = [&](const std::unique_ptr<MoClipStage>& stage) {
            Generator draws(7, static_cast<uint64_t>(step) << 32);
            return stage->step(step, draws).at("loss");
        };
        const double want = loss(without);
        const bool off = step / 2 % 5 == 0;
        CHECK((loss(leaking) == want) == off);
        CHECK(loss(always) != want);
    }
    CHECK(mc::testing::error_of([&] { made({"compat_eval_leak=perhaps"}); }) ==
          "compat_eval_leak is \"perhaps\", want true or false");
    CHECK(mc::testing::error_of([&] { shop.stage(shop.config({"compat_eval_leak=true"})); }) ==
          "compat_eval_leak=true is of the published code; set mode=reference too");
    CHECK_FALSE(without_nulls(shop.config()).contains("compat_eval_leak"));
}

TEST_CASE("moclip stage: joints are standardised by the training clips' statistics") {
    const Workshop shop;
    for (const std::string space : {"metric_global", "metric_root_relative", "metric_heading"}) {
        CAPTURE(space);
        const std::vector<std::string> settings = {"steps=2", "motion.standardise=true",
                                                   "motion.input_space=" + space};
        const auto config = trained_and_read(shop, settings, space);
        CHECK(config.standardise);
        const SafetensorsFile file(shop.scratch.path / (space + ".safetensors"));
        MotionDataOptions options;
        options.root = shop.data().string();
        options.min_frames = 12;
        const MotionData data(options);
        std::vector<double> sum(3), squares(3);
        double count = 0;
        for (size_t i = 0; i < data.samples().size(); ++i) {
            const int64_t frames = data.samples()[i].frames / 4 * 4;
            std::vector<float> rows(static_cast<size_t>(frames * 263)),
                joints(static_cast<size_t>(frames * 66));
            data.normalised(i, 0, frames, rows.data());
            moclip::joints_for_encoder(config.input_space, data.normalisation(), rows.data(),
                                       frames, frames, joints.data());
            for (size_t j = 0; j < joints.size(); ++j) {
                sum[j % 3] += joints[j];
                squares[j % 3] += static_cast<double>(joints[j]) * joints[j];
            }
            count += static_cast<double>(frames * 22);
        }
        for (int64_t c = 0; c < 3; ++c) {
            const size_t axis = static_cast<size_t>(c);
            const double mean = sum[axis] / count;
            CHECK(file.get("motion.joint_mean").item<float>({c}) ==
                  doctest::Approx(mean).epsilon(1e-5).scale(1));
            CHECK(file.get("motion.joint_std").item<float>({c}) ==
                  doctest::Approx(std::sqrt(squares[axis] / count - mean * mean)).epsilon(1e-5));
        }
    }
    CHECK(mc::testing::error_of([&] {
              shop.stage(shop.config(
                  {"mode=reference", "motion.part_table=t2m8_compat", "motion.standardise=true"}));
          }).find("standardise=true is for metric joints") != std::string::npos);
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
    CHECK(error({"motion.heads=5"}).find("width 12 is no multiple of its 5 heads") !=
          std::string::npos);
    CHECK(error({"motion.pooling=median"})
              .find("the group motion: configuration key pooling is \"median\", want one of "
                    "mean_all") != std::string::npos);
    CHECK(error({"motion.input_space=metric_body"})
              .find("want one of normalised_ric, metric_global, metric_root_relative, "
                    "metric_heading") != std::string::npos);
    CHECK(
        error({"naive=true", "motion.pe_kind=learned"}) ==
        "the group motion: pe_kind=learned has no effect with pe_axis=none; set pe_axis to time or "
        "batch");
    CHECK(error({"motion.pe_kind=random"}).find("want one of sinusoidal, learned") !=
          std::string::npos);
    CHECK(error({"motion.pe_rows=0"}) == "motion.pe_rows=0: want 1 or more");
    CHECK(error({"motion.limb_attention=3"}).find("limb_attention has the wrong type") !=
          std::string::npos);
    CHECK(error({"motion.part_dim=15"}) ==
          "the group motion: part_dim 15 is odd; positions have one half of it, velocities the "
          "other");
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
