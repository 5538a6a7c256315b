#include "models/bundle.h"

#include <fstream>
#include <sstream>

#include "models/clip/clip_text_encoder.h"
#include "models/config_json.h"
#include "models/momask/generator.h"
#include "tensor/finite.h"
#include "tensor/formats/atomic_file.h"
#include "tensor/formats/json_limit.h"
#include "tensor/formats/safetensors.h"

namespace mc {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

Json read_info(const fs::path& path) {
    std::ifstream file(path);
    if (!file)
        throw Error(path.string() +
                    ": cannot be opened; name a bundle folder with --bundle, or restore "
                    "pretrained/default");
    std::stringstream text;
    text << file.rdbuf();
    Json info;
    try {
        info = Json::parse(text.str(), json_depth_limit(), false);
    } catch (const Error& e) {
        throw Error(path.string() + ": " + e.what() + "; restore the file");
    }
    if (info.is_discarded() || !info.is_object())
        throw Error(path.string() + ": is not a JSON object; restore the file");
    const auto format = info.find("format"), version = info.find("version");
    if (format == info.end() || *format != "moclip-bundle")
        throw Error(path.string() + ": is no model bundle (format is missing)");
    if (version != info.end() && version->is_number() && *version > kBundleVersion)
        throw Error(path.string() + ": is of version " + version->dump() +
                    ", this program reads up to " + std::to_string(kBundleVersion) +
                    "; update the program");
    return info;
}

const Json& section(const Json& info, const char* key, const fs::path& path) {
    const auto found = info.find(key);
    if (found == info.end())
        throw Error(path.string() + ": has no \"" + key + "\"; restore the file");
    return *found;
}

// A file of the bundle, which must lie in its folder.
fs::path member(const fs::path& folder, const Json& part, const char* key) {
    const std::string name = part.is_object() ? part.value(key, "") : "";
    if (name.empty() || name.find('/') != std::string::npos || name == "..")
        throw Error((folder / "bundle.json").string() + ": bad file name for \"" + key + "\"");
    return folder / name;
}

void load_weights(nn::Module& module, const fs::path& path) {
    const SafetensorsFile file(path);
    nn::TensorMap state;
    for (const auto& [name, tensor] : file.all()) {
        check_finite(path.string() + ": " + name, tensor);
        state[name] = tensor;
    }
    module.load(state, {momask::is_foreign_key, path.string()});
    module.set_requires_grad(false);
}

std::vector<double> numbers(const Json& json, const fs::path& path) {
    std::vector<double> values;
    if (json.is_array())
        for (const Json& v : json)
            if (v.is_number()) values.push_back(v.get<double>());
    if (values.empty() || values.size() != json.size())
        throw Error(path.string() + ": the normalisation is no list of numbers; restore the file");
    return values;
}

GenerationOptions options_of(const Json& json) {
    GenerationOptions o;
    o.steps = json.value("steps", o.steps);
    o.guidance = json.value("guidance", o.guidance);
    o.residual_guidance = json.value("residual_guidance", o.residual_guidance);
    o.temperature = json.value("temperature", o.temperature);
    o.top_k = json.value("top_k", o.top_k);
    return o;
}

NamedTensors halved(const nn::TensorMap& weights) {
    NamedTensors out;
    for (const auto& [name, tensor] : weights) {
        const Tensor half = tensor.to(DType::f16);
        check_finite(name + " in half precision", half);
        out.emplace_back(name, half);
    }
    return out;
}

}  // namespace

Bundle load_bundle(const fs::path& folder, const TextChoice& choice) {
    const fs::path path = folder / "bundle.json";
    Bundle bundle;
    bundle.info = read_info(path);
    try {
        const Json& info = bundle.info;
        if (section(info, "generator", path) != "momask")
            throw Error(path.string() + ": generator " + info["generator"].dump() +
                        " is not one that this program knows (momask)");
        momask::Parts parts;
        const Json& text = section(info, "text", path);
        const fs::path vocabulary = member(folder, text, "vocabulary");
        parts.text =
            choice.weights.empty()
                ? std::make_shared<clip::ClipTextEncoder>(member(folder, text, "weights"),
                                                          vocabulary)
                : std::make_shared<clip::ClipTextEncoder>(
                      choice.weights, choice.vocabulary.empty() ? vocabulary : choice.vocabulary);
        const Json& vq = section(info, "vq", path);
        parts.tokenizer = std::make_unique<vq::RvqVae>(
            rvq_config(section(vq, "config", path), path.string()), nullptr);
        load_weights(*parts.tokenizer, member(folder, vq, "weights"));
        const Json& masked = section(info, "masked", path);
        parts.masked = std::make_unique<momask::MaskTransformer>(
            transformer_config(section(masked, "config", path), path.string()), nullptr);
        load_weights(*parts.masked, member(folder, masked, "weights"));
        if (info.contains("residual")) {
            const Json& residual = info["residual"];
            parts.residual = std::make_unique<momask::ResidualTransformer>(
                transformer_config(section(residual, "config", path), path.string()), nullptr);
            load_weights(*parts.residual, member(folder, residual, "weights"));
        }
        if (info.contains("length")) {
            const Json& length = info["length"];
            parts.length = std::make_unique<momask::LengthEstimator>(
                section(length, "text_dim", path).get<int64_t>(),
                section(length, "classes", path).get<int64_t>(), nullptr);
            load_weights(*parts.length, member(folder, length, "weights"));
        }
        const Json& normalisation = section(info, "normalisation", path);
        parts.normalisation.mean = numbers(section(normalisation, "mean", path), path);
        parts.normalisation.std = numbers(section(normalisation, "std", path), path);
        parts.fps = section(info, "fps", path).get<double>();
        if (info.contains("defaults")) bundle.defaults = options_of(info["defaults"]);
        bundle.generator = std::make_unique<momask::MoMaskGenerator>(std::move(parts));
    } catch (const Json::exception& e) {
        throw Error(path.string() + ": a value has the wrong type (" + e.what() +
                    "); restore the file");
    }
    return bundle;
}

Bundle load_public_checkpoints(const momask::PublicLayout& layout, const TextChoice& text) {
    momask::Parts parts = momask::load_public_momask(layout);
    parts.text = std::make_shared<clip::ClipTextEncoder>(text.weights, text.vocabulary);
    Bundle bundle;
    bundle.info = {{"generator", "momask"}, {"source", layout.checkpoints.string()}};
    bundle.generator = std::make_unique<momask::MoMaskGenerator>(std::move(parts));
    return bundle;
}

void write_bundle(const fs::path& folder, const BundleParts& parts, bool replace) {
    if (fs::exists(folder) && !replace)
        throw Error(folder.string() + ": is there already; add --replace, or name another folder");
    const fs::path fresh = folder.string() + ".tmp";
    fs::remove_all(fresh);
    fs::create_directories(fresh);
    const StringMap about = {{"licence", parts.licence}, {"provenance", parts.provenance}};
    const clip::TextTowerFile tower = clip::read_text_tower(parts.text_encoder);
    StringMap text_about = about;
    text_about["heads"] = std::to_string(tower.config.heads);
    write_safetensors(fresh / "text_encoder.safetensors", halved(tower.state), text_about);
    fs::copy_file(parts.vocabulary, fresh / "vocab.txt.gz");
    Json info = {{"format", "moclip-bundle"},
                 {"version", kBundleVersion},
                 {"generator", "momask"},
                 {"text",
                  {{"weights", "text_encoder.safetensors"},
                   {"vocabulary", "vocab.txt.gz"},
                   {"config", to_json(tower.config)}}},
                 {"vq", {{"weights", "vq.safetensors"}, {"config", parts.vq}}},
                 {"masked", {{"weights", "masked.safetensors"}, {"config", parts.masked}}},
                 {"normalisation", {{"mean", parts.mean}, {"std", parts.std}}},
                 {"fps", parts.fps},
                 {"defaults",
                  {{"steps", parts.defaults.steps},
                   {"guidance", parts.defaults.guidance},
                   {"residual_guidance", parts.defaults.residual_guidance},
                   {"temperature", parts.defaults.temperature},
                   {"top_k", parts.defaults.top_k}}},
                 {"licence", parts.licence},
                 {"provenance", parts.provenance}};
    write_safetensors(fresh / "vq.safetensors", halved(parts.vq_weights), about);
    write_safetensors(fresh / "masked.safetensors", halved(parts.masked_weights), about);
    if (!parts.residual_weights.empty()) {
        write_safetensors(fresh / "residual.safetensors", halved(parts.residual_weights), about);
        info["residual"] = {{"weights", "residual.safetensors"}, {"config", parts.residual}};
    }
    if (!parts.length_weights.empty()) {
        write_safetensors(fresh / "length.safetensors", halved(parts.length_weights), about);
        info["length"] = parts.length;
        info["length"]["weights"] = "length.safetensors";
    }
    write_text_file(fresh / "bundle.json", info.dump(1) + "\n");
    const Bundle check = load_bundle(fresh);  // what is written can be read
    const fs::path old = folder.string() + ".old";
    fs::remove_all(old);
    if (fs::exists(folder)) fs::rename(folder, old);
    fs::rename(fresh, folder);
    fs::remove_all(old);
}

}  // namespace mc
