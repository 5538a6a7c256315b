// BAD's tokenizer, transformer and samplers against the original's recorded runs and the golden
// values of generators.md 15. Its tokenizer's recordings are (B, C, T); ours is channels last.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "models/bad/transformer.h"
#include "models/vq/rvq_vae.h"
#include "tests/reference_test.h"

using namespace mc;
using namespace mc::bad;
using namespace mc::testing;
using namespace mc::train;

namespace {

vq::RvqConfig tokenizer_config(const ReferenceCase& recorded) {
    auto number = [&](const char* key) { return static_cast<int64_t>(recorded.config(key)); };
    vq::RvqConfig config;
    config.net.width = number("width");
    config.net.code_dim = config.quantizer.code_dim = number("code_dim");
    config.net.depth = number("depth");
    config.net.down_t = number("down_t");
    config.net.dilation_growth = number("dilation_growth_rate");
    config.net.dropout = 0;
    config.quantizer.nb_code = number("nb_code");
    config.quantizer.num_quantizers = 1;
    config.quantizer.quantize_dropout = 0;
    config.quantizer.sample_temperature = 0;
    config.quantizer.periodic_reset = true;
    return config;
}

Config config_of(const ReferenceCase& recorded) {
    auto number = [&](const char* key) { return static_cast<int64_t>(recorded.config(key)); };
    Config config;
    config.nb_code = number("nb_code");
    config.code_dim = number("code_dim");
    config.embed_dim = number("embed_dim");
    config.heads = number("n_head");
    config.ff_rate = number("ff_rate");
    config.cross_layers = number("num_local_layer");
    config.base_layers = number("num_layers") - number("num_local_layer");
    config.head_layers = number("num_layers");
    config.block_size = number("block_size") + 1;  // the rate, recorded with time_cond
    config.clip_dim = number("clip_dim");
    config.dropout = recorded.config("dropout");
    return config;
}

std::unique_ptr<Transformer> transformer(const Config& config) {
    const Tensor codebook = Tensor::zeros({config.nb_code, config.code_dim});
    fill_from_name(codebook, "vqvae.quantizer.codebook");
    auto model = std::make_unique<Transformer>(config, codebook, nullptr);
    fill_from_names(*model);
    return model;
}

Text text_of(const ReferenceCase& recorded, const Config& config) {
    const Tensor sentence = recorded.get("input.clip_feature");
    CHECK(hash_tensor("input.clip_feature", sentence.shape(), 0.8).to_vector<float>() ==
          sentence.to_vector<float>());
    return {sentence, hash_tensor("input.word_emb", {sentence.size(0), 77, config.word_dim})};
}

void check_tokenizer(const ReferenceCase& recorded) {
    vq::RvqVae model(tokenizer_config(recorded), nullptr);
    fill_from_names(model, "vqvae.");
    CHECK(model.state().size() == 67);
    const Tensor motion = recorded.get("input.motion");
    CHECK(hash_tensor("input.motion", motion.shape(), 1.5).to_vector<float>() ==
          motion.to_vector<float>());
    vq::Encoder encoder(model.config().net, nullptr);
    fill_from_names(encoder, "vqvae.encoder.");
    check_recorded(recorded, "output.encoder", encoder(Var(motion), {}).value().transpose(1, 2));
    const vq::RvqOutput out = model(Var(motion));
    CHECK(recorded.different("output.code_idx", out.ids) == 0);
    CHECK(recorded.different("output.code_idx", model.encode(motion)) == 0);
    check_recorded(recorded, "output.commit_loss", out.commitment.value());
    check_recorded(recorded, "output.perplexity", Tensor::full({}, out.perplexity, DType::f64));
    check_recorded(recorded, "output.forward_x_out", out.reconstruction.value());
    check_recorded(recorded, "output.decoded", model.decode(out.ids));
}

void check_quantizer_training(const ReferenceCase& recorded) {
    auto number = [&](const char* key) { return static_cast<int64_t>(recorded.config(key)); };
    vq::QuantizerConfig config;
    config.num_quantizers = 1;
    config.nb_code = number("nb_code");
    config.code_dim = number("code_dim");
    config.mu = recorded.config("mu");
    config.quantize_dropout = config.sample_temperature = 0;
    config.periodic_reset = true;
    vq::ResidualQuantizer quantizer(config);
    const int64_t batch = number("N"), n = number("T"), steps = number("steps"),
                  c = config.code_dim;
    int64_t step = 0;
    HashUniforms draws([&](const std::string&) { return "draw.randperm" + std::to_string(step); });
    Tensor statistics = Tensor::empty({steps, 2}, DType::f64);
    std::vector<float> codebooks;
    for (; step < steps; ++step) {
        const Tensor x = hash_tensor("input.x.step" + std::to_string(step), {batch, c, n});
        const Tensor shifted =
            affine(Var(x), 1, 0.1 * static_cast<double>(step % 5)).value().transpose(1, 2);
        const vq::Quantized out = quantizer.train(Var(shifted.contiguous()), draws);
        statistics.data<double>()[2 * step] = out.commitment.value().item<float>();
        statistics.data<double>()[2 * step + 1] = out.perplexity;
        for (const int64_t kept : {0, 19, 20, 21, 23})
            if (step == kept) {
                const std::vector<float> codes = quantizer.codebook().to_vector<float>();
                codebooks.insert(codebooks.end(), codes.begin(), codes.end());
            }
    }
    check_recorded(recorded, "output.codebook_at_steps_0_19_20_21_23",
                   Tensor::from(codebooks, {5, config.nb_code, c}));
    const nn::TensorMap state = quantizer.training_state();
    check_recorded(recorded, "output.code_count", state.at("code_count.0"));
    check_recorded(recorded, "output.code_sum", state.at("code_sum.0"));
    CHECK(state.at("used.0").to_vector<float>() == recorded.floats("output.usage"));
    // The reference's own deviation from float64 is the measure for either column.
    const std::vector<double> single = recorded.values("output.commit_perplexity"),
                              exact = recorded.values("output64.commit_perplexity");
    for (int64_t column = 0; column < 2; ++column) {
        double own = 0, largest = 0, gap = 0;
        for (size_t at = static_cast<size_t>(column); at < exact.size(); at += 2) {
            own = std::max(own, std::abs(single[at] - exact[at]));
            largest = std::max(largest, std::abs(exact[at]));
            gap = std::max(gap, std::abs(statistics.data<double>()[at] - exact[at]));
        }
        CAPTURE(column);
        CHECK(gap <= 8 * own + std::ldexp(largest, -22));
    }
}

void check_transformer(const ReferenceCase& recorded, int64_t gradients) {
    const Config config = config_of(recorded);
    const auto model = transformer(config);
    const Text text = text_of(recorded, config);
    const std::vector<int64_t> lengths = recorded.integers("input.m_tokens_len");
    check_recorded(recorded, "output.eval.logits",
                   model
                       ->logits(recorded.get("input.target_full"), text,
                                model->open_mask(lengths, config.tokens()))
                       .value());
    const Tensor target = recorded.get("input.target");
    CHECK(recorded.different("input.target",
                             hash_ids("input.target", target.shape(), config.nb_code)) == 0);
    HashUniforms draws;
    Tape tape;
    const Tape::Recording recording(tape);
    const Transformer::Step step = model->train_step(target.slice(1, 0, config.tokens() - 1),
                                                     lengths, text, {.training = true}, draws);
    CHECK(recorded.different("output.train.input_indices", step.ids) == 0);
    CHECK(recorded.different("output.train.randperm", step.corruption.ranks) == 0);
    CHECK(different_flags(recorded, "output.train.mask_token", step.corruption.masked, false) == 0);
    CHECK(different_flags(recorded, "output.train.mask", step.hidden, true) == 0);
    check_recorded(recorded, "output.train.loss", step.loss.value());
    check_recorded(recorded, "output.train.logits", step.logits);
    tape.backward(step.loss);
    check_gradients(recorded, "grad.train.", *model, gradients);
}

void check_generation(const ReferenceCase& recorded, const Transformer& model,
                      const std::string& mode, bool order_agnostic, bool random) {
    CAPTURE(mode);
    const std::string prefix = "output." + mode + ".";
    const Text text = text_of(recorded, model.config());
    const std::vector<int64_t> fed = recorded.integers(prefix + "step_input_ids");
    GenerationOptions options;
    options.steps = static_cast<int64_t>(recorded.config("max_steps"));
    options.order_agnostic = order_agnostic;
    options.temperature = random ? 1 : 0;
    std::vector<int64_t> lengths;  // tokens of the requested frames, rounded up
    for (const int64_t frames : recorded.integers("input.m_length"))
        lengths.push_back((frames + 3) / 4);
    HashUniforms draws;
    const Tensor ids =
        model.generate(text, lengths, options, draws, [&](const Transformer::View& view) {
            CAPTURE(view.step);
            const std::vector<int64_t> got = view.ids.to_vector<int64_t>();
            CHECK(std::equal(got.begin(), got.end(),
                             fed.begin() + view.step * static_cast<int64_t>(got.size())));
            const std::string step = prefix + "step" + std::to_string(view.step);
            if (!recorded.has(step + ".mask")) return;
            CHECK(different_flags(recorded, step + ".mask", view.hidden, true) == 0);
            check_recorded(recorded, step + ".logits", view.logits);
        });
    CHECK(recorded.different(prefix + "final_ids", ids) == 0);
}

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
    if (const auto recorded = recorded_case("bad_vqvae")) check_tokenizer(*recorded);
}

TEST_CASE("bad: recorded training of the quantizer, its reset included") {
    if (const auto recorded = recorded_case("bad_quantizer_train"))
        check_quantizer_training(*recorded);
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
    if (const auto recorded = recorded_case("bad_transformer")) check_transformer(*recorded, 14);
}

TEST_CASE("bad: recorded generation, CBS and OAAS") {
    const auto recorded = recorded_case("bad_generate");
    if (!recorded) return;
    const auto model = transformer(config_of(*recorded));
    check_generation(*recorded, *model, "OAAS", true, false);
    if (!slow_tests()) return;
    check_generation(*recorded, *model, "CBS_greedy", false, false);
    check_generation(*recorded, *model, "CBS", false, true);
}

TEST_CASE("bad: recorded schedule and number features") {
    const auto recorded = recorded_case("schedules");
    if (!recorded) return;
    std::vector<int64_t> counts, values;
    for (int64_t step = 0; step < 10; ++step)
        for (int64_t length = 1; length <= 49; ++length)
            counts.push_back(masked_before(step, step_span(10, length), length));
    CHECK(counts == recorded->integers("output.bad.num_masked.cosine"));
    for (int64_t v = 0; v <= 50; ++v) values.push_back(v);
    const std::vector<float> want = recorded->floats("output.bad.timestep_embedding_0_50"),
                             got = scalar_features(values).to_vector<float>();
    REQUIRE(got.size() == want.size());
    float gap = 0;
    for (size_t i = 0; i < want.size(); ++i) gap = std::max(gap, std::abs(got[i] - want[i]));
    // Arguments of up to 50, each behind two roundings (exp and product), and the cosine's own.
    CHECK(gap <= (2 * 50 + 1) * 0x1p-24f);
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
    Transformer::Corruption corruption{Tensor::zeros({1, 50}, DType::boolean),
                                       Tensor::empty({1, 50}, DType::i64)};
    Tensor ids = Tensor::empty({1, 50}, DType::i64);
    for (int64_t i = 0; i < 50; ++i) {
        corruption.ranks.data<int64_t>()[i] = i;
        corruption.masked.data<bool>()[i] = i < 40;
        ids.data<int64_t>()[i] = i < 40    ? model.mask_id(i)
                                 : i == 40 ? model.end_id()
                                           : model.pad_id();
    }
    const Tensor hidden = model.hidden_mask(corruption, {40});
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
        CHECK_THROWS_WITH_AS(made({12, 3}), "[bad] a length of 12 tokens, want 1 to 11", Error);
    }
    CHECK_THROWS_WITH_AS(
        Transformer(config, Tensor::zeros({16, 5}), nullptr),
        "[bad] the tokenizer's codebook is (16, 5), the transformer wants (16, 4); they were not "
        "trained together",
        Error);
}
