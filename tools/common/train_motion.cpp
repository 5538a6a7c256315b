#include "tools/common/train_motion.h"

#include <fmt/format.h>

#include <memory>
#include <optional>
#include <type_traits>

#include "models/clip/clip_text_encoder.h"
#include "models/clip/text_tower_file.h"
#include "models/config_json.h"
#include "tools/common/checkpoints.h"
#include "tools/common/cli.h"
#include "tools/common/train_report.h"
#include "train/data_parallel.h"
#include "train/digest.h"
#include "train/presets.h"
#include "train/processes.h"

namespace mc::tools {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

struct Options {
    std::string data, out, preset = "small", tokenizer, text, vocab, lexicon;
    std::optional<std::string> config;
    std::vector<std::string> settings;
    std::string stage;  // the subcommand's name
    std::string start;  // weights to begin from
    bool resume = false, quiet = false;
    CommonOptions common;
};

// What --start names, if it does.
std::optional<TrainedStage> begun_from(const Options& options) {
    if (options.start.empty()) return {};
    return read_stage(options.start, options.stage);
}

// The settings; of the model those of what the run begins from, in the preset's place.
Json resolve(const Options& options, const std::vector<train::Preset>& presets,
             const std::optional<TrainedStage>& start) {
    std::optional<fs::path> file;
    if (options.config) file = *options.config;
    train::Begun begun;
    if (start && start->config.contains("model"))
        begun = {{{"model", start->config["model"]}}, start->source};
    return train::resolve_config(presets, options.preset, file, options.settings, begun);
}

// What rank 0 says.
int report(const train::LoopResult& result, const train::LoopOptions& loop) {
    if (!result.finished) return say_stopped(result, loop.steps);
    fmt::print("{} steps in {}; best validation score {:.4f}", result.steps, loop.out.string(),
               result.best);
    for (const auto& [key, value] : result.validation)
        if (key != "score") fmt::print(", {} {:.4f}", key, value);
    fmt::print("\n");
    return 0;
}

int run(train::Stage& stage, const Options& options, const Json& config,
        const std::optional<TrainedStage>& start, Communicator& ranks) {
    stage.set_ranks(ranks);
    say_warnings(stage);
    train::together(ranks, [&] {
        if (!start) return;
        stage.model().load(start->weights, {{}, start->source});
        stage.weights_loaded();
    });
    train::LoopOptions loop = train::loop_options(config, options.out);
    loop.resume = options.resume;
    loop.quiet = options.quiet;
    if (!options.quiet && ranks.first())
        notice("{}: {} parameters\n", stage.name(), stage.model().parameter_count());
    const train::LoopResult result = train::run_loop(stage, loop);
    return ranks.first() ? report(result, loop) : 0;
}

int run_vq(const Options& options) {
    const DeviceType device = apply(options.common);
    const auto ranks = train::join_processes(device);
    Json config;
    std::optional<TrainedStage> start;
    std::optional<train::VqStage> stage;
    train::together(*ranks, [&] {
        start = begun_from(options);
        config = resolve(options, train::vq_presets(), start);
        train::VqStageOptions with = train::vq_stage_options(config, options.data);
        if (start && start->normalisation) {
            with.data.normalisation = start->normalisation;
            config[kNormalisationKey] = normalisation_settings(*start->normalisation);
        }
        train::check_run(options.out, options.resume, config, *ranks);
        config["made_with"] = {{"data", train::data_digest(options.data)}};
        with.device = device;
        stage.emplace(with);
        config["model"]["dim_pose"] = stage->model().config().net.dim_pose;  // the data's
    });
    return run(*stage, options, config, start, *ranks);
}

// What follows from the tokenizer and the text encoder, into the settings' "model".
template <class TheStage>
void complete(Json& model, const vq::RvqVae& tokenizer, const TextEncoder& text) {
    model["clip_dim"] = text.width();
    if constexpr (std::is_same_v<TheStage, train::BadStage>) {
        model["nb_code"] = tokenizer.config().quantizer.nb_code;
        model["code_dim"] = tokenizer.config().quantizer.code_dim;
        model["word_dim"] = text.word_width();
    } else {
        model["num_tokens"] = tokenizer.config().quantizer.nb_code;
        model["num_quantizers"] = tokenizer.config().quantizer.num_quantizers;
    }
}

template <class TheStage>
auto stage_options(const Json& config, const std::string& data) {
    if constexpr (std::is_same_v<TheStage, train::BadStage>)
        return train::bad_stage_options(config, data);
    else if constexpr (std::is_same_v<TheStage, train::BammStage>)
        return train::bamm_stage_options(config, data);
    else
        return train::token_stage_options(config, data);
}

template <class TheStage>
int run_tokens(const Options& options, const std::vector<train::Preset>& presets) {
    const DeviceType device = apply(options.common);
    const auto ranks = train::join_processes(device);
    Json config;
    std::optional<TrainedStage> start;
    std::unique_ptr<vq::RvqVae> tokenizer;
    std::optional<clip::ClipTextEncoder> text;
    std::optional<TheStage> stage;
    train::together(*ranks, [&] {
        start = begun_from(options);
        config = resolve(options, presets, start);
        const TrainedStage trained = read_stage(options.tokenizer, "vq");
        tokenizer = make_tokenizer(trained);
        const std::string tokenizer_digest = train::digest(tokenizer->state());
        text.emplace(options.text, options.vocab);
        tokenizer->to(device);
        text->to(device);
        if (config.contains("model")) complete<TheStage>(config["model"], *tokenizer, *text);
        auto with = stage_options<TheStage>(config, options.data);
        with.data.normalisation = trained.normalisation;
        with.lexicon = options.lexicon;
        with.device = device;
        train::check_run(options.out, options.resume, config, *ranks);
        if (!options.quiet && ranks->first())
            notice("reading {}: its clips become tokens, its captions embeddings\n", options.data);
        stage.emplace(with, *tokenizer, *text);
        // A run is resumed with what it began with.
        config["made_with"] = {{"data", train::data_digest(options.data)},
                               {"tokenizer", tokenizer_digest},
                               {"text", train::digest(clip::read_text_tower(options.text).state)}};
    });
    return run(*stage, options, config, start, *ranks);
}

CLI::App* add_common(CLI::App& app, Options& options, const char* name, const char* what,
                     const std::vector<train::Preset>& presets) {
    options.stage = name;
    CLI::App* sub = app.add_subcommand(name, what);
    std::string preset_help = "what to begin from:";
    for (const train::Preset& preset : presets)
        preset_help += fmt::format(" {} ({});", preset.name, preset.summary);
    preset_help.pop_back();
    sub->add_option("--data", options.data, "data set in HumanML3D's layout")
        ->required()
        ->check(CLI::ExistingDirectory);
    sub->add_option("--out", options.out, "run folder: latest and best checkpoint, log.jsonl")
        ->required();
    sub->add_option("--preset", options.preset, preset_help)->capture_default_str();
    sub->add_option("--config", options.config, "JSON file with settings over the preset's");
    sub->add_option("--set", options.settings,
                    "single settings over both, KEY=VALUE (model.width=256)");
    sub->add_option("--start", options.start,
                    "run folder, checkpoint or bundle whose weights to begin from (fine-tuning); "
                    "its model's settings take the preset's place");
    sub->add_flag("--resume", options.resume, "go on from the run folder's last checkpoint");
    sub->add_flag("--quiet", options.quiet, "no progress on standard error");
    add_common_options(*sub, options.common);
    return sub;
}

template <class TheStage>
void add_tokens(CLI::App& app, std::function<int()>& action, const char* name, const char* what,
                const std::vector<train::Preset>& (*presets)()) {
    auto options = std::make_shared<Options>();
    CLI::App* sub = add_common(app, *options, name, what, presets());
    sub->add_option("--vq", options->tokenizer,
                    "run folder or checkpoint of `train vq`, or a bundle")
        ->required();
    sub->add_option("--text", options->text,
                    "text encoder (safetensors): CLIP, MoCLIP or the small one")
        ->required()
        ->check(CLI::ExistingFile);
    sub->add_option("--vocab", options->vocab, "the text encoder's merge file")
        ->required()
        ->check(CLI::ExistingFile);
    sub->add_option("--lexicon", options->lexicon,
                    "lexicon that captions are reworded with (pretrained/text/lexicon.json)")
        ->check(CLI::ExistingFile);
    sub->footer(
        fmt::format("Example:\n  train {} --data data/mocap --vq runs/vq --text "
                    "runs/moclip/text_encoder.safetensors "
                    "--vocab runs/vocab.txt.gz --out runs/{}",
                    name, name));
    sub->callback([options, &action, presets] {
        action = [options, presets] { return run_tokens<TheStage>(*options, presets()); };
    });
}

}  // namespace

void add_motion_commands(CLI::App& app, std::function<int()>& action) {
    auto vq = std::make_shared<Options>();
    CLI::App* sub =
        add_common(app, *vq, "vq", "train the motion tokenizer (RVQ-VAE)", train::vq_presets());
    sub->footer("Example:\n  train vq --data data/mocap --out runs/vq");
    sub->callback([vq, &action] { action = [vq] { return run_vq(*vq); }; });
    add_tokens<train::MaskedStage>(app, action, "masked",
                                   "train the masked transformer: text to base tokens",
                                   train::masked_presets);
    add_tokens<train::ResidualStage>(app, action, "residual",
                                     "train the residual transformer: the other layers of tokens",
                                     train::residual_presets);
    add_tokens<train::BammStage>(app, action, "bamm",
                                 "train BAMM's transformer, in place of the masked one",
                                 train::bamm_presets);
    add_tokens<train::BadStage>(app, action, "bad",
                                "train BAD's transformer, on a tokenizer of one codebook "
                                "(train vq --preset small-bad)",
                                train::bad_presets);
    add_tokens<train::LengthStage>(app, action, "length",
                                   "train the length estimator: text to duration",
                                   train::length_presets);
}

}  // namespace mc::tools
