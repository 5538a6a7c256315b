// Clips as tokens.
#include "train/token_data.h"

#include <doctest/doctest.h>

#include <cmath>
#include <memory>

#include "tests/synthetic_dataset.h"
#include "train/presets.h"

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

TEST_CASE("token data: a motion that is shorter than a token is named") {
    const testing::SyntheticDataset motions(40, 26, false);
    const MotionData data(motions.options);
    vq::RvqConfig config = tokenizer()->config();
    config.net.down_t = 5;
    Generator init(3);
    const vq::RvqVae coarse(config, &init);
    CHECK_THROWS_WITH_AS(TokenData(data, coarse),
                         doctest::Contains("frames, a token 32; leave such motions out with "
                                           "min_frames=32"),
                         Error);
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

TEST_CASE("token data: a motion cropped a unit shorter is encoded so, at each of its starts") {
    const testing::SyntheticDataset motions(40, 26, false);
    const MotionData data(motions.options);
    const auto owned = tokenizer();
    const TokenData plain(data, *owned), tokens(data, *owned, 40, 0, Shorten::crop);
    for (size_t i = 0; i < data.samples().size(); ++i) {
        CHECK(plain.shorter(i).empty());
        const int64_t total = data.samples()[i].frames, length = total / 4 - 1;
        CHECK(tokens.variants(i).size() == plain.variants(i).size());
        REQUIRE(static_cast<int64_t>(tokens.shorter(i).size()) == total - 4 * length + 1);
        for (size_t start = 0; start < tokens.shorter(i).size(); ++start) {
            const TokenData::Variant& variant = tokens.shorter(i)[start];
            CHECK(variant.length == length);
            const Tensor motion = Tensor::zeros({1, 40, data.dims()});
            data.normalised(i, static_cast<int64_t>(start), 4 * length, motion.data<float>());
            CHECK(variant.ids == owned->encode(motion).slice(1, 0, length).to_vector<int64_t>());
        }
    }
}

TEST_CASE("token data: or the first or the last token of the encoded motion is dropped") {
    const testing::SyntheticDataset motions(40, 26, false);
    const MotionData data(motions.options);
    const auto owned = tokenizer();
    const TokenData tokens(data, *owned, 0, 0, Shorten::tokens);
    for (size_t i = 0; i < data.samples().size(); ++i) {
        REQUIRE(tokens.shorter(i).size() == 2 * tokens.variants(i).size());
        for (size_t v = 0; v < tokens.shorter(i).size(); ++v) {
            const TokenData::Variant &whole = tokens.variants(i)[v / 2],
                                     &part = tokens.shorter(i)[v];
            CHECK(part.length == whole.length - 1);
            const auto begin = whole.ids.begin() + (v % 2 == 0 ? 2 : 0);  // two layers a token
            CHECK(part.ids == std::vector<int64_t>(begin, begin + 2 * part.length));
        }
    }
}

TEST_CASE("token data: a third of the draws is shorter, as far as there are two tokens") {
    const testing::SyntheticDataset motions(40, 26, false);
    const MotionData data(motions.options);
    const auto owned = tokenizer();
    const TokenData plain(data, *owned), tokens(data, *owned, 0, 0, Shorten::crop);
    constexpr int kDraws = 3 * 8 * 7 * 6 * 5;
    for (size_t i = 0; i < data.samples().size(); ++i) {
        std::vector<int> drawn(tokens.variants(i).size()), drawn_shorter(tokens.shorter(i).size());
        for (int d = 0; d < kDraws; ++d) {
            const float u = (static_cast<float>(d) + 0.5f) / kDraws;
            CHECK(plain.draw(i, u).length == plain.variants(i)[0].length);
            const TokenData::Variant& variant = tokens.draw(i, u);
            const bool full = variant.length == tokens.variants(i)[0].length;
            const TokenData::Variant* first =
                full ? tokens.variants(i).data() : tokens.shorter(i).data();
            ++(full ? drawn : drawn_shorter).at(static_cast<size_t>(&variant - first));
        }
        for (int count : drawn)
            CHECK(std::abs(count - 2 * kDraws / 3 / static_cast<int>(drawn.size())) <= 2);
        for (int count : drawn_shorter)
            CHECK(std::abs(count - kDraws / 3 / static_cast<int>(drawn_shorter.size())) <= 2);
    }
    // A tokenizer of 16 frames a token leaves one of most clips.
    vq::RvqConfig config = owned->config();
    config.net.down_t = 4;
    Generator init(3);
    vq::RvqVae coarse(config, &init);
    for (auto& [name, codebook] : coarse.quantizer().buffers())
        codebook->copy_(Generator(4).normal(codebook->shape()));
    for (const Shorten shorten : {Shorten::crop, Shorten::tokens}) {
        const TokenData few(data, coarse, 0, 0, shorten);
        size_t single = 0;
        for (size_t i = 0; i < data.samples().size(); ++i) {
            if (few.variants(i)[0].length > 1) continue;
            ++single;
            CHECK(few.shorter(i).empty());
            CHECK(few.draw(i, 0.99f).length == 1);
        }
        CHECK(single > 0);
    }
}

TEST_CASE("token data: the originals' recipes shorten as theirs do, the small ones do not") {
    const auto shorten = [](const std::vector<Preset>& presets, const std::string& name) {
        return resolve_config(presets, name, {}, {}).at("shorten").get<std::string>();
    };
    for (const auto* presets :
         {&masked_presets(), &residual_presets(), &bamm_presets(), &length_presets()}) {
        CHECK(shorten(*presets, "humanml3d") == "crop");
        CHECK(shorten(*presets, "small") == "no");
    }
    CHECK(shorten(bad_presets(), "humanml3d") == "tokens");
    CHECK(shorten(bad_presets(), "small") == "no");
    const auto options = [](const std::string& setting) {
        return token_stage_options(resolve_config(masked_presets(), "small", {}, {setting}), "x");
    };
    CHECK(options("shorten=tokens").shorten == Shorten::tokens);
    CHECK(options("shorten=crop").shorten == Shorten::crop);
    CHECK_THROWS_WITH_AS(options("shorten=yes"), "shorten is yes, want no, crop or tokens", Error);
}
