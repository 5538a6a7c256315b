#include "models/bundle.h"

#include <fstream>
#include <sstream>

#include "models/bad/generator.h"
#include "models/bamm/generator.h"
#include "models/best_of.h"
#include "models/clip/clip_text_encoder.h"
#include "models/config_json.h"
#include "models/momask/generator.h"
#include "tensor/finite.h"
#include "tensor/formats/atomic_file.h"
#include "tensor/formats/json_limit.h"
#include "tensor/formats/mapped_file.h"
#include "tensor/formats/safetensors.h"
#include "tensor/formats/temporary.h"

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

// The checksum of the file that a part of bundle.json names as `key` stands beside the name.
std::string checksum_key(const char* key) {
    return std::string(key) + "_crc32";
}

// A file of the bundle, which must lie in its folder and be as it was written. Bundles of before
// there were checksums have none.
fs::path member(const fs::path& folder, const Json& part, const char* key) {
    const std::string name = part.is_object() ? part.value(key, "") : "";
    if (name.empty() || name.find('/') != std::string::npos || name == "..")
        throw Error((folder / "bundle.json").string() + ": bad file name for \"" + key + "\"");
    fs::path path = folder / name;
    const std::string checksum_name = checksum_key(key),
                      want = part.value(checksum_name, std::string());
    if (want.empty()) return path;
    const std::string got = MappedFile::open(path)->checksum();
    if (got != want)
        throw Error(path.string() + ": is damaged, or of another bundle (CRC-32 " + got +
                    ", bundle.json has " + want + "); restore the file, or take \"" +
                    checksum_name + "\" out of bundle.json if it was changed on purpose");
    return path;
}

bool is_foreign_key(const std::string& name) {
    return momask::is_foreign_key(name) || bad::is_foreign_key(name);
}

nn::TensorMap read_weights(const fs::path& path) {
    const SafetensorsFile file(path);
    nn::TensorMap state;
    for (const auto& [name, tensor] : file.all()) {
        check_finite(path.string() + ": " + name, tensor);
        state[name] = tensor;
    }
    return state;
}

void load_weights(nn::Module& module, const fs::path& path) {
    module.load(read_weights(path), {is_foreign_key, path.string()});
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

motion::Normalisation normalisation_of(const Json& info, const fs::path& path) {
    const Json& normalisation = section(info, "normalisation", path);
    return {numbers(section(normalisation, "mean", path), path),
            numbers(section(normalisation, "std", path), path)};
}

// The defaults in bundle.json; what is not there stays.
class DefaultsReader {
  public:
    DefaultsReader(const Json& defaults, const fs::path& path) : defaults_(defaults), path_(path) {
        if (!defaults.is_object())
            throw Error(path.string() + ": \"defaults\" is no object; restore the file");
    }
    void read(const char* key, int64_t& value, int64_t most) const {
        const auto found = defaults_.find(key);
        if (found == defaults_.end()) return;
        if (!found->is_number_integer() || *found < 1 || *found > most)
            fail(key, *found, "a whole number from 1 to " + std::to_string(most));
        value = found->get<int64_t>();
    }
    void read(const char* key, double& value, double most) const {
        const auto found = defaults_.find(key);
        if (found == defaults_.end()) return;
        const double got = found->is_number() ? found->get<double>() : -1;
        if (!(got >= 0 && got <= most))
            fail(key, *found, "a number from 0 to " + Json(most).dump());
        value = got;
    }

  private:
    [[noreturn]] void fail(const char* key, const Json& got, const std::string& want) const {
        throw Error(path_.string() + ": defaults: \"" + key + "\" is " + got.dump() + ", want " +
                    want + "; restore the file");
    }

    const Json& defaults_;
    const fs::path& path_;
};

GenerationOptions options_of(const Json& json, const fs::path& path) {
    GenerationOptions o;
    const DefaultsReader reader(json, path);
    reader.read("steps", o.steps, kMostSteps);
    reader.read("guidance", o.guidance, kMostGuidance);
    reader.read("residual_guidance", o.residual_guidance, kMostGuidance);
    reader.read("temperature", o.temperature, kMostTemperature);
    reader.read("top_k", o.top_k, 1.0);
    reader.read("candidates", o.candidates, kMostCandidates);
    o.order_agnostic = json.value("order_agnostic", o.order_agnostic);
    return o;
}

// read(), which takes values out of bundle.json.
template <class Read>
void with_values_of(const fs::path& path, const Read& read) {
    try {
        read();
    } catch (const Json::exception& e) {
        throw Error(path.string() + ": a value has the wrong type (" + json_problem(e) +
                    "); restore the file");
    }
}

// Reads the parts of a bundle that its generator is made of.
class BundleReader {
  public:
    BundleReader(const fs::path& folder, const Json& info, const TextChoice& choice)
        : folder_(folder), path_(folder / "bundle.json"), info_(info), choice_(choice) {}

    std::unique_ptr<MotionGenerator> generator() {
        const std::string name = section(info_, "generator", path_).get<std::string>();
        if (name == "momask") return choosing(momask_generator());
        if (name == "bamm") return choosing(bamm_generator());
        if (name == "bad") return choosing(bad_generator());
        throw Error(path_.string() + ": generator \"" + name +
                    "\" is not one that this program knows (momask, bamm, bad)");
    }

  private:
    // With the motion tower that belongs to the text encoder, if there is one.
    std::unique_ptr<MotionGenerator> choosing(std::unique_ptr<MotionGenerator> generator) const {
        if (!info_.contains("motion") || !choice_.weights.empty()) return generator;
        const Json& part = info_["motion"];
        auto tower = std::make_unique<moclip::MotionEncoder>(
            motion_encoder_config(section(part, "config", path_), path_.string()), nullptr);
        load_weights(*tower, member(folder_, part, "weights"));
        return std::make_unique<BestOfGenerator>(
            std::move(generator), moclip::MotionScorer(text_, std::move(tower), normalisation_));
    }

    std::unique_ptr<MotionGenerator> momask_generator() {
        momask::Parts parts;
        common(parts);
        const Json& masked = section(info_, "masked", path_);
        parts.masked = std::make_unique<momask::MaskTransformer>(
            transformer_config(section(masked, "config", path_), path_.string()), nullptr);
        load_weights(*parts.masked, member(folder_, masked, "weights"));
        parts.residual = residual();
        parts.length = length();
        return std::make_unique<momask::MoMaskGenerator>(std::move(parts));
    }

    std::unique_ptr<MotionGenerator> bamm_generator() {
        bamm::Parts parts;
        common(parts);
        const Json& base = section(info_, "bamm", path_);
        parts.base = std::make_unique<bamm::Transformer>(
            bamm_config(section(base, "config", path_), path_.string()), nullptr);
        load_weights(*parts.base, member(folder_, base, "weights"));
        parts.residual = residual();
        return std::make_unique<bamm::BammGenerator>(std::move(parts));
    }

    std::unique_ptr<MotionGenerator> bad_generator() {
        bad::Parts parts;
        common(parts);
        const Json& base = section(info_, "bad", path_);
        parts.transformer = std::make_unique<bad::Transformer>(
            bad_config(section(base, "config", path_), path_.string()),
            parts.tokenizer->quantizer().codebook(), nullptr);
        load_weights(*parts.transformer, member(folder_, base, "weights"));
        parts.length = length();
        return std::make_unique<bad::BadGenerator>(std::move(parts));
    }

    template <class Parts>
    void common(Parts& parts) {
        const Json& text = section(info_, "text", path_);
        const fs::path vocabulary = member(folder_, text, "vocabulary");
        text_ = choice_.weights.empty()
                    ? std::make_shared<clip::ClipTextEncoder>(member(folder_, text, "weights"),
                                                              vocabulary)
                    : std::make_shared<clip::ClipTextEncoder>(
                          choice_.weights,
                          choice_.vocabulary.empty() ? vocabulary : choice_.vocabulary);
        parts.text = text_;
        const Json& vq = section(info_, "vq", path_);
        parts.tokenizer = std::make_unique<vq::RvqVae>(
            rvq_config(section(vq, "config", path_), path_.string()), nullptr);
        load_weights(*parts.tokenizer, member(folder_, vq, "weights"));
        parts.normalisation = normalisation_ = normalisation_of(info_, path_);
        parts.fps = section(info_, "fps", path_).get<double>();
    }

    std::unique_ptr<momask::ResidualTransformer> residual() const {
        if (!info_.contains("residual")) return nullptr;
        const Json& part = info_["residual"];
        auto model = std::make_unique<momask::ResidualTransformer>(
            transformer_config(section(part, "config", path_), path_.string()), nullptr);
        load_weights(*model, member(folder_, part, "weights"));
        return model;
    }

    std::unique_ptr<momask::LengthEstimator> length() const {
        if (!info_.contains("length")) return nullptr;
        const Json& part = info_["length"];
        auto model = std::make_unique<momask::LengthEstimator>(
            section(part, "text_dim", path_).get<int64_t>(),
            section(part, "classes", path_).get<int64_t>(), nullptr);
        load_weights(*model, member(folder_, part, "weights"));
        return model;
    }

    const fs::path folder_, path_;
    const Json& info_;
    const TextChoice& choice_;
    std::shared_ptr<TextEncoder> text_;
    motion::Normalisation normalisation_;
};

NamedTensors in_dtype(const nn::TensorMap& weights, DType dtype) {
    NamedTensors out;
    for (const auto& [name, tensor] : weights) {
        const Tensor stored = tensor.to(dtype);
        check_finite(name + " as " + name_of(dtype), stored);
        out.emplace_back(name, stored);
    }
    return out;
}

// What is replaced is removed: a bundle, or nothing.
void check_replaceable(const fs::path& folder) {
    if (fs::is_directory(folder) && fs::is_empty(folder)) return;
    try {
        read_info(folder / "bundle.json");
    } catch (const Error&) {
        throw Error(folder.string() +
                    ": is no model bundle, so it is not replaced; name another "
                    "folder");
    }
}

}  // namespace

Bundle load_bundle(const fs::path& folder, const TextChoice& choice) {
    const fs::path path = folder / "bundle.json";
    Bundle bundle;
    bundle.info = read_info(path);
    with_values_of(path, [&] {
        bundle.generator = BundleReader(folder, bundle.info, choice).generator();
        if (bundle.info.contains("defaults"))
            bundle.defaults = options_of(bundle.info["defaults"], path);
        if (!choice.weights.empty()) bundle.defaults.candidates = 1;
        if (bundle.defaults.candidates > 1 && !bundle.generator->can_choose())
            throw Error(path.string() +
                        ": asks for several candidates, but has no \"motion\" to choose with; "
                        "restore the file");
    });
    return bundle;
}

std::string base_stage(const std::string& generator) {
    return generator == "momask" ? "masked" : generator;
}

bool is_bundle(const fs::path& folder) {
    return fs::exists(folder / "bundle.json");
}

BundleParts read_bundle_parts(const fs::path& folder) {
    const fs::path path = folder / "bundle.json";
    const Json info = read_info(path);
    BundleParts parts;
    with_values_of(path, [&] {
        const auto part = [&](const std::string& name, nn::TensorMap& weights) {
            const Json& of = section(info, name.c_str(), path);
            weights = read_weights(member(folder, of, "weights"));
            for (auto& [key, tensor] : weights) {
                parts.dtype = tensor.dtype();
                tensor = tensor.to(DType::f32);
            }
            return of.value("config", Json::object());
        };
        parts.generator = section(info, "generator", path).get<std::string>();
        const Json& text = section(info, "text", path);
        parts.text_encoder = member(folder, text, "weights");
        parts.vocabulary = member(folder, text, "vocabulary");
        parts.vq = part("vq", parts.vq_weights);
        parts.base = part(base_stage(parts.generator), parts.base_weights);
        if (info.contains("residual")) parts.residual = part("residual", parts.residual_weights);
        if (info.contains("motion")) parts.motion = part("motion", parts.motion_weights);
        if (info.contains("length")) {
            part("length", parts.length_weights);
            for (const char* key : {"text_dim", "classes"})
                parts.length[key] = section(info["length"], key, path).get<int64_t>();
        }
        const motion::Normalisation normalisation = normalisation_of(info, path);
        parts.mean = normalisation.mean;
        parts.std = normalisation.std;
        parts.fps = section(info, "fps", path).get<double>();
        if (info.contains("defaults")) parts.defaults = options_of(info["defaults"], path);
        parts.licence = info.value("licence", "");
        parts.provenance = info.value("provenance", "");
    });
    return parts;
}

void write_bundle(const fs::path& place, const BundleParts& parts, bool replace) {
    fs::path folder = place.has_filename() ? place : place.parent_path();  // no / at the end
    if (fs::exists(folder)) {
        if (!replace)
            throw Error(folder.string() +
                        ": is there already; add --replace, or name another folder");
        folder = fs::canonical(folder);
        check_replaceable(folder);
    }
    Temporary draft(folder);
    const fs::path& fresh = draft.path();
    std::error_code failed;
    fs::remove_all(fresh, failed);
    fs::create_directories(fresh, failed);
    if (failed)
        throw Error(folder.string() + ": cannot make the folder: " + failed.message() +
                    "; name another");
    const auto write = [&](const std::string& name, const nn::TensorMap& weights,
                           const StringMap& about) {
        write_safetensors(fresh / name, in_dtype(weights, parts.dtype), about);
    };
    const StringMap about = {{"licence", parts.licence}, {"provenance", parts.provenance}};
    const clip::TextTowerFile tower = clip::read_text_tower(parts.text_encoder);
    StringMap text_about = about;
    text_about["heads"] = std::to_string(tower.config.heads);
    write("text_encoder.safetensors", tower.state, text_about);
    fs::copy_file(parts.vocabulary, fresh / "vocab.txt.gz");
    const std::string base = base_stage(parts.generator);
    Json info = {{"format", "moclip-bundle"},
                 {"version", kBundleVersion},
                 {"generator", parts.generator},
                 {"text",
                  {{"weights", "text_encoder.safetensors"},
                   {"vocabulary", "vocab.txt.gz"},
                   {"config", to_json(tower.config)}}},
                 {"vq", {{"weights", "vq.safetensors"}, {"config", parts.vq}}},
                 {base, {{"weights", base + ".safetensors"}, {"config", parts.base}}},
                 {"normalisation", {{"mean", parts.mean}, {"std", parts.std}}},
                 {"fps", parts.fps},
                 {"defaults",
                  {{"steps", parts.defaults.steps},
                   {"guidance", parts.defaults.guidance},
                   {"residual_guidance", parts.defaults.residual_guidance},
                   {"temperature", parts.defaults.temperature},
                   {"top_k", parts.defaults.top_k},
                   {"order_agnostic", parts.defaults.order_agnostic},
                   {"candidates", parts.defaults.candidates}}},
                 {"licence", parts.licence},
                 {"provenance", parts.provenance}};
    write("vq.safetensors", parts.vq_weights, about);
    write(base + ".safetensors", parts.base_weights, about);
    if (!parts.residual_weights.empty()) {
        write("residual.safetensors", parts.residual_weights, about);
        info["residual"] = {{"weights", "residual.safetensors"}, {"config", parts.residual}};
    }
    if (!parts.length_weights.empty()) {
        write("length.safetensors", parts.length_weights, about);
        info["length"] = parts.length;
        info["length"]["weights"] = "length.safetensors";
    }
    if (!parts.motion_weights.empty()) {
        write("motion.safetensors", parts.motion_weights, about);
        info["motion"] = {{"weights", "motion.safetensors"}, {"config", parts.motion}};
    }
    for (auto& [name, part] : info.items())
        for (const char* key : {"weights", "vocabulary"})
            if (part.is_object() && part.contains(key))
                part[checksum_key(key)] = MappedFile::open(member(fresh, part, key))->checksum();
    write_text_file(fresh / "bundle.json", info.dump(1) + "\n");
    const Bundle check = load_bundle(fresh);  // what is written can be read
    const fs::path old = fresh.string() + ".old";
    draft.keep();  // whatever happens from here on, both are whole
    if (fs::exists(folder)) fs::rename(folder, old);
    fs::rename(fresh, folder);
    fs::remove_all(old);
}

}  // namespace mc
