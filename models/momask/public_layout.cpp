#include "models/momask/public_layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "models/opt_file.h"
#include "tensor/finite.h"
#include "tensor/formats/load_tensors.h"

namespace mc::momask {
namespace {

namespace fs = std::filesystem;

// The dataset folder: `path` itself or the one of t2m, kit below it.
fs::path dataset_folder(const fs::path& path) {
    if (!fs::is_directory(path))
        throw Error(path.string() + ": is no folder; name MoMask's checkpoints folder");
    for (const char* name : {"t2m", "kit"})
        if (fs::is_directory(path / name)) return path / name;
    return path;
}

struct Run {
    fs::path folder;
    OptFile opt;
};

// Runs of a kind among the folder's, or the one with the given name.
Run choose(const fs::path& dataset, const std::string& name, const char* kind, const char* option,
           const std::function<bool(const OptFile&)>& is_kind) {
    std::vector<Run> found;
    for (const auto& entry : fs::directory_iterator(dataset)) {
        const fs::path opt = entry.path() / "opt.txt";
        if (!fs::is_regular_file(opt)) continue;
        if (!name.empty() && entry.path().filename() != name) continue;
        OptFile read = read_opt_file(opt);
        if (is_kind(read)) found.push_back({entry.path(), std::move(read)});
    }
    if (found.empty())
        throw Error(fmt::format("{}: has no {}{}", dataset.string(), kind,
                                name.empty() ? "" : " called " + name));
    if (found.size() > 1) {
        std::string names;
        for (const Run& run : found) names += " " + run.folder.filename().string();
        throw Error(fmt::format("{}: has several runs of a {}:{}; choose one with {}",
                                dataset.string(), kind, names, option));
    }
    return std::move(found.front());
}

fs::path checkpoint_in(const fs::path& run, std::initializer_list<const char*> names) {
    std::string wanted;
    for (const char* name : names) {
        if (fs::is_regular_file(run / "model" / name)) return run / "model" / name;
        wanted += std::string(wanted.empty() ? "" : " or ") + name;
    }
    throw Error(fmt::format("{}: has no {}", (run / "model").string(), wanted));
}

// The state dict below the first of `keys` that the file has.
void load(nn::Module& module, const fs::path& path, std::initializer_list<const char*> keys,
          const char* what) {
    const TensorFile file = load_tensors(path);
    nn::TensorMap state;
    for (const char* key : keys) {
        const std::string prefix = std::string(key) + ".";
        for (const auto& [name, tensor] : file.tensors)
            if (name.starts_with(prefix)) state[name.substr(prefix.size())] = tensor;
        if (!state.empty()) break;
    }
    if (state.empty()) {
        std::string holds;
        if (file.values.defined())
            for (size_t i = 0; i < std::min<size_t>(file.values.size(), 8); ++i)
                holds += " " + file.values.key(i).repr(40);
        throw Error(fmt::format("{}: is no checkpoint of {}; it holds{}", path.string(), what,
                                holds.empty() ? " no state dict" : holds));
    }
    for (const auto& [name, tensor] : state) check_finite(path.string() + ": " + name, tensor);
    module.load(state, {is_foreign_key, path.string()});
    module.set_requires_grad(false);
}

vq::RvqConfig rvq_config(const OptFile& opt) {
    vq::RvqConfig c;
    const bool kit = opt.text("dataset_name", "t2m") == "kit";
    c.net.dim_pose = kit ? 251 : 263;
    c.net.width = opt.integer("width", c.net.width);
    c.net.code_dim = opt.integer("code_dim");
    c.net.depth = opt.integer("depth", c.net.depth);
    c.net.down_t = opt.integer("down_t", c.net.down_t);
    c.net.dilation_growth = opt.integer("dilation_growth_rate", c.net.dilation_growth);
    c.quantizer.code_dim = c.net.code_dim;
    c.quantizer.nb_code = opt.integer("nb_code");
    c.quantizer.num_quantizers = opt.integer("num_quantizers");
    if (opt.flag("shared_codebook", false))
        throw Error(opt.source() + ": shared_codebook: True is not supported (nor released)");
    return c;
}

TransformerConfig transformer_config(const OptFile& opt, const vq::RvqConfig& rvq,
                                     int64_t clip_dim) {
    TransformerConfig c;
    c.latent_dim = opt.integer("latent_dim");
    c.heads = opt.integer("n_heads");
    c.layers = opt.integer("n_layers");
    c.ff_size = opt.integer("ff_size");
    c.dropout = opt.number("dropout", c.dropout);
    c.cond_drop_prob = opt.number("cond_drop_prob", c.cond_drop_prob);
    c.num_tokens = rvq.quantizer.nb_code;
    c.code_dim = rvq.net.code_dim;
    c.num_quantizers = rvq.quantizer.num_quantizers;
    c.clip_dim = clip_dim;
    return c;
}

}  // namespace

Parts load_public_momask(const PublicLayout& layout) {
    constexpr int64_t kClipWidth = 512;  // of CLIP ViT-B/32, for which all were trained
    const fs::path dataset = dataset_folder(layout.checkpoints);
    const Run masked =
        choose(dataset, layout.masked_name, "masked transformer", "--masked-name",
               [](const OptFile& o) { return o.has("vq_name") && !o.flag("share_weight", false); });
    const std::string vq_name = masked.opt.text("vq_name");
    const Run rvq = choose(dataset, vq_name, "tokenizer", "vq_name in its opt.txt",
                           [](const OptFile& o) { return o.has("nb_code"); });
    const Run residual =
        choose(dataset, layout.residual_name, "residual transformer", "--residual-name",
               [](const OptFile& o) { return o.has("vq_name") && o.flag("share_weight", false); });
    if (residual.opt.text("vq_name") != vq_name)
        throw Error(
            fmt::format("{}: vq_name: is {}, the masked transformer's is {}; they do not "
                        "belong together",
                        residual.opt.source(), residual.opt.text("vq_name"), vq_name));

    Parts parts;
    const vq::RvqConfig tokenizer = rvq_config(rvq.opt);
    parts.tokenizer = std::make_unique<vq::RvqVae>(tokenizer, nullptr);
    load(*parts.tokenizer, checkpoint_in(rvq.folder, {"net_best_fid.tar", "latest.tar"}),
         {"vq_model", "net"}, "MoMask's tokenizer");
    parts.masked = std::make_unique<MaskTransformer>(
        transformer_config(masked.opt, tokenizer, kClipWidth), nullptr);
    load(*parts.masked, checkpoint_in(masked.folder, {"latest.tar", "net_best_fid.tar"}),
         {"t2m_transformer", "trans"}, "MoMask's masked transformer");
    parts.residual = std::make_unique<ResidualTransformer>(
        transformer_config(residual.opt, tokenizer, kClipWidth), nullptr);
    load(*parts.residual, checkpoint_in(residual.folder, {"net_best_fid.tar", "latest.tar"}),
         {"res_transformer"}, "MoMask's residual transformer");
    const fs::path length = dataset / "length_estimator" / "model" / "finest.tar";
    if (fs::is_regular_file(length)) {
        constexpr int64_t kClasses = 50;
        parts.length = std::make_unique<LengthEstimator>(kClipWidth, kClasses, nullptr);
        load(*parts.length, length, {"estimator"}, "the length estimator");
    }
    parts.normalisation = motion::read_normalisation(rvq.folder / "meta" / "mean.npy",
                                                     rvq.folder / "meta" / "std.npy", 0);
    parts.fps = tokenizer.net.dim_pose == 251 ? 12.5 : 20;
    return parts;
}

}  // namespace mc::momask
