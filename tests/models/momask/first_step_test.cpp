// What is kept of the first step of a generation, and that nobody can tell.
#include "models/momask/first_step.h"

#include "autograd/inference.h"
#include "models/momask/mask_transformer.h"
#include "tests/autograd/autograd_test_util.h"

using namespace mc;
using namespace mc::testing;

namespace {

Tensor cond(uint64_t seed, int64_t batch = 1) {
    return Generator(seed).normal({batch, 8}, 0, 1);
}

}  // namespace

TEST_CASE("the first step is computed once for a text and a length, and its half for a length") {
    momask::FirstStep step;
    std::vector<uint64_t> weights{1, 2};
    momask::FirstStep::Input input{Tensor::from_ids({12, 12, 3}, {1, 3}),
                                   Tensor::from_bools({0, 0, 0}, {1, 3}), cond(1), true};
    std::string computed;  // of each call: nothing, the conditional branch or both
    const auto run = [&] {
        computed = "nothing";
        return step(input, weights, [&](bool both) {
            computed = both ? "both" : "one";
            const double text = static_cast<double>(input.cond.item<float>({0, 0})),
                         length = static_cast<double>(input.ids.numel());
            return momask::Branches{Tensor::full({1, 3, 12}, text),
                                    both ? Tensor::full({1, 3, 12}, length) : Tensor()};
        });
    };
    const auto want = [&](const char* what, bool both = true) {
        const momask::Branches got = run();
        CHECK(computed == what);
        CHECK(got.with.item<float>({0, 2, 5}) == input.cond.item<float>({0, 0}));
        REQUIRE(got.without.defined() == both);
        if (both)
            CHECK(got.without.item<float>({0, 2, 5}) == static_cast<float>(input.ids.numel()));
    };
    want("both");
    want("nothing");
    const Tensor first = input.cond;
    input.cond = cond(2);
    want("one");
    want("nothing");
    input.cond = first;  // the last text of a length alone is kept
    want("one");
    input.ids = Tensor::from_ids({12, 4, 3}, {1, 3});  // another token stays
    want("both");
    input.padding = Tensor::from_bools({0, 0, 1}, {1, 3});
    want("both");
    input.guided = false;
    want("one", false);
    want("nothing", false);
    input.guided = true;
    want("nothing");
    {
        const Inference scope(Precision::bf16);
        want("both");
        want("nothing");
    }
    want("nothing");
    input.ids.data<int64_t>()[0] = 5;  // what was kept is a copy
    want("both");
    weights[1] = 3;
    want("both");
    want("nothing");
    const Tensor ids = input.ids;
    for (int64_t i = 0; i < static_cast<int64_t>(momask::FirstStep::kMost); ++i) {
        input.ids = Tensor::from_ids({i, i, i}, {1, 3});
        want("both");
    }
    input.ids = ids;  // used last longest ago
    want("both");
}

TEST_CASE("a model that has made motions makes the next as a new one would") {
    momask::TransformerConfig config;
    config.num_tokens = 12;
    config.code_dim = config.clip_dim = 8;
    config.latent_dim = 16;
    config.heads = 2;
    config.layers = 2;
    config.ff_size = 24;
    const auto fresh = [&] {
        Generator init(3);
        return std::make_unique<momask::MaskTransformer>(config, &init);
    };
    const auto used = fresh();
    const auto made = [&](const momask::MaskTransformer& model, uint64_t text, uint64_t seed,
                          std::vector<int64_t> lengths, double guidance) {
        Generator generator(seed);
        GeneratorSource draws(generator);
        GenerationOptions options;
        options.steps = 3;
        options.guidance = guidance;
        options.top_k = 0.5;
        return model
            .generate(cond(text, static_cast<int64_t>(lengths.size())), lengths, options, draws)
            .to_vector<int64_t>();
    };
    for (int round = 0; round < 2; ++round)
        for (const uint64_t text : {1, 2})
            for (const uint64_t seed : {7, 8})
                for (const std::vector<int64_t>& lengths :
                     std::vector<std::vector<int64_t>>{{9}, {12}, {9, 5}, {9, 7}})
                    for (const double guidance : {4.0, 1.0})
                        CHECK(made(*used, text, seed, lengths, guidance) ==
                              made(*fresh(), text, seed, lengths, guidance));
    for (auto& [name, parameter] : used->parameters())  // other weights in the same places
        parameter->value().copy_(Generator(9).normal(parameter->shape(), 0, 1));
    const auto other = fresh();
    for (auto& [name, parameter] : other->parameters())
        parameter->value().copy_(Generator(9).normal(parameter->shape(), 0, 1));
    CHECK(made(*used, 1, 7, {9}, 4) == made(*other, 1, 7, {9}, 4));
}
