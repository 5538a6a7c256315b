// Clips as tokens.
#include "train/token_data.h"

#include <doctest/doctest.h>

#include <cmath>
#include <memory>

#include "tests/synthetic_dataset.h"

using namespace mc;
using namespace mc::train;

namespace {

std::unique_ptr<vq::RvqVae> tokenizer() {
    vq::RvqConfig config;
    config.net.width = config.net.code_dim = config.quantizer.code_dim = 8;
    config.net.depth = 1;
    config.quantizer.nb_code = 16;
    config.quantizer.num_quantizers = 2;
    Generator init(3);
    auto model = std::make_unique<vq::RvqVae>(config, &init);
    for (auto& [name, codebook] : model->quantizer().buffers())
        codebook->copy_(Generator(4).normal(codebook->shape()));
    return model;
}

}  // namespace

TEST_CASE("token data: other speeds are further variants, of other lengths") {
    const testing::SyntheticDataset motions(40, 26, false);
    const MotionData data(motions.options);
    const auto owned = tokenizer();
    const vq::RvqVae& model = *owned;
    const TokenData plain(data, model), varied(data, model, 0, 0.25);
    int64_t longest = 0;
    for (const auto& sample : data.samples()) longest = std::max(longest, sample.frames / 4);
    for (size_t i = 0; i < data.samples().size(); ++i) {
        const auto &own = plain.variants(i), &all = varied.variants(i);
        REQUIRE(all.size() == own.size() + 8);
        for (size_t v = 0; v < own.size(); ++v) {
            CHECK(all[v].length == own[v].length);
            CHECK(all[v].ids == own[v].ids);
        }
        for (size_t v = 0; v < 8; ++v) {
            const double speed = std::pow(1.25, std::vector<double>{-1, -0.5, 0.5, 1}[v / 2]);
            const int64_t start = v % 2 ? 2 : 0;
            const TokenData::Variant& variant = all[own.size() + v];
            const auto frames = static_cast<double>(data.samples()[i].frames - start - 1);
            CHECK(variant.length ==
                  std::min(longest, static_cast<int64_t>(frames / speed + 1) / 4));
            CHECK(variant.ids.size() == static_cast<size_t>(2 * variant.length));
            // As if that motion were encoded alone.
            const Tensor motion = Tensor::zeros({1, 4 * variant.length, data.dims()});
            data.at_speed(i, start, 4 * variant.length, speed, motion.data<float>());
            CHECK(variant.ids == model.encode(motion).to_vector<int64_t>());
        }
    }
}

TEST_CASE("token data: a clip begins at each frame of a token's, as far as it is long enough") {
    const testing::SyntheticDataset motions(40, 26, false);
    const MotionData data(motions.options);
    const auto owned = tokenizer();
    const TokenData tokens(data, *owned);
    bool several = false;
    for (size_t i = 0; i < data.samples().size(); ++i) {
        const int64_t total = data.samples()[i].frames, length = total / 4;
        const auto& variants = tokens.variants(i);
        REQUIRE(static_cast<int64_t>(variants.size()) == total % 4 + 1);
        several |= variants.size() > 1;
        for (size_t start = 0; start < variants.size(); ++start) {
            CHECK(variants[start].length == length);
            const Tensor motion = data.normalised(i, static_cast<int64_t>(start), 4 * length);
            CHECK(variants[start].ids == owned->encode(motion).to_vector<int64_t>());
        }
    }
    CHECK(several);
}

TEST_CASE("token data: the batches of a split have every clip once, the last ones too") {
    const testing::SyntheticDataset motions(40, 26, false);
    const MotionData data(motions.options);
    const auto owned = tokenizer();
    const TokenData tokens(data, *owned);
    const auto all = static_cast<int64_t>(data.samples().size());
    for (int64_t batch : {int64_t{1}, int64_t{3}, all - 1, all, all + 1}) {
        std::vector<int64_t> seen(data.samples().size(), 0);
        int64_t longest = 0;
        for (const TokenBatch& part : token_batches_of_split(data, tokens, batch)) {
            REQUIRE(part.captions.size() == part.samples.size());
            CHECK(static_cast<int64_t>(part.samples.size()) <= batch);
            CHECK(part.ids.size(0) == static_cast<int64_t>(part.samples.size()));
            for (size_t b = 0; b < part.samples.size(); ++b) {
                ++seen[static_cast<size_t>(part.samples[b])];
                const auto& first = tokens.variants(static_cast<size_t>(part.samples[b]))[0];
                CHECK(part.lengths[b] == first.length);
                CHECK(first.length >= longest);  // the shortest first
                longest = first.length;
            }
        }
        CHECK(seen == std::vector<int64_t>(seen.size(), 1));
    }
}

TEST_CASE("token data: with padding, the variants are those of padded motions") {
    const testing::SyntheticDataset motions(40, 26, false);
    const MotionData data(motions.options);
    const auto owned = tokenizer();
    const vq::RvqVae& model = *owned;
    const TokenData varied(data, model, 64, 0.25);
    const TokenData::Variant& slow = varied.variants(0)[varied.variants(0).size() - 8];
    const Tensor motion = Tensor::zeros({1, 64, data.dims()});
    data.at_speed(0, 0, 4 * slow.length, 1 / 1.25, motion.data<float>());
    CHECK(slow.ids == model.encode(motion).slice(1, 0, slow.length).to_vector<int64_t>());
}
