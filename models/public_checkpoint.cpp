#include "models/public_checkpoint.h"

#include <fmt/format.h>

#include <algorithm>

#include "tensor/finite.h"
#include "tensor/formats/load_tensors.h"

namespace mc {
namespace {

namespace fs = std::filesystem;

int64_t rows_of(const nn::TensorMap& state, const std::string& name) {
    const auto found = state.find(name);
    return found == state.end() || found->second.dims() == 0 ? -1 : found->second.size(0);
}

// Names below a key, without it and without the "module." of PyTorch's DistributedDataParallel.
nn::TensorMap below(const NamedTensors& tensors, const std::string& key) {
    nn::TensorMap state;
    const std::string prefix = key.empty() ? "" : key + ".";
    for (const auto& [name, tensor] : tensors) {
        if (!name.starts_with(prefix)) continue;
        const std::string local = name.substr(prefix.size());
        state[local.starts_with("module.") ? local.substr(7) : local] = tensor;
    }
    return state;
}

// "ep, res_transformer (MoMask's residual transformer)": what a file has instead.
std::string contents_of(const TensorFile& file, int64_t codes) {
    constexpr size_t kMost = 8;
    if (const std::string whole = model_of(below(file.tensors, ""), codes); !whole.empty())
        return whole;
    std::string holds;
    if (file.values.is(PyKind::dict))
        for (size_t i = 0; i < std::min(file.values.size(), kMost); ++i) {
            const PyValue key = file.values.key(i);
            holds += (holds.empty() ? "" : ", ") + key.repr(40);
            if (!key.is(PyKind::text)) continue;
            const std::string model = model_of(below(file.tensors, key.as_text()), codes);
            if (!model.empty()) holds += " (" + model + ")";
        }
    return holds.empty() ? "no state dict" : holds;
}

}  // namespace

fs::path dataset_folder(const fs::path& path) {
    if (!fs::is_directory(path))
        throw Error(path.string() + ": is no folder; name the checkpoints folder");
    for (const char* name : {"t2m", "kit"})
        if (fs::is_directory(path / name)) return path / name;
    return path;
}

PublicRun choose_run(const fs::path& dataset, const std::string& name, const char* kind,
                     const char* option, const std::function<bool(const OptFile&)>& is_kind) {
    std::vector<PublicRun> found;
    std::string unreadable;  // a folder that is none of ours must not stand in the way
    for (const auto& entry : fs::directory_iterator(dataset)) {
        const fs::path opt = entry.path() / "opt.txt";
        if (!fs::is_regular_file(opt)) continue;
        if (!name.empty() && entry.path().filename() != name) continue;
        try {
            OptFile read = read_opt_file(opt);
            if (is_kind(read)) found.push_back({entry.path(), std::move(read)});
        } catch (const Error& e) {
            unreadable = fmt::format("; passed over: {}", e.what());
        }
    }
    if (found.empty())
        throw Error(fmt::format("{}: has no {}{}{}", dataset.string(), kind,
                                name.empty() ? "" : " called " + name, unreadable));
    if (found.size() > 1) {
        std::vector<std::string> names;
        for (const PublicRun& run : found) names.push_back(run.folder.filename().string());
        std::sort(names.begin(), names.end());
        throw Error(fmt::format("{}: has several runs of a {}: {}; choose one with {}",
                                dataset.string(), kind, fmt::join(names, " "), option));
    }
    return std::move(found.front());
}

fs::path checkpoint_in(const fs::path& run, std::initializer_list<const char*> names) {
    for (const char* name : names)
        if (fs::is_regular_file(run / "model" / name)) return run / "model" / name;
    throw Error(fmt::format("{}: has no {}", (run / "model").string(), fmt::join(names, " or ")));
}

std::string model_of(const nn::TensorMap& state, int64_t codes) {
    const auto has = [&](const char* name) { return state.count(name) != 0; };
    if (has("token_embed_weight_") || has("token_embed_weight"))
        return "MoMask's residual transformer";
    if (has("token_emb.weight") && has("output_process.poseFinal.weight"))
        // BAMM has a class for the end beside the codes.
        return rows_of(state, "output_process.poseFinal.weight") == codes + 1
                   ? "BAMM's transformer"
                   : "MoMask's masked transformer";
    if (has("trans_base.l_embedder.mlp.0.weight")) return "BAD's transformer";
    if (has("trans_base.learn_tok_emb.weight")) return "MMM's transformer";
    if (has("trans_base.tok_emb.weight")) return "T2M-GPT's transformer";
    if (has("quantizer.layers.0.codebook")) return "MoMask's tokenizer";
    if (has("vqvae.quantizer.codebook")) return "the tokenizer of T2M-GPT, MMM and BAD";
    if (has("output.11.weight")) return "the length estimator";
    if (has("movement_encoder.main.0.weight")) return "the text-motion evaluator";
    for (const auto& [name, tensor] : state)
        if (name.ends_with("token_embedding.weight")) return "a CLIP text encoder";
    return "";
}

PublicState read_public_state(const fs::path& path, std::initializer_list<const char*> keys,
                              const std::string& what, int64_t codes) {
    const TensorFile file = load_tensors(path);
    PublicState state{path, {}};
    for (const char* key : keys)
        if (state.tensors.empty()) state.tensors = below(file.tensors, key);
    if (state.tensors.empty())
        throw Error(fmt::format("{}: is no checkpoint of {}; it holds {}", path.string(), what,
                                contents_of(file, codes)));
    if (const std::string is = model_of(state.tensors, codes); !is.empty() && is != what)
        throw Error(fmt::format("{}: is of {}, not of {}{}", path.string(), is, what,
                                is.starts_with("BAMM")                ? "; add --generator bamm"
                                : is.starts_with("BAD")               ? "; add --generator bad"
                                : is == "MoMask's masked transformer" ? "; add --generator momask"
                                                                      : ""));
    for (const auto& [name, tensor] : state.tensors)
        check_finite(path.string() + ": " + name, tensor);
    return state;
}

void load_public(nn::Module& module, const PublicState& state,
                 const std::function<bool(const std::string&)>& is_foreign) {
    module.load(state.tensors, {is_foreign, state.path.string()});
    module.set_requires_grad(false);
}

int64_t size_in(const PublicState& state, const std::string& name, int dimension) {
    const auto found = state.tensors.find(name);
    if (found == state.tensors.end() || found->second.dims() <= dimension)
        throw Error(
            fmt::format("{}: has no usable {}; get the file anew", state.path.string(), name));
    return found->second.size(dimension);
}

int64_t count_in(const PublicState& state, const std::string& prefix, const std::string& suffix,
                 int64_t first) {
    int64_t count = 0;
    while (state.tensors.count(prefix + std::to_string(first + count) + suffix)) ++count;
    return count;
}

}  // namespace mc
