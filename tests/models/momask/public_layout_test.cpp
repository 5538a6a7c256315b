// MoMask's public folder, made here at a tiny size in PyTorch's own format.
#include "models/momask/public_layout.h"

#include <doctest/doctest.h>

#include <cmath>
#include <fstream>

#include "models/bundle.h"
#include "models/clip/merge_file.h"
#include "models/clip/text_transformer.h"
#include "models/clip/tokenizer.h"
#include "tensor/formats/load_tensors.h"
#include "tests/test_paths.h"

using namespace mc;
using namespace mc::momask;

namespace fs = std::filesystem;

namespace {

const char* const kVq = "rvq_tiny";

void write_options(const fs::path& folder, const std::string& lines) {
    fs::create_directories(folder / "model");
    std::ofstream(folder / "opt.txt") << "------------ Options -------------\n"
                                      << lines << "-------------- End ----------------\n";
}

NamedTensors state_of(nn::Module& module) {
    NamedTensors out;
    for (const auto& [name, tensor] : module.state()) out.emplace_back(name, tensor.clone());
    return out;
}

struct PublicFolder {
    testing::ScratchDir scratch;
    fs::path t2m = scratch.path / "t2m";
    vq::RvqConfig rvq;
    TransformerConfig transformer;

    PublicFolder() {
        rvq.net.width = rvq.net.code_dim = rvq.quantizer.code_dim = 16;
        rvq.net.depth = 1;
        rvq.quantizer.nb_code = 8;
        rvq.quantizer.num_quantizers = 3;
        transformer = {.num_tokens = 8,
                       .num_quantizers = 3,
                       .code_dim = 16,
                       .latent_dim = 32,
                       .heads = 2,
                       .layers = 1,
                       .ff_size = 32};
        Generator init(5);
        vq::RvqVae tokenizer(rvq, &init);
        write_options(t2m / kVq,
                      "code_dim: 16\ndataset_name: t2m\ndepth: 1\ndilation_growth_rate: 3\n"
                      "down_t: 2\nnb_code: 8\nnum_quantizers: 3\nshared_codebook: False\n"
                      "vq_norm: None\nwidth: 16\n");
        write_pytorch(t2m / kVq / "model" / "net_best_fid.tar",
                      {{"vq_model", state_of(tokenizer)}, {"ep", int64_t{7}}});
        fs::create_directories(t2m / kVq / "meta");
        const std::vector<double> mean(263, 0.5), std(263, 2.0);
        motion::write_normalisation({mean, std}, t2m / kVq / "meta" / "mean.npy",
                                    t2m / kVq / "meta" / "std.npy", true);
        const std::string sizes =
            "cond_drop_prob: 0.1\nff_size: 32\nlatent_dim: 32\nn_heads: 2\nn_layers: 1\n";
        MaskTransformer masked(transformer, &init);
        write_options(t2m / "mask_tiny", sizes + "share_weight: False\nvq_name: rvq_tiny\n");
        NamedTensors weights = state_of(masked);
        weights.emplace_back("clip_model.logit_scale", Tensor::full({}, 1));
        write_pytorch(t2m / "mask_tiny" / "model" / "latest.tar",
                      {{"t2m_transformer", weights}, {"ep", int64_t{1}}});
        ResidualTransformer residual(transformer, &init);
        write_options(t2m / "res_tiny", sizes + "share_weight: True\nvq_name: rvq_tiny\n");
        write_pytorch(t2m / "res_tiny" / "model" / "net_best_fid.tar",
                      {{"res_transformer", state_of(residual)}, {"ep", int64_t{1}}});
        LengthEstimator length(512, 50, &init);
        fs::create_directories(t2m / "length_estimator" / "model");
        write_pytorch(t2m / "length_estimator" / "model" / "finest.tar",
                      {{"estimator", state_of(length)}, {"epoch", int64_t{1}}});
    }
    std::string refusal(const PublicLayout& layout) const {
        try {
            load_public_momask(layout);
        } catch (const Error& e) {
            return e.what();
        }
        return "";
    }
};

bool says(const std::string& text, const std::string& words) {
    INFO(text);
    return text.find(words) != std::string::npos && text.find('\n') == std::string::npos;
}

}  // namespace

TEST_CASE("public MoMask: every run of the folder, by what its opt.txt says") {
    const PublicFolder folder;
    for (const fs::path& named : {folder.scratch.path, folder.t2m}) {
        Parts parts = load_public_momask({named, "", ""});
        REQUIRE(parts.residual);
        REQUIRE(parts.length);
        CHECK(parts.tokenizer->config().quantizer.nb_code == 8);
        CHECK(parts.masked->config().latent_dim == 32);
        CHECK(parts.fps == 20);
        CHECK(parts.normalisation.mean[0] == 0.5);
        CHECK(parts.normalisation.std[0] == 2);  // as the file has it: no further division
        const TensorFile file =
            load_tensors(folder.t2m / "mask_tiny/model/latest.tar", {.below = "t2m_transformer"});
        for (const auto& [name, tensor] : file.tensors)
            if (name == "cond_emb.weight")
                CHECK(parts.masked->state().at(name).to_vector<float>() ==
                      tensor.to_vector<float>());
    }
}

TEST_CASE("public MoMask: what is missing or belongs elsewhere is one line") {
    const PublicFolder folder;
    const PublicLayout layout{folder.scratch.path, "", ""};
    CHECK(says(folder.refusal({folder.scratch.path / "none", "", ""}), "is no folder"));
    CHECK(says(folder.refusal({folder.scratch.path, "other", ""}), "called other"));

    // Two masked transformers: one must be chosen.
    fs::copy(folder.t2m / "mask_tiny", folder.t2m / "mask_again", fs::copy_options::recursive);
    CHECK(says(folder.refusal(layout), "--masked-name"));
    CHECK(folder.refusal({folder.scratch.path, "mask_tiny", ""}).empty());
    fs::remove_all(folder.t2m / "mask_again");

    // A checkpoint of another system.
    const fs::path masked = folder.t2m / "mask_tiny/model/latest.tar",
                   residual = folder.t2m / "res_tiny/model/net_best_fid.tar";
    fs::rename(masked, folder.scratch.path / "kept");
    fs::copy(residual, masked);
    CHECK(says(folder.refusal(layout), "is no checkpoint of MoMask's masked transformer"));
    CHECK(says(folder.refusal(layout), "res_transformer"));
    fs::remove(masked);
    CHECK(says(folder.refusal(layout), "latest.tar or net_best_fid.tar"));

    // Mis-shaped and missing tensors, all in one line; then a NaN.
    TensorFile file = load_tensors(folder.scratch.path / "kept", {.below = "t2m_transformer"});
    NamedTensors weights = file.tensors;
    std::erase_if(weights, [](const auto& e) { return e.first == "cond_emb.bias"; });
    for (auto& [name, tensor] : weights)
        if (name == "cond_emb.weight") tensor = Tensor::zeros({3, 3});
    write_pytorch(masked, {{"t2m_transformer", weights}});
    CHECK(says(folder.refusal(layout), "cond_emb.bias"));
    CHECK(says(folder.refusal(layout), "cond_emb.weight"));
    weights = file.tensors;
    for (auto& [name, tensor] : weights)
        if (name == "cond_emb.bias") {
            tensor = tensor.clone();
            tensor.data<float>()[3] = std::nanf("");
        }
    write_pytorch(masked, {{"t2m_transformer", weights}});
    CHECK(says(folder.refusal(layout), "cond_emb.bias"));
}

TEST_CASE("public MoMask: with a text encoder of its width it generates") {
    const PublicFolder folder;
    const fs::path vocabulary = folder.scratch.path / "vocab.txt", text = folder.scratch.path / "t";
    clip::write_maybe_gzip(vocabulary.string(), "#version: 0.2\nt h\nth e</w>\n");
    const auto write_text = [&](int64_t width) {
        clip::TextConfig config;
        config.vocab = clip::Tokenizer::from_file(vocabulary.string()).vocab_size();
        config.context = 20;
        config.width = 64;
        config.heads = 1;
        config.layers = 1;
        config.embed_dim = width;
        Generator init(2);
        clip::TextTransformer tower(config, &init);
        write_pytorch(text, state_of(tower));
    };
    write_text(512);
    const Bundle bundle = load_public_checkpoints({folder.t2m, "", ""}, {text, vocabulary});
    GenerationOptions options;
    options.steps = 2;
    const auto motions = bundle.generator->generate({{"the", 12}}, options);
    REQUIRE(motions.size() == 1);
    CHECK(motions[0].frames == 12);
    CHECK(motions[0].dims == 263);
    write_text(256);
    CHECK_THROWS_AS(load_public_checkpoints({folder.t2m, "", ""}, {text, vocabulary}), Error);
}
