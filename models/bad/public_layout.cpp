#include "models/bad/public_layout.h"

#include <algorithm>

#include "models/momask/public_layout.h"

namespace mc::bad {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kHeadWidth = 64;

fs::path required(const fs::path& path) {
    if (!fs::is_regular_file(path))
        throw Error(path.string() +
                    ": is not there; name BAD's folder, that with output/ and exit/ in it");
    return path;
}

std::unique_ptr<vq::RvqVae> load_tokenizer(const fs::path& path) {
    PublicState state = read_public_state(path, {"net"}, "the tokenizer of T2M-GPT, MMM and BAD");
    nn::TensorMap own;  // without "vqvae."
    for (const auto& [name, tensor] : state.tensors)
        own[name.starts_with("vqvae.") ? name.substr(6) : name] = tensor;
    state.tensors = std::move(own);
    vq::RvqConfig c;
    c.net.width = size_in(state, "encoder.model.0.weight", 0);
    c.net.dim_pose = size_in(state, "encoder.model.0.weight", 1);
    c.net.code_dim = c.quantizer.code_dim = size_in(state, "quantizer.codebook", 1);
    c.net.depth = count_in(state, "encoder.model.2.1.model.", ".conv1.weight");
    c.net.down_t = count_in(state, "encoder.model.", ".0.weight", 2);
    c.net.dropout = 0;
    c.quantizer.nb_code = size_in(state, "quantizer.codebook", 0);
    c.quantizer.num_quantizers = 1;
    c.quantizer.quantize_dropout = c.quantizer.sample_temperature = 0;
    c.quantizer.periodic_reset = true;
    auto model = std::make_unique<vq::RvqVae>(c, nullptr);
    load_public(*model, state, nullptr);
    return model;
}

Config config_of(const PublicState& state) {
    Config c;
    c.nb_code = size_in(state, "trans_head.head.weight", 0);
    c.block_size = size_in(state, "trans_base.learn_tok_emb.weight", 0);  // end, pad, ranks
    c.code_dim = size_in(state, "trans_base.learn_tok_emb.weight", 1);
    c.embed_dim = size_in(state, "trans_base.cond_emb.weight", 0);
    c.clip_dim = size_in(state, "trans_base.cond_emb.weight", 1);
    c.word_dim = size_in(state, "trans_base.word_emb.weight", 1);
    c.heads = std::max<int64_t>(1, c.embed_dim / kHeadWidth);
    c.ff_rate = size_in(state, "trans_head.blocks.0.mlp.0.weight", 0) / c.embed_dim;
    c.cross_layers = count_in(state, "trans_base.cross_att.", ".ln1.weight");
    c.base_layers = count_in(state, "trans_base.blocks.", ".ln1.weight");
    c.head_layers = count_in(state, "trans_head.blocks.", ".ln1.weight");
    return c;
}

}  // namespace

Parts load_public_bad(const PublicLayout& layout) {
    const fs::path& root = layout.checkpoints;
    if (!layout.base_name.empty() || !layout.residual_name.empty())
        throw Error(
            "BAD's public folder has no runs to choose from; leave --masked-name and "
            "--residual-name out");
    Parts parts;
    const fs::path vq = required(root / "output" / "vq" / "vq_last.pth");
    parts.tokenizer = load_tokenizer(vq);
    const PublicState state = read_public_state(
        required(root / "output" / "t2m" / "trans_best_fid.pth"), {"trans"}, "BAD's transformer");
    const Tensor& codebook = parts.tokenizer->quantizer().codebook();
    parts.transformer = std::make_unique<Transformer>(config_of(state), codebook, nullptr);
    load_public(*parts.transformer, state, is_foreign_key);
    const auto own = state.tensors.find("trans_base.vqvae.vqvae.quantizer.codebook");
    if (own != state.tensors.end() &&
        own->second.to(DType::f32).to_vector<float>() != codebook.to_vector<float>())
        throw Error(state.path.string() + ": was trained with another tokenizer than " +
                    vq.string() + "; get the two that belong together");
    parts.length = momask::load_public_length(root / "checkpoints" / "t2m");
    parts.normalisation = motion::read_normalisation(required(root / "exit" / "t2m-mean.npy"),
                                                     required(root / "exit" / "t2m-std.npy"), 0);
    return parts;
}

}  // namespace mc::bad
