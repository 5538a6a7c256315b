// MoCLIP's training at toy size, for tests: a data set of made-up motions, a random text tower and
// its vocabulary in a scratch folder.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "models/clip/merge_file.h"
#include "tests/synthetic_dataset.h"
#include "train/moclip_stage.h"

namespace mc::testing {

struct MoClipWorkshop {
    SyntheticDataset motions{40, 26, false};
    const ScratchDir& scratch = motions.scratch;

    MoClipWorkshop() {
        clip::write_maybe_gzip(vocabulary(), "#version: 0.2\nt h\nth e</w>\na n\nan d</w>\n");
        clip::TextConfig config;
        config.vocab = clip::Tokenizer::from_file(vocabulary()).vocab_size();
        config.context = 60;
        config.width = 16;
        config.heads = 2;
        config.layers = 1;
        config.embed_dim = 8;
        Generator init(3);
        clip::TextTransformer text(config, &init);
        const nn::TensorMap state = text.state();
        write_safetensors(tower(), NamedTensors(state.begin(), state.end()), {{"heads", "2"}});
    }
    std::filesystem::path data() const { return motions.options.root; }
    std::string vocabulary() const { return (scratch.path / "vocab.txt").string(); }
    std::string tower() const { return (scratch.path / "tower.safetensors").string(); }

    nlohmann::json config(const std::vector<std::string>& settings = {}) const {
        std::vector<std::string> all = {
            "motion.width=12",   "motion.heads=2",      "motion.layers=1",
            "motion.part_dim=8", "motion.hidden_dim=6", "batch=6",
            "steps=8",           "frozen_share=0.5",    "lr=3e-3",
            "motion_lr_2=1e-3",  "text_lr_2=1e-3",      "save_every=100"};
        all.insert(all.end(), settings.begin(), settings.end());
        return train::resolve_config(train::moclip_presets(), "small", {}, all);
    }
    std::unique_ptr<train::MoClipStage> stage(const nlohmann::json& config,
                                              DeviceType device = DeviceType::cpu) const {
        train::MoClipStageOptions options = train::moclip_stage_options(config, data().string());
        options.device = device;
        return std::make_unique<train::MoClipStage>(options, tower(), vocabulary());
    }
    static train::LoopOptions loop(const nlohmann::json& config, const std::filesystem::path& out) {
        train::LoopOptions options;
        options.out = out;
        options.config = config;
        options.steps = config.at("steps");
        options.validate_every = options.save_every = config.at("save_every");
        options.clip_norm = 1;
        options.adamw.beta2 = 0.999;
        options.rate = [](int64_t) { return 3e-3; };
        options.quiet = true;
        return options;
    }
};

}  // namespace mc::testing
