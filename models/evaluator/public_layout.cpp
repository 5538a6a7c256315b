#include "models/evaluator/public_layout.h"

#include <fmt/format.h>

#include <vector>

#include "tensor/finite.h"
#include "tensor/formats/load_tensors.h"

namespace mc::evaluator {
namespace {

namespace fs = std::filesystem;

constexpr const char* kParts[] = {"movement_encoder", "text_encoder", "motion_encoder"};
constexpr int64_t kMaxWidth = 8192;  // of a layer: a mis-shaped tensor must not ask for terabytes

int64_t width_of(const nn::TensorMap& state, const std::string& source, const std::string& name,
                 int64_t dims, int64_t dim) {
    const auto found = state.find(name);
    if (found == state.end())
        throw Error(
            fmt::format("{}: is no checkpoint of the evaluator: it has no {}; want "
                        "text_mot_match/model/finest.tar",
                        source, name));
    const Tensor& t = found->second;
    if (t.dims() != dims || t.size(dim) < 1 || t.size(dim) > kMaxWidth)
        throw Error(fmt::format("{}: {} has shape {}, want {} dimensions of 1 to {}", source, name,
                                t.shape().str(), dims, kMaxWidth));
    return t.size(dim);
}

EvaluatorConfig config_of(const nn::TensorMap& state, const std::string& source) {
    const auto width = [&](const std::string& name, int64_t dims, int64_t dim) {
        return width_of(state, source, name, dims, dim);
    };
    EvaluatorConfig config;
    config.dim_pose = width("movement_encoder.main.0.weight", 3, 1) + kContacts;
    config.movement_hidden = width("movement_encoder.main.0.weight", 3, 0);
    config.movement_dim = width("movement_encoder.out_net.weight", 2, 0);
    config.word_dim = width("text_encoder.input_emb.weight", 2, 1);
    config.pos_dim = width("text_encoder.pos_emb.weight", 2, 1);
    config.text_hidden = width("text_encoder.hidden", 3, 2);
    config.motion_hidden = width("motion_encoder.hidden", 3, 2);
    config.embed_dim = width("text_encoder.output_net.3.weight", 2, 0);
    return config;
}

// The first of the candidates that is there, or an Error that lists them.
fs::path first_of(const std::vector<fs::path>& candidates, const char* member, const char* what) {
    std::string tried;
    for (const fs::path& path : candidates) {
        if (fs::is_regular_file(path / member)) return path;
        tried += (tried.empty() ? "" : ", ") + (path / member).string();
    }
    throw Error(fmt::format("{} not found: looked for {}", what, tried));
}

// model/finest.* of a folder: the name that the authors gave it, in any container.
fs::path weights_in(const fs::path& folder) {
    if (!fs::is_directory(folder))
        throw Error(folder.string() +
                    ": is no folder; name the one that holds text_mot_match/ (checkpoints/t2m)");
    for (const fs::path& models : {folder / "text_mot_match" / "model", folder / "model"}) {
        if (!fs::is_directory(models)) continue;
        for (const char* extension : {".tar", ".safetensors", ".pt", ".pth", ".npz"})
            if (const fs::path file = models / (std::string("finest") + extension);
                fs::is_regular_file(file))
                return file;
    }
    throw Error(folder.string() +
                ": has no text_mot_match/model/finest.tar; the README says where to get it");
}

}  // namespace

std::unique_ptr<Evaluator> load_evaluator(const fs::path& file) {
    nn::TensorMap state;
    for (const auto& [name, tensor] : load_tensors(file).tensors)
        for (const std::string part : kParts)
            if (name.starts_with(part + '.')) state[name] = tensor;
    const std::string source = file.string();
    auto model = std::make_unique<Evaluator>(config_of(state, source), nullptr);
    for (const auto& [name, tensor] : state) check_finite(source + ": " + name, tensor);
    model->load(state, {{}, source});
    model->set_requires_grad(false);
    return model;
}

PublicEvaluator load_public_evaluator(const fs::path& folder, const fs::path& glove) {
    const fs::path weights = weights_in(folder);
    const fs::path runs = weights.parent_path().parent_path().filename() == "text_mot_match"
                              ? weights.parent_path().parent_path().parent_path()
                              : folder;
    std::vector<fs::path> statistics;
    for (const char* run :
         {"Comp_v6_KLD005", "Comp_v6_KLD01", "VQVAEV3_CB1024_CMT_H1024_NRES3", ""})
        statistics.push_back(runs / run / "meta");
    const fs::path meta = first_of(statistics, "mean.npy", "the evaluator's own statistics are");
    const fs::path words = !glove.empty()
                               ? glove
                               : first_of({folder / "glove", folder / ".." / ".." / "glove"},
                                          "our_vab_data.npy", "the word vectors are");
    PublicEvaluator out{weights, load_evaluator(weights),
                        motion::read_normalisation(meta / "mean.npy", meta / "std.npy"),
                        read_word_vectors(words)};
    const EvaluatorConfig& config = out.model->config();
    if (out.normalisation.dims() != config.dim_pose)
        throw Error(fmt::format("{}: statistics of {} columns, but the evaluator in {} takes {}",
                                meta.string(), out.normalisation.dims(), weights.string(),
                                config.dim_pose));
    if (out.words.width() != config.word_dim || config.pos_dim != kPartsOfSpeech)
        throw Error(
            fmt::format("{}: word vectors of {} numbers, but the evaluator in {} takes {} "
                        "and {} parts of speech (want {})",
                        words.string(), out.words.width(), weights.string(), config.word_dim,
                        config.pos_dim, kPartsOfSpeech));
    return out;
}

}  // namespace mc::evaluator
