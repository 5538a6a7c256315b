// Samplers that are given some of the tokens: those stay, and all others are made.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "models/bad/transformer.h"
#include "models/bamm/transformer.h"
#include "models/momask/mask_transformer.h"
#include "tests/tiny_transformers.h"

using namespace mc;

namespace {

// Kept tokens (2, 6) of motions of 6 and 4 tokens, from none to all; -1: to be made.
std::vector<Tensor> keeps() {
    std::vector<Tensor> all;
    for (int64_t every : {7, 3, 2, 1}) {
        Tensor keep = Tensor::full({2, 6}, -1, DType::i64);
        for (int64_t i = 0; i < 12; ++i)
            if (i % every == every - 1) keep.data<int64_t>()[i] = i;
        all.push_back(keep);
    }
    return all;
}

void check_kept(const Tensor& made, const Tensor& keep, int64_t codes) {
    for (int64_t b = 0; b < 2; ++b)
        for (int64_t i = 0; i < (b == 0 ? 6 : 4); ++i) {
            const int64_t id = made.item<int64_t>({b, i}), kept = keep.item<int64_t>({b, i});
            if (kept >= 0) CHECK(id == kept);
            CHECK((id >= 0 && id < codes));
        }
}

}  // namespace

TEST_CASE("MoMask: kept tokens stay, the others are made, and beyond a length is -1") {
    Generator init(3), noise(4);
    GeneratorSource draws(noise);
    const momask::MaskTransformer model(testing::tiny_transformer<momask::TransformerConfig>(1),
                                        &init);
    const Tensor text = Generator(5).normal({2, 8});
    for (bool gumbel : {false, true})
        for (double temperature : {1.0, 0.0})  // 0: the likeliest
            for (const Tensor& keep : keeps()) {
                GenerationOptions options;
                options.steps = 5;
                options.gumbel = gumbel;
                options.temperature = temperature;
                const Tensor made = model.generate(text, {6, 4}, options, draws, keep);
                check_kept(made, keep, 12);
                for (int64_t i : {4, 5}) CHECK(made.item<int64_t>({1, i}) == -1);
            }
}

TEST_CASE("MoMask: weights that give no numbers are an error, not tokens") {
    Generator init(3), noise(4);
    GeneratorSource draws(noise);
    momask::MaskTransformer model(testing::tiny_transformer<momask::TransformerConfig>(1), &init);
    for (auto& [name, weight] : model.parameters()) weight->value().fill_(NAN);
    CHECK_THROWS_WITH_AS(model.generate(Generator(5).normal({1, 8}), {3}, {}, draws),
                         doctest::Contains("no token can be drawn at place 0"), Error);
}

TEST_CASE("BAD: kept tokens stay and the others are made, by both samplers") {
    const bad::Config config = testing::tiny_bad(9);
    Generator init(3), noise(4);
    GeneratorSource draws(noise);
    const bad::Transformer model(config, Generator(2).normal({12, 4}), &init);
    const bad::Text words{Generator(5).normal({2, 8}), Generator(6).normal({2, 3, 8})};
    for (bool order_agnostic : {false, true})
        for (const Tensor& keep : keeps()) {
            if (keep.item<int64_t>({0, 0}) >= 0) continue;  // all kept: nothing to make
            GenerationOptions options;
            options.steps = 4;
            options.order_agnostic = order_agnostic;
            // At first all that are made are masks, in an order of their own.
            const auto watch = [&](const bad::Transformer::View& view) {
                if (view.step > 0) return;
                for (int64_t b = 0; b < 2; ++b) {
                    std::vector<int64_t> ranks, want;
                    for (int64_t i = 0; i < 6; ++i) {
                        const int64_t rank = view.ids.item<int64_t>({b, i}) - model.mask_id(0);
                        if (rank >= 0) ranks.push_back(rank);
                    }
                    std::sort(ranks.begin(), ranks.end());
                    for (size_t r = 0; r < ranks.size(); ++r)
                        want.push_back(static_cast<int64_t>(r));
                    CHECK(ranks.size() > 0);
                    CHECK(ranks == want);
                }
            };
            const Tensor made = model.generate(words, {6, 4}, options, draws, watch, keep);
            check_kept(made, keep, 12);
            Generator again(8), once(8);
            GeneratorSource watched(again), alone(once);
            CHECK(
                model.generate(words, {6, 4}, options, watched, watch, keep).to_vector<int64_t>() ==
                model.generate(words, {6, 4}, options, alone, {}, keep).to_vector<int64_t>());
            CHECK(made.item<int64_t>({0, 6}) == model.end_id());
            CHECK(made.item<int64_t>({1, 4}) == model.end_id());
        }
}

TEST_CASE("BAMM: a draft that ends at once has one token") {
    auto config = testing::tiny_transformer<bamm::Config>(1);
    config.reference_sampling = false;
    Generator init(3), noise(4);
    GeneratorSource draws(noise);
    bamm::Transformer model(config, &init);
    // The bias of the end is so great that nothing else is drawn.
    bool found = false;
    for (auto& [name, weight] : model.parameters())
        if (weight->dims() == 1 && weight->numel() > model.end_id() &&
            weight->numel() < model.end_id() + 3) {
            weight->value().data<float>()[model.end_id()] = 1e4f;
            found = true;
        }
    REQUIRE(found);
    const bamm::Transformer::Generated out =
        model.generate(Generator(5).normal({2, 8}), {}, 5, {}, draws);
    for (int64_t b = 0; b < 2; ++b) {
        CHECK(out.lengths[static_cast<size_t>(b)] == 1);
        CHECK(out.ids.item<int64_t>({b, 0}) < model.end_id());
        CHECK(out.ids.item<int64_t>({b, 1}) == model.end_id());
    }
}
