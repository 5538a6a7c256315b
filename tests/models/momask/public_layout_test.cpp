// MoMask's public folder, made here at a tiny size in PyTorch's own format.
#include "models/momask/public_layout.h"

#include <doctest/doctest.h>

#include <cmath>

#include "models/bundle.h"
#include "tensor/formats/load_tensors.h"
#include "tests/error_of.h"
#include "tests/public_checkpoints.h"
#include "tests/test_paths.h"

using namespace mc;
using namespace mc::momask;

namespace fs = std::filesystem;

namespace {

struct PublicFolder {
    testing::ScratchDir scratch;
    fs::path t2m = scratch.path / "t2m";
    PublicFolder() { testing::write_public_momask(scratch.path); }
    std::string refusal(const PublicLayout& layout) const {
        return mc::testing::error_of([&] { load_public_momask(layout); });
    }
};

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

TEST_CASE("public MoMask: an opt.txt beside the runs that cannot be read is passed over") {
    const PublicFolder folder;
    // As it goes round with copies of the evaluator's package: a line of another form.
    testing::write_opt(folder.t2m / "Comp_v6_KLD005", "unit_length: 4\nwindow_size = 64\n");
    CHECK(folder.refusal({folder.scratch.path, "", ""}).empty());
    // Unless it is what is asked for.
    CHECK(testing::says(folder.refusal({folder.scratch.path, "Comp_v6_KLD005", ""}),
                        "is no \"key: value\""));
}

TEST_CASE("public MoMask: what is missing or belongs elsewhere is one line") {
    const PublicFolder folder;
    const PublicLayout layout{folder.scratch.path, "", ""};
    CHECK(testing::says(folder.refusal({folder.scratch.path / "none", "", ""}), "is no folder"));
    CHECK(testing::says(folder.refusal({folder.scratch.path, "other", ""}), "called other"));

    // Two masked transformers: one must be chosen.
    fs::copy(folder.t2m / "mask_tiny", folder.t2m / "mask_again", fs::copy_options::recursive);
    CHECK(testing::says(folder.refusal(layout), "--masked-name"));
    CHECK(folder.refusal({folder.scratch.path, "mask_tiny", ""}).empty());
    fs::remove_all(folder.t2m / "mask_again");

    // A checkpoint of another system.
    const fs::path masked = folder.t2m / "mask_tiny/model/latest.tar",
                   residual = folder.t2m / "res_tiny/model/net_best_fid.tar";
    fs::rename(masked, folder.scratch.path / "kept");
    fs::copy(residual, masked);
    CHECK(testing::says(folder.refusal(layout), "is no checkpoint of MoMask's masked transformer"));
    CHECK(testing::says(folder.refusal(layout), "res_transformer"));
    CHECK(testing::says(folder.refusal(layout), "MoMask's residual transformer"));
    fs::remove(masked);
    testing::write_public_bamm(folder.scratch.path / "bamm");
    fs::copy(folder.scratch.path / "bamm/log/t2m/t2m/2024_tiny/model/latest.tar", masked);
    CHECK(testing::says(folder.refusal(layout), "is of BAMM's transformer, not of MoMask's"));
    CHECK(testing::says(folder.refusal(layout), "--generator bamm"));
    CHECK(
        testing::says(folder.refusal({folder.scratch.path / "bamm", "", ""}), "--generator bamm"));
    fs::remove(masked);
    CHECK(testing::says(folder.refusal(layout), "latest.tar or net_best_fid.tar"));

    // Mis-shaped and missing tensors, all in one line; then a NaN.
    TensorFile file = load_tensors(folder.scratch.path / "kept", {.below = "t2m_transformer"});
    NamedTensors weights = file.tensors;
    std::erase_if(weights, [](const auto& e) { return e.first == "cond_emb.bias"; });
    for (auto& [name, tensor] : weights)
        if (name == "cond_emb.weight") tensor = Tensor::zeros({3, 3});
    write_pytorch(masked, {{"t2m_transformer", weights}});
    CHECK(testing::says(folder.refusal(layout), "cond_emb.bias"));
    CHECK(testing::says(folder.refusal(layout), "cond_emb.weight"));
    weights = file.tensors;
    for (auto& [name, tensor] : weights)
        if (name == "cond_emb.bias") {
            tensor = tensor.clone();
            tensor.data<float>()[3] = std::nanf("");
        }
    write_pytorch(masked, {{"t2m_transformer", weights}});
    CHECK(testing::says(folder.refusal(layout), "cond_emb.bias"));
}

TEST_CASE("public MoMask: with a text encoder of its width it generates") {
    const PublicFolder folder;
    const testing::PublicText text(folder.scratch.path);
    const Bundle bundle =
        load_public_checkpoints({folder.t2m, "", ""}, {text.weights, text.vocabulary});
    GenerationOptions options;
    options.steps = 2;
    const auto motions = bundle.generator->generate({{"the", 12}}, options);
    REQUIRE(motions.size() == 1);
    CHECK(motions[0].frames == 12);
    CHECK(motions[0].dims == 263);
    CHECK(bundle.defaults.guidance == 4);
    const testing::PublicText narrow(folder.scratch.path, 256);
    CHECK_THROWS_AS(
        load_public_checkpoints({folder.t2m, "", ""}, {narrow.weights, narrow.vocabulary}), Error);
}

TEST_CASE("public MoMask: KIT's folder, with its columns, rate and guidance") {
    testing::ScratchDir scratch;
    testing::write_public_momask(scratch.path, "kit");
    const testing::PublicText text(scratch.path);
    const Bundle bundle =
        load_public_checkpoints({scratch.path, "", ""}, {text.weights, text.vocabulary});
    CHECK(bundle.generator->fps() == 12.5);
    CHECK(bundle.defaults.guidance == 2);
    CHECK(public_bundle_parts({scratch.path, "", ""}, {text.weights, text.vocabulary})
              .defaults.guidance == 2);
    GenerationOptions options = bundle.defaults;
    options.steps = 2;
    const auto motions = bundle.generator->generate({{"the", 12}}, options);
    REQUIRE(motions.size() == 1);
    CHECK(motions[0].dims == 251);
    CHECK(motions[0].fps == 12.5);
    CHECK(testing::says(mc::testing::error_of([&] {
                            bundle.generator->generate({{"the", std::nullopt}}, options);
                        }),
                        "length"));
}
