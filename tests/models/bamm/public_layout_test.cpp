// BAMM's public folder, made here at a tiny size in PyTorch's own format.
#include "models/bamm/public_layout.h"

#include <doctest/doctest.h>

#include "models/bundle.h"
#include "models/motion_edit.h"
#include "tests/error_of.h"
#include "tests/public_checkpoints.h"
#include "tests/test_paths.h"

using namespace mc;
using namespace mc::bamm;

namespace fs = std::filesystem;

namespace {

std::string refusal(const PublicLayout& layout) {
    return mc::testing::error_of([&] { load_public_bamm(layout); });
}

}  // namespace

TEST_CASE("public BAMM: sizes from the tensors, tokenizer and residual from their folders") {
    const testing::ScratchDir scratch;
    testing::write_public_bamm(scratch.path);
    const Parts parts = load_public_bamm({scratch.path, "", ""});
    const Config& config = parts.base->config();
    CHECK(config.num_tokens == testing::kPublicCodes);
    CHECK(config.latent_dim == 32);
    CHECK(config.heads == 2);
    CHECK(config.layers == 1);
    CHECK(config.ff_size == 32);
    CHECK_FALSE(config.gpt_blocks);
    CHECK(parts.residual);
    CHECK(parts.normalisation.std[0] == 2);
    // An opt.txt that says nothing of it: the only tokenizer, heads of width 64.
    testing::write_opt(scratch.path / "log/t2m/t2m/2024_tiny", "trans: official\n");
    CHECK(load_public_bamm({scratch.path, "", ""}).base->config().heads == 1);
}

TEST_CASE("public BAMM: what is missing or belongs elsewhere is one line") {
    const testing::ScratchDir scratch;
    testing::write_public_bamm(scratch.path / "bamm");
    testing::write_public_momask(scratch.path / "momask");
    const PublicLayout layout{scratch.path / "bamm", "", ""};
    CHECK(testing::says(refusal({scratch.path / "momask", "", ""}), "log/t2m"));
    CHECK(testing::says(refusal({layout.checkpoints, "other", ""}), "called other"));
    const fs::path base = layout.checkpoints / "log/t2m/t2m/2024_tiny/model/latest.tar";
    fs::remove(base);
    CHECK(testing::says(refusal(layout), "latest.tar or net_best_fid.tar"));
    fs::copy(scratch.path / "momask/t2m/mask_tiny/model/latest.tar", base);
    CHECK(testing::says(refusal(layout), "is of MoMask's masked transformer, not of BAMM's"));
    CHECK(testing::says(refusal(layout), "--generator momask"));
    fs::remove_all(layout.checkpoints / "checkpoints");
    CHECK(testing::says(refusal(layout), "checkpoints/t2m"));
}

TEST_CASE("public BAMM: an edit keeps every other row and every other token") {
    const testing::ScratchDir scratch;
    testing::write_public_bamm(scratch.path);
    const testing::PublicText text(scratch.path);
    const Bundle bundle =
        load_public_checkpoints({scratch.path, "", "", "bamm"}, {text.weights, text.vocabulary});
    GenerationOptions options;
    const motion::FeatureSequence source =
        bundle.generator->generate({{"the", 40}}, options).front();
    const MotionEdit edit{source, {{10, 20}, {36, 40}}};
    options.seed = 3;
    const auto made = bundle.generator->generate({{"the the", std::nullopt, edit}}, options);
    REQUIRE(made.front().frames == 40);
    for (int64_t t = 0; t < 40; ++t) {
        const bool edited = (t >= 10 && t < 20) || t >= 36;
        CAPTURE(t);
        CHECK(std::equal(source.at(t), source.at(t) + source.dims, made.front().at(t)) == !edited);
    }

    const Parts parts = load_public_bamm({scratch.path, "", ""});
    Generator generator(4);
    GeneratorSource draws(generator);
    const Tensor cond = Generator(5).normal({2, 512}, 0, 1);
    const Tensor keep = Tensor::from_ids({1, -1, 3, -1, -1, -1, 2, -1}, {2, 4});
    const std::vector<int64_t> filled =
        parts.base->fill(cond, keep, options, draws).to_vector<int64_t>();
    REQUIRE(filled.size() == 8);
    for (size_t i = 0; i < filled.size(); ++i) {
        CHECK(filled[i] >= 0);
        CHECK(filled[i] < testing::kPublicCodes);
        if (const int64_t kept = keep.to_vector<int64_t>()[i]; kept >= 0) CHECK(filled[i] == kept);
    }
}
