// What guidance computes once for both branches, and what is not computed because nobody draws it,
// against all of it computed. In f64: the same sums in the same order, but for a product's blocks.
#include <cmath>

#include "models/bamm/transformer.h"
#include "models/momask/mask_transformer.h"
#include "models/momask/residual_transformer.h"
#include "tests/autograd/autograd_test_util.h"

using namespace mc;
using namespace mc::testing;

namespace {

constexpr double kTolerance = 1e-12;

template <class Config>
Config tiny(int64_t layers) {
    Config config;
    config.num_tokens = 12;
    config.num_quantizers = 4;
    config.code_dim = config.clip_dim = 8;
    config.latent_dim = 16;
    config.heads = 2;
    config.layers = layers;
    config.ff_size = 24;
    return config;
}

const std::vector<int64_t> kLengths{5, 3};

Tensor cond() {
    return Generator(5).normal({2, 8}, 0, 1, DType::f64);
}

Tensor tokens() {
    return Tensor::from_ids({3, 12, 5, 12, 7, 2, 12, 4, 13, 13}, {2, 5});
}

// uncond + scale (cond - uncond) of two runs that share nothing.
template <class Logits>
Array guided(const Logits& logits, double scale) {
    Array with(logits(cond())), without(logits(Tensor::zeros({2, 8}, DType::f64)));
    for (size_t i = 0; i < with.v.size(); ++i)
        with.v[i] = without.v[i] + scale * (with.v[i] - without.v[i]);
    return with;
}

}  // namespace

TEST_CASE("the masked transformer's branches share their tokens, and only what is wanted is made") {
    const Tape::Pause no_tape;
    for (const int64_t layers : {1, 2}) {
        CAPTURE(layers);
        Generator init(3);
        momask::MaskTransformer model(tiny<momask::TransformerConfig>(layers), &init);
        model.to(DType::f64);
        const Tensor padding = momask::padding_mask(kLengths, 5);
        const Array want =
            guided([&](const Tensor& c) { return model.logits(tokens(), c, padding).value(); }, 4);
        check_near(model.guided_logits(tokens(), cond(), padding, 4), want, kTolerance, "all");
        for (const auto& drawn :
             std::vector<std::vector<uint8_t>>{{0, 1, 0, 1, 0, 0, 1, 0, 0, 0},
                                               {0, 0, 0, 0, 0, 1, 1, 1, 0, 0},
                                               {0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}) {
            Array some = want;
            for (size_t i = 0; i < some.v.size(); ++i)
                if (!drawn[i / 12]) some.v[i] = 0;
            check_near(model.guided_logits(tokens(), cond(), padding, 4,
                                           Tensor::from_bools(drawn, {2, 5})),
                       some, kTolerance, "wanted");
        }
    }
}

TEST_CASE("the masked transformer makes the same tokens whether or not all logits are made") {
    Generator init(3);
    momask::MaskTransformer model(tiny<momask::TransformerConfig>(2), &init);
    model.to(DType::f64);
    const Tensor keep = Tensor::from_ids({-1, 4, -1, -1, 2, 7, -1, -1, -1, -1}, {2, 5});
    for (const double guidance : {1.0, 4.0})
        for (const Tensor& kept : {Tensor(), keep}) {
            GenerationOptions options;
            options.steps = 4;
            options.guidance = guidance;
            options.top_k = 0.5;
            const auto made = [&](const Watch& watch) {
                Generator generator(11);
                GeneratorSource draws(generator);
                return model.generate(cond(), kLengths, options, draws, kept, watch)
                    .to_vector<int64_t>();
            };
            CHECK(made({}) == made([](const std::string&, const Tensor&) {}));
        }
}

TEST_CASE("the residual transformer's branches share their tokens") {
    const Tape::Pause no_tape;
    Generator init(3);
    momask::ResidualTransformer model(tiny<momask::TransformerConfig>(2), &init);
    model.to(DType::f64);
    for (auto& [name, parameter] : model.parameters())  // some start as zeros
        if (name.ends_with("weight") && parameter->dims() == 3)
            parameter->value().copy_(init.normal(parameter->shape(), 0, 1, DType::f64));
    const Tensor base = Tensor::from_ids({3, 1, 5, 0, 7, 2, 9, 4, -1, -1}, {2, 5}),
                 padding = momask::padding_mask(kLengths, 5);
    GenerationOptions options;
    std::vector<Tensor> seen;
    Generator generator(11);
    GeneratorSource draws(generator);
    model.generate(
        base, cond(), kLengths, options, draws, {},
        [&](const std::string&, const Tensor& logits) { seen.push_back(logits.clone()); });
    REQUIRE(seen.size() == 3);
    Tensor ids = base.clone();
    for (int64_t at = 8; at < 10; ++at) ids.data<int64_t>()[at] = model.pad_id();
    const Tensor table = model.state().at("token_embed_weight_").reshape({13, 8});
    check_near(seen[0],
               guided(
                   [&](const Tensor& c) {
                       return model.logits(embedding(Var(table), ids), {1, 1}, c, padding).value();
                   },
                   options.residual_guidance),
               kTolerance, "residual");
}

TEST_CASE("BAMM's branches share their tokens") {
    const Tape::Pause no_tape;
    const Tensor known = Tensor::from_ids({3, 13, 13, 13, 7, 2, 13, 4, 13, 13}, {2, 5});
    for (const bool gpt : {false, true})
        for (const Tensor& given : {Tensor(), known}) {
            bamm::Config config = tiny<bamm::Config>(2);
            config.gpt_blocks = gpt;
            Generator init(3);
            bamm::Transformer model(config, &init);
            model.to(DType::f64);
            check_near(
                model.guided_logits(tokens(), cond(), given, 3),
                guided([&](const Tensor& c) { return model.logits(tokens(), c, given).value(); },
                       3),
                kTolerance, "bamm");
        }
}
