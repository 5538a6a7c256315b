#include "models/momask/public_layout.h"

#include <fmt/format.h>

namespace mc::momask {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kClipWidth = 512;  // of CLIP ViT-B/32, for which all were trained

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

PublicTokenizer load_public_tokenizer(const fs::path& dataset, const std::string& name) {
    const PublicRun run = choose_run(dataset, name, "tokenizer", "vq_name in its opt.txt",
                                     [](const OptFile& o) { return o.has("nb_code"); });
    PublicTokenizer out;
    const vq::RvqConfig config = rvq_config(run.opt);
    out.name = run.folder.filename().string();
    out.model = std::make_unique<vq::RvqVae>(config, nullptr);
    load_public(*out.model,
                read_public_state(checkpoint_in(run.folder, {"net_best_fid.tar", "latest.tar"}),
                                  {"vq_model", "net"}, "MoMask's tokenizer"),
                is_foreign_key);
    out.normalisation = motion::read_normalisation(run.folder / "meta" / "mean.npy",
                                                   run.folder / "meta" / "std.npy", 0);
    out.fps = config.net.dim_pose == 251 ? 12.5 : 20;
    return out;
}

std::unique_ptr<ResidualTransformer> load_public_residual(const fs::path& dataset,
                                                          const std::string& name,
                                                          const PublicTokenizer& tokenizer) {
    const PublicRun run = choose_run(
        dataset, name, "residual transformer", "--residual-name",
        [](const OptFile& o) { return o.has("vq_name") && o.flag("share_weight", false); });
    if (run.opt.text("vq_name") != tokenizer.name)
        throw Error(
            fmt::format("{}: vq_name: is {}, the base transformer's is {}; they do not "
                        "belong together",
                        run.opt.source(), run.opt.text("vq_name"), tokenizer.name));
    auto model = std::make_unique<ResidualTransformer>(
        transformer_config(run.opt, tokenizer.model->config(), kClipWidth), nullptr);
    load_public(*model,
                read_public_state(checkpoint_in(run.folder, {"net_best_fid.tar", "latest.tar"}),
                                  {"res_transformer"}, "MoMask's residual transformer"),
                is_foreign_key);
    return model;
}

std::unique_ptr<LengthEstimator> load_public_length(const fs::path& dataset) {
    const fs::path path = dataset / "length_estimator" / "model" / "finest.tar";
    if (!fs::is_regular_file(path)) return nullptr;
    constexpr int64_t kClasses = 50;
    auto model = std::make_unique<LengthEstimator>(kClipWidth, kClasses, nullptr);
    load_public(*model, read_public_state(path, {"estimator"}, "the length estimator"),
                is_foreign_key);
    return model;
}

Parts load_public_momask(const PublicLayout& layout) {
    const fs::path dataset = dataset_folder(layout.checkpoints);
    if (fs::is_directory(layout.checkpoints / "log" / "t2m"))
        throw Error(layout.checkpoints.string() +
                    ": is laid out as BAMM's folder; add --generator bamm, or name its "
                    "checkpoints/ for MoMask");
    if (fs::is_directory(layout.checkpoints / "output" / "t2m"))
        throw Error(layout.checkpoints.string() +
                    ": is laid out as BAD's folder; add --generator bad");
    const PublicRun run = choose_run(
        dataset, layout.base_name, "masked transformer", "--masked-name",
        [](const OptFile& o) {  // newer tokenizers' opt.txt have a vq_name too
            return o.has("vq_name") && !o.has("nb_code") && !o.flag("share_weight", false);
        });
    PublicTokenizer tokenizer = load_public_tokenizer(dataset, run.opt.text("vq_name"));
    Parts parts;
    parts.masked = std::make_unique<MaskTransformer>(
        transformer_config(run.opt, tokenizer.model->config(), kClipWidth), nullptr);
    load_public(*parts.masked,
                read_public_state(checkpoint_in(run.folder, {"latest.tar", "net_best_fid.tar"}),
                                  {"t2m_transformer", "trans"}, "MoMask's masked transformer",
                                  tokenizer.model->config().quantizer.nb_code),
                is_foreign_key);
    parts.residual = load_public_residual(dataset, layout.residual_name, tokenizer);
    parts.length = load_public_length(dataset);
    parts.tokenizer = std::move(tokenizer.model);
    parts.normalisation = std::move(tokenizer.normalisation);
    parts.fps = tokenizer.fps;
    return parts;
}

}  // namespace mc::momask
