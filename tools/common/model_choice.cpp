#include "tools/common/model_choice.h"

#include <fmt/format.h>

#include "kernels/error.h"
#include "tools/common/cli.h"
#include "tools/common/paths.h"

namespace mc::tools {
namespace {

namespace fs = std::filesystem;

// The bundle named, or the one in the tree of the generator asked for.
fs::path bundle_folder(const ModelChoice& choice) {
    if (!choice.bundle.empty()) return choice.bundle;
    if (choice.generator.empty() || choice.generator == "momask") return default_bundle();
    return default_bundle().parent_path() / choice.generator;
}

Bundle load(const ModelChoice& choice) {
    TextChoice text{choice.text_encoder, choice.vocab};
    if (choice.checkpoints.empty()) {
        const fs::path folder = bundle_folder(choice);
        if (choice.bundle.empty() && !choice.generator.empty() && !fs::exists(folder))
            throw Error(fmt::format(
                "--generator {}: there is no bundle {} here; train one (TRAINING.md), or name one "
                "with --bundle or public checkpoints with --checkpoints",
                choice.generator, folder.string()));
        Bundle bundle = load_bundle(folder, text);
        const std::string kind = bundle.info.at("generator");
        if (!choice.generator.empty() && choice.generator != kind)
            throw Error(fmt::format("{}: is a bundle of {}, not of {}; name another with --bundle",
                                    folder.string(), kind, choice.generator));
        return bundle;
    }
    if (text.vocabulary.empty()) text.vocabulary = clip_vocabulary();
    PublicLayout layout{choice.checkpoints, choice.masked_name, choice.residual_name};
    if (!choice.generator.empty()) layout.generator = choice.generator;
    return load_public_checkpoints(layout, text);
}

}  // namespace

ModelOptions add_model_options(CLI::App& app, ModelChoice& choice) {
    CLI::Option* bundle =
        app.add_option("--bundle", choice.bundle, "model bundle [pretrained/default]");
    CLI::Option* text = app.add_option("--text-encoder", choice.text_encoder,
                                       "CLIP's or MoCLIP's weights in place of the model's own "
                                       "(.safetensors, .pt, .pth)")
                            ->check(CLI::ExistingFile);
    CLI::Option* checkpoints =
        app.add_option("--checkpoints", choice.checkpoints,
                       "public checkpoints instead of a bundle: MoMask's checkpoints folder, or "
                       "with --generator bamm or bad the folder of theirs")
            ->check(CLI::ExistingDirectory)
            ->excludes(bundle)
            ->needs(text);
    app.add_option("--masked-name", choice.masked_name,
                   "run of the base transformer, where there are several")
        ->needs(checkpoints);
    app.add_option("--residual-name", choice.residual_name, "run of the residual transformer")
        ->needs(checkpoints);
    app.add_option("--vocab", choice.vocab,
                   "the text encoder's merge file [the bundle's; for checkpoints CLIP's, in "
                   "build/clip]")
        ->check(CLI::ExistingFile)
        ->needs(text);
    app.add_option(
           "--generator", choice.generator,
           "momask, bamm or bad [what the bundle is of; of --checkpoints momask]; bamm and bad "
           "stand for the bundles pretrained/bamm and pretrained/bad unless --bundle or "
           "--checkpoints names others")
        ->check(CLI::IsMember({"momask", "bamm", "bad"}));
    add_sampling_options(app, choice);
    app.add_option(
           "--precision", choice.precision,
           "of the products with weights: fp32; int16, on the CPU alone, a third less time where "
           "it has AVX512-VNNI (Intel since 2019, AMD since Zen 4) and nearly fp32's numbers; "
           "bf16, for a GPU or AMD's AVX512-BF16 (Intel's is no faster than fp32), fifteen times "
           "less exact than int16; or fp16, nearer to fp32 than bf16, on a GPU alone")
        ->check(CLI::IsMember({"fp32", "int16", "bf16", "fp16"}))
        ->capture_default_str();
    return {bundle, checkpoints};
}

Bundle open_bundle(const ModelChoice& choice) {
    if (choice.precision == "fp16" && choice.device == DeviceType::cpu)
        throw Error("--precision fp16 computes on a GPU; say --device cuda, or int16");
    if (choice.precision == "int16" && choice.device == DeviceType::cuda)
        throw Error("--precision int16 computes on the CPU; say fp16 or bf16 for a GPU");
    Bundle bundle = load(choice);
    choice.apply_to(bundle.defaults);
    if (bundle.defaults.candidates > 1 && !bundle.generator->can_choose())
        throw Error(
            fmt::format("--candidates {}: {} has no motion tower of MoCLIP's that fits the text "
                        "encoder; name a "
                        "bundle that has one (train bundle --moclip), or leave --candidates and "
                        "--text-encoder out",
                        bundle.defaults.candidates, name_of(choice)));
    if (choice.precision == "int16") bundle.defaults.precision = Precision::int16;
    if (choice.precision == "bf16") bundle.defaults.precision = Precision::bf16;
    if (choice.precision == "fp16") bundle.defaults.precision = Precision::f16;
    bundle.generator->to(choice.device);
    return bundle;
}

std::string name_of(const ModelChoice& choice) {
    return choice.checkpoints.empty() ? bundle_folder(choice).string() : choice.checkpoints;
}

}  // namespace mc::tools
