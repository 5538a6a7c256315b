#include "tools/common/train_bundle.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "models/bundle.h"
#include "models/config_json.h"
#include "models/moclip/motion_tower_file.h"
#include "models/momask/length_estimator.h"
#include "motion/skeleton.h"
#include "motion/statistics.h"
#include "tools/common/checkpoints.h"
#include "tools/common/cli.h"
#include "tools/common/sampling.h"
#include "train/digest.h"
#include "train/loop.h"
#include "train/moclip_stage.h"
#include "train/momask_stages.h"

namespace mc::tools {
namespace {

struct Options {
    std::string data, text, moclip, vocab, vq, masked, bamm, bad, residual, length, out;
    std::string from;  // bundle that gives what is not named
    std::string provenance;
    std::optional<std::string> licence;
    SamplingChoice defaults;
    std::vector<std::string> settings;  // of the motion tower
    bool replace = false;
};

constexpr const char* kLicence = "MIT (weights); see provenance for the data they were trained on";

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

// Wrong usage: what the options do not name and no --from gives.
void check_named(const Options& options) {
    if (!options.from.empty()) return;
    const auto want = [](const char* option, bool named) {
        if (!named) throw CLI::RequiredError(option);
    };
    want("--text or --moclip (or --from)", !options.text.empty() || !options.moclip.empty());
    want("--vocab (or --from)", !options.vocab.empty());
    want("--vq (or --from)", !options.vq.empty());
}

// The text encoder, with the motion tower that belongs to it.
void take_text(const Options& options, BundleParts& parts) {
    if (!options.settings.empty() && options.moclip.empty())
        throw Error("--set is of the motion tower's file; name it with --moclip");
    if (!options.vocab.empty()) parts.vocabulary = options.vocab;
    if (options.text.empty() && options.moclip.empty()) return;
    parts.text_encoder = options.moclip.empty() ? options.text : options.moclip;
    parts.motion = {};
    parts.motion_weights.clear();
    parts.defaults.candidates = 1;
    if (!options.moclip.empty()) add_motion_tower(options.moclip, options.settings, parts);
}

void take_tokenizer(const Options& options, BundleParts& parts) {
    TrainedStage vq = read_stage(options.vq, "vq");
    if (!vq.normalisation) {
        if (options.data.empty())
            throw Error(options.vq +
                        ": was trained on a data set; name it with --data, for its normalisation");
        const std::filesystem::path data(options.data);
        vq.normalisation = motion::read_normalisation(data / "Mean.npy", data / "Std.npy",
                                                      vq.config.at("feat_bias_power").get<int>());
    }
    parts.vq = vq.config.at("model");
    parts.vq_weights = std::move(vq.weights);
    parts.mean = vq.normalisation->mean;
    parts.std = vq.normalisation->std;
    parts.fps = motion::skeleton_for_dims(vq.normalisation->dims()).fps;
}

void take_length(const Options& options, BundleParts& parts) {
    parts.length_weights = read_stage(options.length, "length").weights;
    const auto input = parts.length_weights.find("output.0.weight");
    if (input == parts.length_weights.end())
        throw Error(options.length + ": has no output.0.weight");
    parts.length = {{"text_dim", input->second.size(1)}, {"classes", train::LengthStage::kClasses}};
}

int run(const Options& options) {
    BundleParts parts;
    std::string tokens;  // that what --from gives was trained on
    if (!options.from.empty()) {
        parts = read_bundle_parts(options.from);
        tokens = train::digest(parts.vq_weights);
    }
    take_text(options, parts);
    options.defaults.apply_to(parts.defaults);
    if (parts.defaults.candidates > 1 && parts.motion_weights.empty())
        throw Error("--candidates are chosen among by MoCLIP's motion tower; name --moclip");
    if (!options.vq.empty()) take_tokenizer(options, parts);
    const std::string given = std::exchange(tokens, train::digest(parts.vq_weights));
    // What learned another tokenizer's tokens would make noise of this one's. (Text encoders may be
    // exchanged: MoCLIP's for CLIP's is what this is about.)
    const auto stage = [&](const std::string& name, const std::string& path, nlohmann::json& config,
                           nn::TensorMap& weights) {
        if (path.empty()) {
            if (!weights.empty() && given != tokens)
                throw Error(options.from + ": its " + name +
                            " transformer was trained on its own "
                            "tokens, not on those of " +
                            options.vq +
                            "; name one that was, or "
                            "leave --vq out");
            return;
        }
        TrainedStage trained = read_stage(path, name);
        const auto with = trained.config.find("made_with");
        if (with != trained.config.end() && with->value("tokenizer", tokens) != tokens)
            throw Error(path + ": was trained on the tokens of another tokenizer than " +
                        (options.vq.empty() ? options.from : options.vq) +
                        "; name that one with --vq, or train it again");
        config = trained.config.value("model", nlohmann::json::object());
        weights = std::move(trained.weights);
    };
    const std::pair<const char*, const std::string*> bases[] = {
        {"masked", &options.masked}, {"bamm", &options.bamm}, {"bad", &options.bad}};
    const auto named = [](const auto& base) { return !base.second->empty(); };
    if (std::count_if(std::begin(bases), std::end(bases), named) > 1)
        throw Error("a bundle has one base transformer; name one of --masked, --bamm and --bad");
    const auto base = std::find_if(std::begin(bases), std::end(bases), named);
    if (base != std::end(bases)) {
        parts.generator = std::string(base->first) == "masked" ? "momask" : base->first;
        stage(base->first, *base->second, parts.base, parts.base_weights);
    } else if (parts.base_weights.empty()) {
        throw Error("no base transformer; name one with --masked, --bamm or --bad");
    } else {
        stage("base", "", parts.base, parts.base_weights);
    }
    if (parts.generator == "bad") {
        if (!options.residual.empty())
            throw Error("BAD has no residual transformer; leave --residual out");
        parts.residual_weights.clear();
    }
    stage("residual", options.residual, parts.residual, parts.residual_weights);
    if (!options.length.empty()) take_length(options, parts);
    if (options.licence || parts.licence.empty())
        parts.licence = options.licence.value_or(kLicence);
    parts.provenance += (parts.provenance.empty() ? "" : "; then ") + options.provenance;
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
    sub->add_option("--from", options->from,
                    "bundle that gives whatever is not named here: one stage of it trained anew "
                    "makes another bundle")
        ->check(CLI::ExistingDirectory);
    sub->add_option("--data", options->data,
                    "the data set that the tokenizer was trained on (for its normalisation)")
        ->check(CLI::ExistingDirectory);
    CLI::Option* text = sub->add_option("--text", options->text, "text encoder (safetensors)")
                            ->check(CLI::ExistingFile);
    sub->add_option("--moclip", options->moclip,
                    "moclip.safetensors of `moclip_train`, or a published MoCLIP checkpoint: its "
                    "text encoder, and its motion tower to choose among candidates")
        ->check(CLI::ExistingFile)
        ->excludes(text);
    sub->add_option("--set", options->settings,
                    "what a published checkpoint's shapes do not tell of its motion tower: "
                    "motion.KEY=VALUE as in moclip_train (TRAINING.md)");
    sub->add_option("--vocab", options->vocab, "the text encoder's merge file, gzip")
        ->check(CLI::ExistingFile);
    sub->add_option("--vq", options->vq, "run of `train vq`");
    sub->add_option("--masked", options->masked, "run of `train masked`: a bundle of MoMask");
    sub->add_option("--bamm", options->bamm, "run of `train bamm`: a bundle of BAMM");
    sub->add_option("--bad", options->bad, "run of `train bad`: a bundle of BAD");
    sub->add_option("--residual", options->residual, "run of `train residual`");
    sub->add_option("--length", options->length, "run of `train length`");
    sub->add_option("--out", options->out, "the bundle folder")->required();
    sub->add_option("--licence", options->licence, fmt::format("of the weights [{}]", kLicence));
    sub->add_option("--provenance", options->provenance,
                    "what data they were trained on; said after what --from's bundle says")
        ->required();
    add_sampling_options(*sub, options->defaults);
    sub->add_flag("--replace", options->replace, "replace a bundle that is there already");
    sub->footer(
        "Example:\n  train bundle --data data/mocap --moclip runs/moclip/moclip.safetensors "
        "--vocab runs/vocab.txt.gz "
        "--vq runs/vq --masked runs/masked --residual runs/residual --length runs/length --out "
        "pretrained/mine "
        "--provenance \"our own recordings\"\n"
        "  train bundle --from pretrained/default --masked runs/mine --out pretrained/mine "
        "--provenance \"fine-tuned on our own recordings\"");
    sub->callback([options, &action] {
        check_named(*options);
        action = [options] { return run(*options); };
    });
}

}  // namespace mc::tools
