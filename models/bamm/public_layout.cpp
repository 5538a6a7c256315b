#include "models/bamm/public_layout.h"

#include <algorithm>

#include "models/momask/public_layout.h"

namespace mc::bamm {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kHeadWidth = 64;  // of MoMask's sizes, which the release has

Config config_of(const PublicState& state, const OptFile& opt, int64_t num_quantizers) {
    const std::string stack = "seqTransEncoder.";
    Config c;
    c.code_dim = size_in(state, "input_process.poseEmbedding.weight", 1);
    c.latent_dim = size_in(state, "input_process.poseEmbedding.weight", 0);
    c.clip_dim = size_in(state, "cond_emb.weight", 1);
    c.num_tokens = size_in(state, "output_process.poseFinal.weight", 0) - 1;  // and the end
    c.num_quantizers = num_quantizers;
    c.heads = opt.integer("n_heads", std::max<int64_t>(1, c.latent_dim / kHeadWidth));
    c.gpt_blocks = count_in(state, stack + "blocks.", ".ln1.weight") > 0;
    if (c.gpt_blocks) {
        c.layers = count_in(state, stack + "blocks.", ".ln1.weight");
        c.ff_size = size_in(state, stack + "blocks.0.mlp.0.weight", 0);
    } else {
        c.layers = count_in(state, stack + "layers.", ".norm1.weight");
        c.ff_size = size_in(state, stack + "layers.0.linear1.weight", 0);
    }
    return c;
}

}  // namespace

Parts load_public_bamm(const PublicLayout& layout) {
    const fs::path logs = layout.checkpoints / "log";
    if (!fs::is_directory(logs / "t2m"))
        throw Error(layout.checkpoints.string() +
                    ": has no log/t2m; name BAMM's folder, that with log/ and checkpoints/ in it");
    const fs::path runs = dataset_folder(logs / "t2m");
    const fs::path dataset = runs.filename();  // t2m or kit
    const PublicRun run = choose_run(runs, layout.base_name, "base transformer", "--masked-name",
                                     [](const OptFile&) { return true; });
    for (const fs::path& needed :
         {logs / "vq" / dataset, layout.checkpoints / "checkpoints" / dataset})
        if (!fs::is_directory(needed)) throw Error(needed.string() + ": is no folder");
    momask::PublicTokenizer tokenizer =
        momask::load_public_tokenizer(logs / "vq" / dataset, run.opt.text("vq_name", ""));
    const vq::RvqConfig& rvq = tokenizer.model->config();
    const PublicState state = read_public_state(
        checkpoint_in(run.folder, {"latest.tar", "net_best_fid.tar"}), {"t2m_transformer", "trans"},
        "BAMM's transformer", rvq.quantizer.nb_code);
    Parts parts;
    parts.base = std::make_unique<Transformer>(
        config_of(state, run.opt, rvq.quantizer.num_quantizers), nullptr);
    load_public(*parts.base, state, momask::is_foreign_key);
    parts.residual = momask::load_public_residual(layout.checkpoints / "checkpoints" / dataset,
                                                  layout.residual_name, tokenizer);
    parts.tokenizer = std::move(tokenizer.model);
    parts.normalisation = std::move(tokenizer.normalisation);
    parts.fps = tokenizer.fps;
    return parts;
}

}  // namespace mc::bamm
