// Public checkpoint folders at a tiny size, in PyTorch's own format and the layouts of
// generators.md 3.1, 4.1 and 7.1, and a CLIP-like text encoder that fits them.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>

#include "models/bad/transformer.h"
#include "models/bamm/transformer.h"
#include "models/clip/merge_file.h"
#include "models/clip/text_transformer.h"
#include "models/clip/tokenizer.h"
#include "models/momask/length_estimator.h"
#include "models/momask/mask_transformer.h"
#include "models/momask/residual_transformer.h"
#include "models/vq/rvq_vae.h"
#include "motion/statistics.h"
#include "tensor/formats/pytorch.h"

namespace mc::testing {

inline NamedTensors cloned_state(nn::Module& module, const std::string& prefix = "") {
    NamedTensors out;
    for (const auto& [name, tensor] : module.state())
        out.emplace_back(prefix + name, tensor.clone());
    return out;
}

inline void write_opt(const std::filesystem::path& run, const std::string& lines) {
    std::filesystem::create_directories(run / "model");
    std::ofstream(run / "opt.txt") << "------------ Options -------------\n"
                                   << lines << "-------------- End ----------------\n";
}

inline void write_public_normalisation(const std::filesystem::path& mean_path,
                                       const std::filesystem::path& std_path,
                                       size_t columns = 263) {
    std::filesystem::create_directories(mean_path.parent_path());
    const std::vector<double> mean(columns, 0.5), std(columns, 2.0);
    motion::write_normalisation({mean, std}, mean_path, std_path, true);
}

// A merge file and a text encoder of width 64 in PyTorch's format.
struct PublicText {
    std::filesystem::path vocabulary, weights;
    explicit PublicText(const std::filesystem::path& folder, int64_t embed_dim = 512)
        : vocabulary(folder / "vocab.txt.gz"), weights(folder / "clip.pt") {
        clip::write_maybe_gzip(vocabulary.string(), "#version: 0.2\nt h\nth e</w>\n");
        clip::TextConfig config;
        config.vocab = clip::Tokenizer::from_file(vocabulary.string()).vocab_size();
        config.context = 20;
        config.width = 64;
        config.heads = 1;
        config.layers = 1;
        config.embed_dim = embed_dim;
        Generator init(2);
        clip::TextTransformer tower(config, &init);
        write_pytorch(weights, cloned_state(tower));
    }
};

constexpr int64_t kPublicCodes = 8;

inline vq::RvqConfig public_rvq_config() {
    vq::RvqConfig c;
    c.net.width = c.net.code_dim = c.quantizer.code_dim = 16;
    c.net.depth = 1;
    c.quantizer.nb_code = kPublicCodes;
    c.quantizer.num_quantizers = 3;
    return c;
}

inline momask::TransformerConfig public_transformer_config() {
    return {.num_tokens = kPublicCodes,
            .num_quantizers = 3,
            .code_dim = 16,
            .latent_dim = 32,
            .heads = 2,
            .layers = 1,
            .ff_size = 32};
}

inline const char* public_sizes() {
    return "cond_drop_prob: 0.1\nff_size: 32\nlatent_dim: 32\nn_heads: 2\nn_layers: 1\n";
}

// Fills zero buffers (codebooks), which a module does not draw for itself.
inline void draw_codebooks(nn::Module& module, Generator& init) {
    for (const auto& [name, tensor] : module.state())
        if (name.ends_with("codebook")) tensor.copy_(init.normal(tensor.shape(), 0, 1));
}

// What the released opt.txt of KIT's tokenizer has: a vq_name of its own, which is not its
// folder's.
inline void write_public_tokenizer(const std::filesystem::path& dataset) {
    const bool kit = dataset.filename() == "kit";
    const auto run = dataset / "rvq_tiny";
    write_opt(run, "code_dim: 16\ndataset_name: " + std::string(kit ? "kit" : "t2m") +
                       "\ndepth: 1\ndilation_growth_rate: 3\ndown_t: 2\n"
                       "nb_code: 8\nnum_quantizers: 3\nshared_codebook: False\nvq_act: relu\n"
                       "vq_name: rvq_nq6_dc512_nc512_noshare_qdp0.2\nvq_norm: None\nwidth: 16\n");
    Generator init(5);
    vq::RvqConfig config = public_rvq_config();
    if (kit) config.net.dim_pose = 251;
    vq::RvqVae tokenizer(config, &init);
    draw_codebooks(tokenizer, init);
    write_pytorch(run / "model" / "net_best_fid.tar",
                  {{"vq_model", cloned_state(tokenizer)}, {"ep", int64_t{7}}});
    write_public_normalisation(run / "meta" / "mean.npy", run / "meta" / "std.npy",
                               kit ? 251 : 263);
}

inline void write_public_residual(const std::filesystem::path& dataset) {
    Generator init(6);
    momask::ResidualTransformer residual(public_transformer_config(), &init);
    const auto run = dataset / "res_tiny";
    write_opt(run, public_sizes() + std::string("share_weight: True\nvq_name: rvq_tiny\n"));
    write_pytorch(run / "model" / "net_best_fid.tar",
                  {{"res_transformer", cloned_state(residual)}, {"ep", int64_t{1}}});
}

inline void write_public_length(const std::filesystem::path& dataset) {
    Generator init(7);
    momask::LengthEstimator length(512, 50, &init);
    const auto model = dataset / "length_estimator" / "model";
    std::filesystem::create_directories(model);
    write_pytorch(model / "finest.tar",
                  {{"estimator", cloned_state(length)}, {"epoch", int64_t{1}}});
}

// MoMask: `root`/t2m/..., or kit/, where there is no length estimator, is its checkpoints folder.
inline void write_public_momask(const std::filesystem::path& root, const char* name = "t2m") {
    const auto dataset = root / name;
    write_public_tokenizer(dataset);
    write_public_residual(dataset);
    if (dataset.filename() != "kit") write_public_length(dataset);
    Generator init(8);
    momask::MaskTransformer masked(public_transformer_config(), &init);
    const auto run = dataset / "mask_tiny";
    write_opt(run, public_sizes() + std::string("share_weight: False\nvq_name: rvq_tiny\n"));
    NamedTensors weights = cloned_state(masked);
    weights.emplace_back("clip_model.logit_scale", Tensor::full({}, 1));
    write_pytorch(run / "model" / "latest.tar", {{"t2m_transformer", weights}, {"ep", int64_t{1}}});
}

inline void write_public_bamm(const std::filesystem::path& root) {
    write_public_tokenizer(root / "log" / "vq" / "t2m");
    write_public_residual(root / "checkpoints" / "t2m");
    bamm::Config config;
    static_cast<momask::TransformerConfig&>(config) = public_transformer_config();
    Generator init(9);
    bamm::Transformer base(config, &init);
    const auto run = root / "log" / "t2m" / "t2m" / "2024_tiny";
    write_opt(run, public_sizes() + std::string("trans: official\nvq_name: rvq_tiny\n"));
    NamedTensors weights = cloned_state(base);
    weights.emplace_back("position_enc.pe", Tensor::zeros({5000, 1, 32}));
    write_pytorch(run / "model" / "latest.tar", {{"t2m_transformer", weights}, {"ep", int64_t{1}}});
}

inline void write_public_bad(const std::filesystem::path& root) {
    vq::RvqConfig rvq = public_rvq_config();
    rvq.quantizer.num_quantizers = 1;
    rvq.quantizer.periodic_reset = true;
    rvq.quantizer.quantize_dropout = rvq.quantizer.sample_temperature = 0;
    Generator init(10);
    vq::RvqVae tokenizer(rvq, &init);
    draw_codebooks(tokenizer, init);
    bad::Config config;
    config.nb_code = kPublicCodes;
    config.code_dim = 16;
    config.embed_dim = 64;  // one head: heads are 64 wide
    config.heads = 1;
    config.ff_rate = 2;
    config.cross_layers = config.base_layers = config.head_layers = 1;
    config.word_dim = 64;
    bad::Transformer transformer(config, tokenizer.quantizer().codebook(), &init);
    NamedTensors weights = cloned_state(transformer);
    for (const auto& entry : cloned_state(tokenizer, "trans_base.vqvae.vqvae."))
        weights.push_back(entry);
    weights.emplace_back("trans_base.pos_embedding.weight", Tensor::zeros({52, 64}));
    for (const char* folder : {"vq", "t2m"})
        std::filesystem::create_directories(root / "output" / folder);
    write_pytorch(root / "output" / "vq" / "vq_last.pth",
                  {{"net", cloned_state(tokenizer, "vqvae.")}});
    write_pytorch(root / "output" / "t2m" / "trans_best_fid.pth",
                  {{"trans", weights}, {"iter", int64_t{3}}});
    write_public_normalisation(root / "exit" / "t2m-mean.npy", root / "exit" / "t2m-std.npy");
    write_public_length(root / "checkpoints" / "t2m");
}

}  // namespace mc::testing
