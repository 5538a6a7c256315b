// BAD's tokenizer, transformer and samplers against the original's recorded runs and the golden
// values of generators.md 15.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "models/bad/transformer.h"
#include "models/vq/rvq_vae.h"
#include "tests/reference_test.h"

using namespace mc;
using namespace mc::bad;
using namespace mc::testing;
using namespace mc::train;

namespace {

// The original's transformer file: what our module lacks is there too and counts as filled.
struct GoldenBad : nn::Module {
    vq::RvqVae vqvae;
    Var unused;  // (52, 1024)
    std::unique_ptr<Transformer> transformer;
    GoldenBad(const Config& config, const vq::RvqConfig& tokenizer)
        : vqvae(tokenizer, nullptr), unused(Tensor::zeros({config.block_size, config.embed_dim})) {
        const Tensor codebook = vqvae.state().at("quantizer.codebook");  // shares its storage
        transformer = std::make_unique<Transformer>(config, codebook, nullptr);
        add("trans_base.vqvae.vqvae", vqvae);
        add("", *transformer);
        add_parameter("trans_base.pos_embedding.weight", unused);
    }
};

// Times and ids of generators.md 15.
std::vector<int64_t> runs(const std::vector<std::pair<int64_t, int64_t>>& pairs) {
    std::vector<int64_t> out;
    for (const auto& [id, times] : pairs) out.insert(out.end(), static_cast<size_t>(times), id);
    return out;
}

}  // namespace

TEST_CASE("bad: recorded encoder, ids, reconstructions of the tokenizer") {
    check_case("bad_vqvae.safetensors");
}

TEST_CASE("bad: recorded training of the quantizer, its reset included") {
    check_case("bad_quantizer_train.safetensors");
}

TEST_CASE("bad: a quantiser that is saved and loaded goes on as one that was not") {
    vq::QuantizerConfig config;
    config.num_quantizers = 1;
    config.nb_code = 8;
    config.code_dim = 3;
    config.quantize_dropout = config.sample_temperature = 0;
    config.periodic_reset = true;
    vq::ResidualQuantizer whole(config), resumed(config);
    auto train = [](vq::ResidualQuantizer& quantizer, int64_t step) {
        Generator generator(7, static_cast<uint64_t>(step) << 32);
        GeneratorSource draws(generator);
        quantizer.train(Var(generator.normal({1, 5, 3}, 0, 1)), draws);  // fewer rows than codes
    };
    for (int64_t step = 0; step < 15; ++step) train(whole, step);
    resumed.load(whole.state());
    resumed.load_training_state(whole.training_state());
    for (int64_t step = 15; step < 45; ++step) {  // over two resets
        train(whole, step);
        train(resumed, step);
        CHECK(whole.codebook().to_vector<float>() == resumed.codebook().to_vector<float>());
    }
    nn::TensorMap state = whole.training_state();
    state.erase("used.0");
    CHECK_THROWS_AS(resumed.load_training_state(state), Error);
    config.num_quantizers = 2;
    CHECK_THROWS_AS(vq::ResidualQuantizer{config}, Error);
}

TEST_CASE("bad: recorded logits and training step") {
    check_case("bad_transformer.safetensors");
}

TEST_CASE("bad: recorded generation, OAAS") {
    check_modes("bad_generate.safetensors", {"OAAS"});
}

TEST_CASE("bad: recorded generation, CBS and OAAS") {
    if (slow_tests()) check_case("bad_generate.safetensors");
}

TEST_CASE("bad: golden mask, logits and single samples") {
    Config config;
    config.dropout = 0;
    vq::RvqConfig tokenizer;
    tokenizer.net.code_dim = tokenizer.quantizer.code_dim = config.code_dim;
    tokenizer.quantizer.nb_code = config.nb_code;
    tokenizer.quantizer.num_quantizers = 1;
    tokenizer.quantizer.periodic_reset = true;
    GoldenBad golden(config, tokenizer);
    CHECK(golden.state().size() == 378);
    fill_as_generator_golden(golden);
    const Transformer& model = *golden.transformer;
    const Text text{generator_golden_input({1, 512}, 1002),
                    generator_golden_input({1, 77, 512}, 1004)};
    Tensor ids = Tensor::empty({1, 50}, DType::i64);
    for (int64_t i = 0; i < 50; ++i)
        ids.data<int64_t>()[i] = i < 40    ? model.mask_id(i)
                                 : i == 40 ? model.end_id()
                                           : model.pad_id();
    const Tensor hidden = model.hidden_mask(ids);
    std::vector<int64_t> seen, want{3, 43};
    for (int64_t q = 0; q < 52; ++q) {
        const bool* row = hidden.data<bool>() + q * 52;
        seen.push_back(std::count(row, row + 52, false));
    }
    for (int64_t sum = 43; sum >= 4; --sum) want.push_back(sum);
    want.insert(want.end(), 10, 3);
    CHECK(seen == want);
    const Tensor logits = model.logits(ids, text, hidden).value();
    double mean = 0, magnitude = 0;
    for (const float v : logits.slice(1, 0, 41).to_vector<float>()) {
        mean += v / (41.0 * 8192);
        magnitude += std::abs(v) / (41.0 * 8192);
    }
    CHECK(mean == doctest::Approx(0.0021753627).epsilon(1e-4));
    CHECK(magnitude == doctest::Approx(0.46211296).epsilon(1e-5));
    const double first[4] = {-0.520708, -0.421275, 1.01375, -0.654844},
                 last[4] = {-0.453877, -0.149704, 0.592182, 0.0864547};
    for (int64_t i = 0; i < 4; ++i) {
        CHECK(std::abs(logits.item<float>({0, 0, i}) - first[i]) < 1e-5);
        CHECK(std::abs(logits.item<float>({0, 39, i}) - last[i]) < 1e-5);
    }
    if (!slow_tests()) return;
    // Ranks in place: uniforms that ascend.
    struct Ascending : UniformSource {
        Tensor uniform(const std::string&, const Shape& shape) override {
            Tensor u = Tensor::empty(shape);
            for (int64_t i = 0; i < u.numel(); ++i)
                u.data<float>()[i] = static_cast<float>(i) / static_cast<float>(u.numel());
            return u;
        }
    } draws;
    GenerationOptions options;
    options.temperature = 0;
    auto sampled = [&](bool order_agnostic) {
        options.order_agnostic = order_agnostic;
        const std::vector<int64_t> all =
            model.generate(text, {40}, options, draws).to_vector<int64_t>();
        return std::vector<int64_t>(all.begin(), all.begin() + 40);
    };
    CHECK(sampled(true) == runs({{2420, 2},
                                 {942, 1},
                                 {3265, 4},
                                 {5043, 1},
                                 {7474, 1},
                                 {4918, 1},
                                 {1708, 2},
                                 {942, 4},
                                 {3656, 2},
                                 {2323, 3},
                                 {942, 5},
                                 {2420, 4},
                                 {7585, 1},
                                 {7635, 3},
                                 {8157, 2},
                                 {6823, 3},
                                 {2323, 1}}));
    CHECK(sampled(false) == runs({{2420, 1},
                                  {5281, 1},
                                  {942, 1},
                                  {3265, 4},
                                  {5043, 1},
                                  {4918, 2},
                                  {1708, 3},
                                  {942, 2},
                                  {3656, 3},
                                  {2323, 3},
                                  {942, 5},
                                  {2420, 4},
                                  {7585, 2},
                                  {7635, 1},
                                  {8157, 3},
                                  {6823, 3},
                                  {5787, 1}}));
}

TEST_CASE("bad: generation at other sizes, in the order and steps meant") {
    Config config;
    config.nb_code = 16;
    config.code_dim = 4;
    config.embed_dim = 16;
    config.heads = 2;
    config.ff_rate = 2;
    config.cross_layers = config.base_layers = config.head_layers = 1;
    config.block_size = 14;
    config.clip_dim = 4;
    config.word_dim = 6;
    config.reference_sampling = false;
    Generator init(3);
    const Transformer model(config, init.normal({16, 4}, 0, 1), &init);
    const Text text{init.normal({2, 4}, 0, 1), init.normal({2, 5, 6}, 0, 1)};
    for (const bool order_agnostic : {false, true}) {
        GenerationOptions options;
        options.order_agnostic = order_agnostic;
        auto made = [&](const std::vector<int64_t>& lengths) {
            Generator generator(5);
            GeneratorSource draws(generator);
            return model.generate(text, lengths, options, draws).to_vector<int64_t>();
        };
        const std::vector<int64_t> ids = made({11, 3});
        CHECK(ids == made({11, 3}));
        for (int64_t i = 0; i < 12; ++i) {
            CHECK((ids[static_cast<size_t>(i)] < 16) == (i < 11));
            CHECK((ids[static_cast<size_t>(12 + i)] < 16) == (i < 3));
        }
        CHECK(ids[11] == model.end_id());
        CHECK(ids[15] == model.end_id());
        CHECK(ids[16] == model.pad_id());
        // Who watches sees all places; what comes after the ends changes nothing.
        Config quirks = config;
        quirks.reference_sampling = true;
        const Transformer original(quirks, init.normal({16, 4}, 0, 1), &init);
        for (const Transformer* each : {&model, &original})
            for (const auto& lengths : {std::vector<int64_t>{11, 3}, {2, 4}, {1, 1}, {8, 8}}) {
                Generator generator(5), whole_generator(5);
                GeneratorSource draws(generator), whole_draws(whole_generator);
                int64_t steps = 0;
                const auto watch = [&](const Transformer::View& view) {
                    CHECK(view.ids.size(1) == 12);
                    ++steps;
                };
                const Tensor trimmed = each->generate(text, lengths, options, draws),
                             whole = each->generate(text, lengths, options, whole_draws, watch);
                CHECK(trimmed.to_vector<int64_t>() == whole.to_vector<int64_t>());
                CHECK(steps > 0);
                CHECK(draws.uniform("next", {4}).to_vector<float>() ==
                      whole_draws.uniform("next", {4}).to_vector<float>());
            }
        CHECK_THROWS_WITH_AS(made({12, 3}), "[bad] a length of 12 tokens, want 1 to 11", Error);
    }
    CHECK_THROWS_WITH_AS(
        Transformer(config, Tensor::zeros({16, 5}), nullptr),
        "[bad] the tokenizer's codebook is (16, 5), the transformer wants (16, 4); they were not "
        "trained together",
        Error);
}
