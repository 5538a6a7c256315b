#include "tools/common/train_bundle.h"

#include <fmt/format.h>

#include <memory>

#include "models/bundle.h"
#include "models/config_json.h"
#include "models/momask/length_estimator.h"
#include "motion/statistics.h"
#include "tools/common/checkpoints.h"
#include "train/loop.h"
#include "train/momask_stages.h"

namespace mc::tools {
namespace {

struct Options {
    std::string data, text, vocab, vq, masked, bamm, bad, residual, length, out;
    std::string licence = "MIT (weights); see provenance for the data they were trained on";
    std::string provenance;
    GenerationOptions defaults;
    bool replace = false;
};

int run(const Options& options) {
    BundleParts parts;
    parts.text_encoder = options.text;
    parts.vocabulary = options.vocab;
    auto stage = [&](const std::string& name, const std::string& path, nlohmann::json& config,
                     nn::TensorMap& weights) {
        const train::Checkpoint saved = train::load_checkpoint(checkpoint_of(path), name);
        if (saved.config.contains("model")) config = saved.config["model"];
        weights = train::checkpoint_model(saved);
        return saved;
    };
    const train::Checkpoint vq = stage("vq", options.vq, parts.vq, parts.vq_weights);
    const std::pair<const char*, const std::string*> bases[] = {
        {"masked", &options.masked}, {"bamm", &options.bamm}, {"bad", &options.bad}};
    for (const auto& [name, run] : bases) {
        if (run->empty()) continue;
        if (!parts.base_weights.empty())
            throw Error(
                "a bundle has one base transformer; name one of --masked, --bamm and --bad");
        parts.generator = std::string(name) == "masked" ? "momask" : name;
        stage(name, *run, parts.base, parts.base_weights);
    }
    if (parts.base_weights.empty())
        throw Error("no base transformer; name one with --masked, --bamm or --bad");
    if (parts.generator == "bad" && !options.residual.empty())
        throw Error("BAD has no residual transformer; leave --residual out");
    if (!options.residual.empty())
        stage("residual", options.residual, parts.residual, parts.residual_weights);
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
    parts.defaults = options.defaults;
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
    sub->add_option("--text", options->text, "text encoder (safetensors)")
        ->required()
        ->check(CLI::ExistingFile);
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
        ->capture_default_str();
    sub->add_option("--guidance", options->defaults.guidance, "default guidance")
        ->capture_default_str();
    sub->add_option("--residual-guidance", options->defaults.residual_guidance,
                    "default guidance of the residual stage")
        ->capture_default_str();
    sub->add_option("--temperature", options->defaults.temperature, "default temperature")
        ->capture_default_str();
    sub->add_option("--top-k", options->defaults.top_k,
                    "default share of unlikely tokens never drawn")
        ->capture_default_str();
    sub->add_flag("--order-agnostic", options->defaults.order_agnostic,
                  "BAD makes tokens in a random order (OAAS) by default, not the surest first");
    sub->add_flag("--replace", options->replace, "replace a bundle that is there already");
    sub->footer(
        "Example:\n  train bundle --data data/mocap --text runs/moclip/text_encoder.safetensors "
        "--vocab runs/vocab.txt.gz "
        "--vq runs/vq --masked runs/masked --residual runs/residual --length runs/length --out "
        "pretrained/mine "
        "--provenance \"our own recordings\"");
    sub->callback([options, &action] { action = [options] { return run(*options); }; });
}

}  // namespace mc::tools
