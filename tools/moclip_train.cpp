// MoCLIP's fine-tuning: a text encoder in, a motion-aware text encoder out.
#include <fmt/format.h>

#include <optional>

#include "models/clip/text_tower_file.h"
#include "tools/common/checkpoints.h"
#include "tools/common/cli.h"
#include "tools/common/train_report.h"
#include "train/data_parallel.h"
#include "train/digest.h"
#include "train/moclip_stage.h"
#include "train/processes.h"
#include "train/schedule.h"

namespace mc::tools {
namespace {

namespace fs = std::filesystem;

struct Options {
    std::string data, out, text, vocab, start, lexicon, preset = "small";
    std::optional<std::string> config, mode;
    std::optional<double> lambda;
    std::optional<int64_t> naive;
    std::vector<std::string> settings;
    bool resume = false, quiet = false;
    CommonOptions common;
};

void print_recall(const char* when, const train::MoClipStage::Recall& r) {
    fmt::print(
        "{}: text to motion, pools of {} of the test split: R@1 {:.1f} %, R@2 {:.1f} %, R@3 {:.1f} "
        "%\n",
        when, r.pool, 100 * r.at1, 100 * r.at2, 100 * r.at3);
}

int run(const Options& options) {
    const DeviceType device = apply(options.common);
    const auto ranks = train::join_processes(device);
    std::vector<std::string> settings;
    if (options.mode) {  // with the body parts that belong to it, unless --set names others
        settings.push_back("mode=" + *options.mode);
        settings.push_back(*options.mode == "reference" ? "motion.part_table=t2m8_compat"
                                                        : "motion.part_table=t2m6");
    }
    if (options.lambda) settings.push_back(fmt::format("lambda={}", *options.lambda));
    if (options.naive) {
        settings.push_back("naive=true");
        settings.push_back(fmt::format(
            "frozen_share={}",
            1 - static_cast<double>(*options.naive) / static_cast<double>(train::kMoClipEpochs)));
    }
    settings.insert(settings.end(), options.settings.begin(), options.settings.end());
    nlohmann::json config;
    train::MoClipStageOptions stage_options;
    std::optional<train::MoClipStage> made;
    train::together(*ranks, [&] {
        config = train::resolve_config(
            train::moclip_presets(), options.preset,
            options.config ? std::optional<fs::path>(*options.config) : std::nullopt, settings);
        stage_options = train::moclip_stage_options(config, options.data);
        train::check_run(options.out, options.resume, config, *ranks);
        config["made_with"] = {{"data", train::data_digest(options.data)},
                               {"text", train::digest(clip::read_text_tower(options.text).state)}};
        stage_options.lexicon = options.lexicon;
        stage_options.device = device;
        made.emplace(stage_options, options.text, options.vocab);
        config["motion"]["part_table"] = made->model().motion.config().part_table;  // the data's
        if (options.start.empty()) return;
        const fs::path path = checkpoint_of(options.start);
        made->model().load(train::checkpoint_model(train::load_checkpoint(path, made->name())),
                           {{}, path.string()});
    });
    train::MoClipStage& stage = *made;
    stage.set_ranks(*ranks);
    say_warnings(stage);
    nlohmann::json adapted = config;
    for (const auto& [key, value] : {std::pair<const char*, nlohmann::json>{"warm_up", 0},
                                     {"weight_decay", 0.0},
                                     {"milestones", nlohmann::json::array()},
                                     {"gamma", 0.1}})
        adapted[key] = value;
    adapted["schedule"] = "warm_up_cosine";
    train::LoopOptions loop = train::loop_options(adapted, options.out);
    loop.config = train::without_nulls(config);
    // Each phase has a cosine of its own, both over the whole number of steps (moclip.md 5.2). The
    // published code takes a new rate once an epoch.
    const double lr = config.at("lr");
    const int64_t first = stage.switch_step(), steps = loop.steps;
    const int64_t epoch = stage_options.mode == "reference" ? stage.epoch_steps() : 1;
    loop.rate = [=](int64_t step) {
        const int64_t done = step < first ? step : step - first;
        return train::cosine_rate(lr, done / epoch * epoch, steps);
    };
    loop.resume = options.resume;
    loop.quiet = options.quiet;
    if (!options.quiet && ranks->first())
        notice("moclip: {} parameters; the text tower is released after step {} of {}\n",
               stage.model().parameter_count(), first, steps);
    train::MoClipStage::Recall before;
    train::together(*ranks, [&] {
        if (ranks->first()) before = stage.retrieval("test");
    });
    const train::LoopResult result = train::run_loop(stage, loop);
    if (!ranks->first()) return 0;
    if (!result.finished) return say_stopped(result, steps);
    const fs::path written = fs::path(options.out) / "text_encoder.safetensors";
    stage.write_text_encoder(written);
    stage.write_model(fs::path(options.out) / "moclip.safetensors");
    print_recall("untrained", before);
    if (stage.frozen_recall()) print_recall("text tower frozen", *stage.frozen_recall());
    print_recall("text tower released", stage.retrieval("test"));
    const auto [teacher, student] = stage.text_norms();
    fmt::print("mean norm of text embeddings: {:.3f} before, {:.3f} after\n{}\n", teacher, student,
               written.string());
    return 0;
}

}  // namespace
}  // namespace mc::tools

int main(int argc, char** argv) {
    using namespace mc::tools;
    CLI::App app(
        "Makes a CLIP text encoder motion-aware (MoCLIP): contrastive fine-tuning with a tether to "
        "a frozen teacher.",
        "moclip_train");
    Options options;
    app.add_option("--data", options.data, "data set in HumanML3D's layout")
        ->required()
        ->check(CLI::ExistingDirectory);
    app.add_option("--text", options.text, "text encoder to start from (safetensors)")
        ->required()
        ->check(CLI::ExistingFile);
    app.add_option("--vocab", options.vocab, "its merge file")
        ->required()
        ->check(CLI::ExistingFile);
    app.add_option(
           "--out", options.out,
           "run folder: checkpoints, log.jsonl, text_encoder.safetensors, moclip.safetensors")
        ->required();
    app.add_option("--preset", options.preset,
                   "small (two CPU cores) or humanml3d (the published size and recipe)")
        ->capture_default_str();
    app.add_option("--mode", options.mode,
                   "paper or reference: what the paper says, or what the published code does");
    app.add_option("--lambda", options.lambda, "weight of the tether to the frozen teacher [0.4]")
        ->check(finite(0, 1e6));
    app.add_option("--naive", options.naive,
                   "contrastive loss alone, text tower released for the last N of 50 epochs")
        ->check(whole(1, 50));
    app.add_option("--start", options.start,
                   "run folder or checkpoint whose towers to begin from; --text stays the teacher");
    app.add_option("--lexicon", options.lexicon, "lexicon that captions are reworded with")
        ->check(CLI::ExistingFile);
    app.add_option("--config", options.config, "JSON file with settings over the preset's");
    app.add_option(
        "--set", options.settings,
        "single settings over both, KEY=VALUE; those of the motion tower, motion.KEY, are "
        "listed in TRAINING.md");
    app.add_flag("--resume", options.resume, "go on from the run folder's last checkpoint");
    app.add_flag("--quiet", options.quiet, "no progress on standard error");
    add_common_options(app, options.common);
    app.footer(
        "Example:\n  moclip_train --data data/mocap --text runs/text/text_encoder.safetensors "
        "--vocab runs/vocab.txt.gz "
        "--lexicon pretrained/text/lexicon.json --out runs/moclip\n"
        "  mpirun -n 8 moclip_train ... --device cuda\n" +
        processes_help());
    return run_program(app, argc, argv, [&] { return run(options); });
}
