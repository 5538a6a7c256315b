// Between our files and other people's: a text encoder as a state dict that Python loads, public
// checkpoints as a bundle that `generate` works from.
#include <fmt/format.h>

#include "models/bundle.h"
#include "models/clip/text_tower_file.h"
#include "tensor/formats/load_tensors.h"
#include "tools/common/cli.h"
#include "tools/common/paths.h"

namespace mc::tools {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string> kDTypes = {"f16", "f32"};

DType dtype_named(const std::string& name) {
    return name == "f16" ? DType::f16 : DType::f32;
}

struct TextOptions {
    std::string in, out, layout = "openai", dtype = "f32", into;
};

// A folder stands for the text encoder in it: a bundle's, or a training run's.
fs::path text_encoder_in(const fs::path& path) {
    if (!fs::is_directory(path)) return path;
    const fs::path file = path / "text_encoder.safetensors";
    if (!fs::is_regular_file(file))
        throw Error(path.string() +
                    ": has no text_encoder.safetensors; name a bundle, a run of train text or "
                    "moclip_train, or the file itself");
    return file;
}

// By the name's end; an Error that names the possible ones.
bool is_safetensors(const fs::path& out) {
    const std::string end = out.extension().string();
    if (end == ".safetensors") return true;
    if (end == ".pt" || end == ".pth" || end == ".bin") return false;
    throw Error(out.string() + ": write a .safetensors, or PyTorch's .pt, .pth or .bin");
}

int convert_text(const TextOptions& options) {
    const fs::path in = text_encoder_in(options.in), out = options.out;
    const clip::TextTowerFile tower = clip::read_text_tower(in);
    const clip::TextConfig& c = tower.config;
    const bool safetensors = is_safetensors(out);
    for (const fs::path& read : {in, fs::path(options.into)}) check_not_read(out, read);
    if (!options.into.empty()) {
        if (safetensors != (recognise_tensors(options.into) == TensorFormat::safetensors))
            throw Error(
                fmt::format("{}: want the format of {}; name it so", out.string(), options.into));
        clip::replace_text_tower(options.into, tower, out);
    } else {
        const NamedTensors tensors = clip::text_tower_tensors(
            tower,
            {options.layout == "openai" ? clip::TextLayout::openai : clip::TextLayout::hugging_face,
             ""},
            dtype_named(options.dtype));
        StringMap metadata = tower.metadata;
        metadata["format"] = "pt";  // transformers asks for it
        if (safetensors)
            write_safetensors(out, tensors, metadata);
        else
            write_pytorch(out, tensors);
    }
    fmt::print("{}: {:.1f} MB; width {}, {} layers, {} tokens, context {}, embedding {}\n",
               out.string(), static_cast<double>(fs::file_size(out)) / 1e6, c.width, c.layers,
               c.vocab, c.context, c.embed_dim);
    return 0;
}

struct BundleOptions {
    PublicLayout layout;
    std::string checkpoints, text_encoder, vocab, out, dtype = "f16", licence, provenance;
    bool replace = false;
};

// What is known of the terms (generators.md, its table of sources).
std::string default_licence(const std::string& generator) {
    const std::string code = generator == "momask" ? "MoMask's code is MIT"
                             : generator == "bamm" ? "BAMM's code states no licence"
                                                   : "BAD's repository says CC BY-NC-ND 4.0";
    return code + "; its released weights state no terms of their own: ask before passing them on";
}

int convert_bundle(const BundleOptions& options) {
    PublicLayout layout = options.layout;
    layout.checkpoints = options.checkpoints;
    const fs::path vocabulary = options.vocab.empty() ? clip_vocabulary() : fs::path(options.vocab);
    if (fs::exists(options.out) && !options.replace)
        throw Error(options.out + ": is there already; add --replace, or name another folder");
    BundleParts parts =
        public_bundle_parts(layout, {text_encoder_in(options.text_encoder), vocabulary});
    parts.dtype = dtype_named(options.dtype);
    parts.licence = options.licence.empty() ? default_licence(layout.generator) : options.licence;
    parts.provenance =
        options.provenance.empty()
            ? fmt::format("{}'s public checkpoints, converted; trained by their authors on {}",
                          layout.generator == "momask" ? "MoMask"
                          : layout.generator == "bamm" ? "BAMM"
                                                       : "BAD",
                          parts.fps == 20 ? "HumanML3D" : "KIT-ML")
            : options.provenance;
    write_bundle(options.out, parts, options.replace);
    uintmax_t bytes = 0;
    for (const auto& entry : fs::directory_iterator(options.out)) bytes += entry.file_size();
    fmt::print("{}: {:.1f} MB\n", options.out, static_cast<double>(bytes) / 1e6);
    return 0;
}

void add_text_command(CLI::App& app, TextOptions& options) {
    CLI::App* sub = app.add_subcommand(
        "text", "a text encoder as a state dict for Python, alone or inside a whole CLIP");
    sub->add_option("in", options.in,
                    "bundle folder, run folder, or file: ours, OpenAI's, Hugging Face's")
        ->required()
        ->check(CLI::ExistingPath);
    sub->add_option("--out", options.out, "what to write: .pt, .pth, .bin or .safetensors")
        ->required();
    CLI::Option* layout =
        sub->add_option("--layout", options.layout, "whose names: openai or huggingface")
            ->check(CLI::IsMember({"openai", "huggingface"}))
            ->capture_default_str();
    CLI::Option* dtype =
        sub->add_option("--dtype", options.dtype,
                        "f32, or f16: the weights of linear layers in half, as OpenAI's files have "
                        "them")
            ->check(CLI::IsMember(kDTypes))
            ->capture_default_str();
    sub->add_option("--into", options.into,
                    "a whole public CLIP (ViT-B-32.pt): write it again with this text encoder in "
                    "it, all else as it is, also its format, names, types and logit_scale")
        ->check(CLI::ExistingFile)
        ->excludes(layout)
        ->excludes(dtype);
    sub->footer(
        "Examples:\n"
        "  convert text runs/moclip --out moclip_text.pt\n"
        "      model.load_state_dict(torch.load(\"moclip_text.pt\", weights_only=True), "
        "strict=False)\n"
        "  convert text runs/moclip --out model.safetensors --layout huggingface\n"
        "      CLIPTextModelWithProjection, beside the config.json of CLIP's size\n"
        "  convert text runs/moclip --into ViT-B-32.pt --out MoCLIP-ViT-B-32.pt\n"
        "      clip.load(\"MoCLIP-ViT-B-32.pt\"): a TorchScript file stays one");
}

void add_bundle_command(CLI::App& app, BundleOptions& options) {
    CLI::App* sub = app.add_subcommand(
        "bundle", "public checkpoints of MoMask, BAMM or BAD as a bundle for generate");
    sub->add_option("checkpoints", options.checkpoints,
                    "MoMask's checkpoints folder, or BAMM's or BAD's folder")
        ->required()
        ->check(CLI::ExistingDirectory);
    sub->add_option("--out", options.out, "the bundle folder")->required();
    sub->add_option("--generator", options.layout.generator, "momask, bamm or bad")
        ->check(CLI::IsMember({"momask", "bamm", "bad"}))
        ->capture_default_str();
    sub->add_option("--text-encoder", options.text_encoder,
                    "CLIP's or MoCLIP's, which the checkpoints don't bring (file or folder)")
        ->required()
        ->check(CLI::ExistingPath);
    sub->add_option("--vocab", options.vocab, "its merge file [CLIP's, in build/clip]")
        ->check(CLI::ExistingFile);
    sub->add_option("--masked-name", options.layout.base_name,
                    "run of the base transformer, where there are several");
    sub->add_option("--residual-name", options.layout.residual_name,
                    "run of the residual transformer");
    sub->add_option("--dtype", options.dtype, "of the weights: f16, half the size, or f32, exact")
        ->check(CLI::IsMember(kDTypes))
        ->capture_default_str();
    sub->add_option("--licence", options.licence,
                    "of the weights [what their authors say, which is little]");
    sub->add_option("--provenance", options.provenance, "where they are from [whose they are]");
    sub->add_flag("--replace", options.replace, "replace a bundle that is there already");
    sub->footer(
        "Examples:\n"
        "  convert bundle checkpoints --text-encoder ViT-B-32.pt --out bundles/momask\n"
        "  convert bundle BAMM --generator bamm --text-encoder runs/moclip --out bundles/bamm\n"
        "  generate \"a person jumps\" --bundle bundles/bamm");
}

}  // namespace
}  // namespace mc::tools

int main(int argc, char** argv) {
    using namespace mc::tools;
    CLI::App app("Converts text encoders for Python, and public checkpoints to bundles.",
                 "convert");
    app.require_subcommand(1);
    TextOptions text;
    BundleOptions bundle;
    add_text_command(app, text);
    add_bundle_command(app, bundle);
    app.footer(
        "Examples:\n"
        "  convert text runs/moclip --into ViT-B-32.pt --out MoCLIP-ViT-B-32.pt\n"
        "  convert bundle checkpoints --text-encoder ViT-B-32.pt --out bundles/momask\n"
        "\"convert text --help\" and \"convert bundle --help\" say more.");
    return run_program(app, argc, argv, [&] {
        return app.got_subcommand("text") ? convert_text(text) : convert_bundle(bundle);
    });
}
