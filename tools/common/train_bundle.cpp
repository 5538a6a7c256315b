#include "tools/common/train_bundle.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "models/bundle.h"
#include "models/config_json.h"
#include "models/moclip/motion_tower_file.h"
#include "models/momask/length_estimator.h"
#include "motion/skeleton.h"
#include "motion/statistics.h"
#include "tools/common/checkpoints.h"
#include "tools/common/cli.h"
#include "tools/common/model_choice.h"
#include "train/digest.h"
#include "train/loop.h"
#include "train/moclip_stage.h"
#include "train/momask_stages.h"

namespace mc::tools {
namespace {

struct Options {
    std::string data, text, moclip, vocab, vq, masked, bamm, bad, residual, length, out;
    std::string licence = "MIT (weights); see provenance for the data they were trained on";
    std::string provenance;
    GenerationOptions defaults;
    std::vector<std::string> settings;  // of the motion tower
    bool replace = false;
};

// The motion tower of a MoCLIP, with KEY=VALUE settings for what its file does not tell.
void add_motion_tower(const std::string& path, const std::vector<std::string>& settings,
                      BundleParts& parts) {
    nlohmann::json given = {{"motion", train::moclip_presets().front().values.at("motion")}};
    for (auto& value : given["motion"]) value = nullptr;
    for (const std::string& setting : settings) train::apply_setting(given, setting);
    moclip::MotionTowerFile file =
        moclip::read_motion_tower(path, train::without_nulls(given)["motion"]);
    for (const std::string& warning : file.warnings) notice("warning: {}\n", warning);
    parts.motion = to_json(file.config);
    parts.motion_weights = std::move(file.state);
}

int run(const Options& options) {
    BundleParts parts;
    parts.defaults = options.defaults;
    parts.text_encoder = options.moclip.empty() ? options.text : options.moclip;
    if (!options.moclip.empty())
        add_motion_tower(options.moclip, options.settings, parts);
    else if (!options.settings.empty())
        throw Error("--set is of the motion tower's file; name it with --moclip");
    if (parts.defaults.candidates > 1 && options.moclip.empty())
        throw Error("--candidates are chosen among by MoCLIP's motion tower; name --moclip");
    parts.vocabulary = options.vocab;
    auto stage = [&](const std::string& name, const std::string& path, nlohmann::json& config,
                     nn::TensorMap& weights) {
        const train::Checkpoint saved = train::load_checkpoint(checkpoint_of(path), name);
        if (saved.config.contains("model")) config = saved.config["model"];
        weights = train::checkpoint_model(saved);
        return saved;
    };
    const train::Checkpoint vq = stage("vq", options.vq, parts.vq, parts.vq_weights);
    const std::string tokens = train::digest(parts.vq_weights);
    // What learned another tokenizer's tokens would make noise of this one's. (Text encoders may be
    // exchanged: MoCLIP's for CLIP's is what this is about.)
    const auto check_tokens = [&](const train::Checkpoint& saved, const std::string& run) {
        const auto with = saved.config.find("made_with");
        if (with != saved.config.end() && with->value("tokenizer", tokens) != tokens)
            throw Error(run + ": was trained on the tokens of another tokenizer than " +
                        options.vq + "; name that one with --vq, or train it again");
    };
    const std::pair<const char*, const std::string*> bases[] = {
        {"masked", &options.masked}, {"bamm", &options.bamm}, {"bad", &options.bad}};
    if (std::count_if(std::begin(bases), std::end(bases),
                      [](const auto& base) { return !base.second->empty(); }) > 1)
        throw Error("a bundle has one base transformer; name one of --masked, --bamm and --bad");
    for (const auto& [name, run] : bases) {
        if (run->empty()) continue;
        parts.generator = std::string(name) == "masked" ? "momask" : name;
        check_tokens(stage(name, *run, parts.base, parts.base_weights), *run);
    }
    if (parts.base_weights.empty())
        throw Error("no base transformer; name one with --masked, --bamm or --bad");
    if (parts.generator == "bad" && !options.residual.empty())
        throw Error("BAD has no residual transformer; leave --residual out");
    if (!options.residual.empty())
        check_tokens(stage("residual", options.residual, parts.residual, parts.residual_weights),
                     options.residual);
    if (!options.length.empty()) {
        nlohmann::json none;
        stage("length", options.length, none, parts.length_weights);
        const auto input = parts.length_weights.find("output.0.weight");
        if (input == parts.length_weights.end())
            throw Error(options.length + ": has no output.0.weight");
        parts.length = {{"text_dim", input->second.size(1)},
                        {"classes", train::LengthStage::kClasses}};
    }
    const std::filesystem::path data(options.data);
    const motion::Normalisation normalisation = motion::read_normalisation(
        data / "Mean.npy", data / "Std.npy", vq.config.at("feat_bias_power").get<int>());
    parts.mean = normalisation.mean;
    parts.std = normalisation.std;
    parts.fps = motion::skeleton_for_dims(normalisation.dims()).fps;
    parts.licence = options.licence;
    parts.provenance = options.provenance;
    write_bundle(options.out, parts, options.replace);
    uintmax_t bytes = 0;
    for (const auto& entry : std::filesystem::directory_iterator(options.out))
        bytes += entry.file_size();
    fmt::print("{}: {:.1f} MB\n", options.out, static_cast<double>(bytes) / 1e6);
    return 0;
}

}  // namespace

void add_bundle_command(CLI::App& app, std::function<int()>& action) {
    auto options = std::make_shared<Options>();
    CLI::App* sub = app.add_subcommand("bundle", "put trained stages together as a model bundle");
    sub->add_option("--data", options->data,
                    "the data set they were trained on (for its normalisation)")
        ->required()
        ->check(CLI::ExistingDirectory);
    auto* text = sub->add_option_group("text", "one of");
    text->add_option("--text", options->text, "text encoder (safetensors)")
        ->check(CLI::ExistingFile);
    text->add_option("--moclip", options->moclip,
                     "moclip.safetensors of `moclip_train`, or a published MoCLIP checkpoint: its "
                     "text encoder, and its motion tower to choose among candidates")
        ->check(CLI::ExistingFile);
    text->require_option(1);
    sub->add_option("--set", options->settings,
                    "what a published checkpoint's shapes do not tell of its motion tower: "
                    "motion.KEY=VALUE as in moclip_train (TRAINING.md)");
    sub->add_option("--vocab", options->vocab, "its merge file, gzip")
        ->required()
        ->check(CLI::ExistingFile);
    sub->add_option("--vq", options->vq, "run of `train vq`")->required();
    sub->add_option("--masked", options->masked, "run of `train masked`: a bundle of MoMask");
    sub->add_option("--bamm", options->bamm, "run of `train bamm`: a bundle of BAMM");
    sub->add_option("--bad", options->bad, "run of `train bad`: a bundle of BAD");
    sub->add_option("--residual", options->residual, "run of `train residual`");
    sub->add_option("--length", options->length, "run of `train length`");
    sub->add_option("--out", options->out, "the bundle folder")->required();
    sub->add_option("--licence", options->licence, "of the weights")->capture_default_str();
    sub->add_option("--provenance", options->provenance, "what data they were trained on")
        ->required();
    sub->add_option("--steps", options->defaults.steps, "default refinement steps")
        ->check(whole(1, kMostSteps))
        ->capture_default_str();
    sub->add_option("--guidance", options->defaults.guidance, "default guidance")
        ->check(finite(0, kMostGuidance))
        ->capture_default_str();
    sub->add_option("--residual-guidance", options->defaults.residual_guidance,
                    "default guidance of the residual stage")
        ->check(finite(0, kMostGuidance))
        ->capture_default_str();
    sub->add_option("--temperature", options->defaults.temperature, "default temperature")
        ->check(finite(0, kMostTemperature))
        ->capture_default_str();
    sub->add_option("--top-k", options->defaults.top_k,
                    "default share of unlikely tokens never drawn")
        ->check(finite(0, 1))
        ->capture_default_str();
    sub->add_option("--candidates", options->defaults.candidates,
                    "default number of motions to choose the best of (with --moclip)")
        ->check(whole(1, kMostCandidates))
        ->capture_default_str();
    sub->add_flag("--order-agnostic", options->defaults.order_agnostic,
                  "BAD makes tokens in a random order (OAAS) by default, not the surest first");
    sub->add_flag("--replace", options->replace, "replace a bundle that is there already");
    sub->footer(
        "Example:\n  train bundle --data data/mocap --moclip runs/moclip/moclip.safetensors "
        "--vocab runs/vocab.txt.gz "
        "--vq runs/vq --masked runs/masked --residual runs/residual --length runs/length --out "
        "pretrained/mine "
        "--provenance \"our own recordings\"");
    sub->callback([options, &action] { action = [options] { return run(*options); }; });
}

}  // namespace mc::tools
