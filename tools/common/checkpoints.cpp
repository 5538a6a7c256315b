#include "tools/common/checkpoints.h"

#include "models/bundle.h"
#include "models/config_json.h"
#include "train/loop.h"

namespace mc::tools {

namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace {

TrainedStage stage_of_bundle(const fs::path& folder, const std::string& stage) {
    BundleParts parts = read_bundle_parts(folder);
    TrainedStage of;
    of.source = folder.string();
    const auto take = [&](const std::string& name, Json model, nn::TensorMap& weights) {
        if (name != stage) return;
        of.config = {{"model", std::move(model)}};
        of.weights = std::move(weights);
    };
    take("vq", parts.vq, parts.vq_weights);
    take(base_stage(parts.generator), parts.base, parts.base_weights);
    take("residual", parts.residual, parts.residual_weights);
    take("length", parts.length, parts.length_weights);
    if (of.weights.empty())
        throw Error(folder.string() + ": is a bundle of " + parts.generator + " and has no " +
                    stage + "; name another, or a run of `train " + stage + "`");
    if (stage == "vq")
        of.normalisation = motion::Normalisation{std::move(parts.mean), std::move(parts.std)};
    return of;
}

}  // namespace

fs::path checkpoint_of(const std::string& run) {
    if (!fs::is_directory(run)) return run;
    const train::RunFolder folder(run);
    return fs::exists(folder.best()) ? folder.best() : folder.latest();
}

TrainedStage read_stage(const std::string& where, const std::string& stage) {
    if (is_bundle(where)) return stage_of_bundle(where, stage);
    const fs::path path = checkpoint_of(where);
    const train::Checkpoint saved = train::load_checkpoint(path, stage);
    TrainedStage of{path.string(), saved.config, train::checkpoint_model(saved), {}};
    const auto own = saved.config.find(kNormalisationKey);
    if (own != saved.config.end())
        of.normalisation = motion::Normalisation{own->at("mean").get<std::vector<double>>(),
                                                 own->at("std").get<std::vector<double>>()};
    return of;
}

Json normalisation_settings(const motion::Normalisation& normalisation) {
    return {{"mean", normalisation.mean}, {"std", normalisation.std}};
}

std::unique_ptr<vq::RvqVae> make_tokenizer(const TrainedStage& stage) {
    auto model =
        std::make_unique<vq::RvqVae>(rvq_config(stage.config.at("model"), stage.source), nullptr);
    model->load(stage.weights, {{}, stage.source});
    model->set_requires_grad(false);
    return model;
}

}  // namespace mc::tools
