// BAD's public folder, made here at a tiny size in PyTorch's own format.
#include "models/bad/public_layout.h"

#include <doctest/doctest.h>

#include "models/bundle.h"
#include "models/motion_edit.h"
#include "tensor/formats/load_tensors.h"
#include "tests/error_of.h"
#include "tests/public_checkpoints.h"
#include "tests/test_paths.h"

using namespace mc;
using namespace mc::bad;

namespace fs = std::filesystem;

namespace {

std::string refusal(const PublicLayout& layout) {
    return mc::testing::error_of([&] { load_public_bad(layout); });
}

}  // namespace

TEST_CASE("public BAD: sizes from the tensors of its two files") {
    const testing::ScratchDir scratch;
    testing::write_public_bad(scratch.path);
    const Parts parts = load_public_bad({scratch.path, "", ""});
    const Config& config = parts.transformer->config();
    CHECK(config.nb_code == testing::kPublicCodes);
    CHECK(config.embed_dim == 64);
    CHECK(config.heads == 1);
    CHECK(config.block_size == 52);
    CHECK(config.ff_rate == 2);
    CHECK(config.base_layers == 1);
    CHECK(parts.tokenizer->unit() == 4);
    CHECK(parts.tokenizer->config().net.depth == 1);
    CHECK(parts.length);
    CHECK(parts.normalisation.mean[0] == 0.5);
}

TEST_CASE("public BAD: what is missing or belongs elsewhere is one line") {
    const testing::ScratchDir scratch;
    testing::write_public_bad(scratch.path);
    const PublicLayout layout{scratch.path, "", ""};
    CHECK(testing::says(refusal({scratch.path, "run", ""}), "--masked-name"));
    const fs::path transformer = scratch.path / "output/t2m/trans_best_fid.pth",
                   kept = scratch.path / "kept";
    fs::rename(transformer, kept);
    CHECK(testing::says(refusal(layout), "output/t2m/trans_best_fid.pth: is not there"));
    write_pytorch(
        transformer,
        {{"trans", NamedTensors{{"trans_base.learn_tok_emb.weight", Tensor::zeros({3, 32})}}}});
    CHECK(testing::says(refusal(layout), "is of MMM's transformer, not of BAD's"));
    NamedTensors weights = load_tensors(kept, {.below = "trans"}).tensors;
    for (auto& [name, tensor] : weights)
        if (name.ends_with("vqvae.quantizer.codebook")) tensor = Tensor::zeros(tensor.shape());
    write_pytorch(transformer, {{"trans", weights}});
    CHECK(testing::says(refusal(layout), "another tokenizer"));
}

TEST_CASE("public BAD: an edit keeps every other row, by both samplers") {
    const testing::ScratchDir scratch;
    testing::write_public_bad(scratch.path);
    const testing::PublicText text(scratch.path);
    const Bundle bundle =
        load_public_checkpoints({scratch.path, "", "", "bad"}, {text.weights, text.vocabulary});
    for (const bool order_agnostic : {false, true}) {
        GenerationOptions options;
        options.steps = 4;
        options.order_agnostic = order_agnostic;
        const motion::FeatureSequence source =
            bundle.generator->generate({{"the", 40}}, options).front();
        const MotionEdit edit{source, {{8, 24}}};
        options.seed = 3;
        const auto made = bundle.generator->generate({{"the the", std::nullopt, edit}}, options);
        REQUIRE(made.front().frames == 40);
        for (int64_t t = 0; t < 40; ++t) {
            CAPTURE(t);
            CHECK(std::equal(source.at(t), source.at(t) + source.dims, made.front().at(t)) ==
                  !(t >= 8 && t < 24));
        }
    }

    const Parts parts = load_public_bad({scratch.path, "", ""});
    Generator generator(4);
    GeneratorSource draws(generator);
    GenerationOptions options;
    const Text words{Generator(5).normal({1, 512}, 0, 1), Generator(6).normal({1, 20, 64}, 0, 1)};
    std::vector<int64_t> given(20, -1);
    for (size_t i = 0; i < given.size(); i += 3) given[i] = static_cast<int64_t>(i % 8);
    for (const bool order_agnostic : {false, true}) {
        options.order_agnostic = order_agnostic;
        const std::vector<int64_t> ids =
            parts.transformer
                ->generate(words, {20}, options, draws, {}, Tensor::from_ids(given, {1, 20}))
                .to_vector<int64_t>();
        for (size_t i = 0; i < given.size(); ++i) {
            CHECK(ids[i] < testing::kPublicCodes);
            if (given[i] >= 0) CHECK(ids[i] == given[i]);
        }
        CHECK(ids[20] == parts.transformer->end_id());
    }
}
