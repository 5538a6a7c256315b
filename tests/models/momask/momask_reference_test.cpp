// MoMask's transformers, samplers and length estimator against the original's recorded runs and the
// golden values of generators.md 15. The recordings are (B, classes, n); ours are (B, n, classes).
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "models/momask/length_estimator.h"
#include "models/momask/mask_transformer.h"
#include "models/momask/residual_transformer.h"
#include "models/momask/sampling.h"
#include "tests/reference_test.h"

using namespace mc;
using namespace mc::momask;
using namespace mc::testing;
using namespace mc::train;

namespace {

TransformerConfig plain_config(double cond_drop) {
    TransformerConfig config;
    config.dropout = 0;
    config.cond_drop_prob = cond_drop;
    return config;
}

struct Mean {
    double plain = 0, magnitude = 0;
};
Mean mean_of(const Tensor& x) {
    Mean mean;
    for (const float v : x.to_vector<float>()) {
        mean.plain += v / static_cast<double>(x.numel());
        mean.magnitude += std::abs(v) / static_cast<double>(x.numel());
    }
    return mean;
}

// The common inputs of generators.md 15.
struct GoldenInputs {
    Tensor ids = Tensor::empty({2, 49}, DType::i64);
    Tensor cond = generator_golden_input({2, 512}, 1002);
    Tensor padding = padding_mask({49, 30}, 49);
    GoldenInputs() {
        for (int64_t i = 0; i < 49; ++i) {
            ids.data<int64_t>()[i] = i % 3 == 0 ? 512 : (37 * i + 11) % 512;
            ids.data<int64_t>()[49 + i] = i >= 30 ? 513 : (53 * i + 7) % 512;
        }
    }
};

void check_row(const Tensor& x, int64_t b, int64_t t, const std::vector<double>& want) {
    for (size_t i = 0; i < want.size(); ++i) {
        const float got = x.item<float>({b, t, static_cast<int64_t>(i)});
        CHECK(std::abs(got - want[i]) < 1e-5);
    }
}

}  // namespace

TEST_CASE("momask: golden logits of the masked transformer") {
    MaskTransformer model(plain_config(0.1), nullptr);
    fill_as_generator_golden(model);
    CHECK(model.state().size() == 107);
    const GoldenInputs in;
    const Tensor logits = model.logits(in.ids, in.cond, in.padding).value();
    const Mean row0 = mean_of(logits.slice(0, 0, 1)),
               row1 = mean_of(logits.slice(0, 1, 2).slice(1, 0, 30));
    CHECK(row0.plain == doctest::Approx(-0.047549764).epsilon(1e-4));
    CHECK(row0.magnitude == doctest::Approx(0.46894195).epsilon(1e-5));
    CHECK(row1.plain == doctest::Approx(-0.041091585).epsilon(1e-4));
    CHECK(row1.magnitude == doctest::Approx(0.4704669).epsilon(1e-5));
    check_row(logits, 0, 0, {-0.339575, 0.791103, -0.373775, -0.667489, -0.10625});
    check_row(logits, 0, 48, {-0.222058, 0.286332, -0.609955});
    check_row(logits, 1, 0, {-0.21145, 0.896395, -0.489639, -0.52182});
    const Tensor guided = model.guided_logits(in.ids, in.cond, in.padding, 4);
    CHECK(mean_of(guided.slice(0, 0, 1)).magnitude == doctest::Approx(0.4690587).epsilon(1e-5));
    check_row(guided, 0, 0, {-0.322951, 0.771561, -0.41244, -0.688319, -0.0857676});
}

TEST_CASE("momask: golden logits of the residual transformer") {
    ResidualTransformer model(plain_config(0.2), nullptr);
    fill_as_generator_golden(model);
    CHECK(model.state().size() == 111);
    const GoldenInputs in;
    const nn::TensorMap state = model.state();
    const double want[5][6] = {
        {0.0010478868, 0.012252438, -0.00227331, 0.0162842, -0.00151594, 0.01031},
        {0.00073456199, 0.012279508, 0.0227184, 0.00746608, -0.00206142, -0.02891},
        {0.00033024977, 0.011996854, 0.0276094, -0.00340748, -0.00667089, -0.0042351},
        {-0.000054432843, 0.011741126, 0.0000196309, 0.00222279, -0.0143721, -0.0137942},
        {0.00074471238, 0.011809044, 0.0254753, 0.0230937, 0.00569569, -0.0178349}};
    Var h;
    for (int64_t j = 1; j <= 5; ++j) {
        CAPTURE(j);
        const int64_t q = j - 1;
        Tensor ids = Tensor::empty({2, 49}, DType::i64);
        for (int64_t i = 0; i < 98; ++i)
            ids.data<int64_t>()[i] = (in.ids.data<int64_t>()[i] * (q + 1) + q) % 512;
        const Tensor bank =
            q == 0 ? state.at("token_embed_weight_")
                   : state.at("embed_proj_shared_weight").slice(0, q - 1, q).contiguous();
        const Var part = embedding(Var(bank.reshape({513, 512})), ids);
        h = h.defined() ? h + part : part;
        const std::vector<int64_t> layer(2, j);
        const Tensor with = model.logits(h, layer, in.cond, in.padding).value(),
                     without = model.logits(h, layer, Tensor::zeros({2, 512}), in.padding).value();
        const Tensor guided = (Var(without) + scale(Var(with) - Var(without), 5)).value();
        const Mean mean = mean_of(guided.slice(0, 0, 1));
        CHECK(std::abs(mean.plain - want[q][0]) < 2e-7);
        CHECK(mean.magnitude == doctest::Approx(want[q][1]).epsilon(1e-4));
        for (int64_t c = 0; c < 4; ++c)
            CHECK(std::abs(guided.item<float>({0, 0, c}) - want[q][2 + c]) < 5e-6);
    }
}

TEST_CASE("momask: golden logits of the length estimator") {
    LengthEstimator model(512, 50, nullptr);
    fill_as_generator_golden(model);
    const Tensor logits = model.logits(generator_golden_input({1, 512}, 1001)).value();
    const double want[6] = {0.765558, -0.539515, 0.145313, -0.171417, -0.22811, 0.170286};
    for (int64_t i = 0; i < 6; ++i) CHECK(std::abs(logits.item<float>({0, i}) - want[i]) < 2e-6);
}

TEST_CASE("momask: how many tokens are masked at each step") {
    const std::map<int64_t, std::vector<int64_t>> ten = {
        {5, {5, 5, 5, 4, 4, 3, 2, 2, 1, 1}},          {10, {10, 10, 9, 9, 8, 6, 5, 3, 2, 1}},
        {20, {20, 20, 19, 17, 15, 13, 10, 7, 3, 1}},  {30, {30, 30, 28, 26, 23, 19, 15, 10, 5, 1}},
        {40, {40, 39, 38, 35, 31, 26, 20, 14, 7, 1}}, {49, {49, 48, 46, 42, 38, 31, 24, 17, 9, 1}}};
    const std::map<int64_t, std::vector<int64_t>> eighteen = {
        {5, {5, 5, 5, 5, 5, 4, 4, 4, 4, 3, 3, 3, 2, 2, 1, 1, 1, 1}},
        {10, {10, 10, 10, 10, 9, 9, 9, 8, 7, 7, 6, 5, 4, 4, 3, 2, 1, 1}},
        {20, {20, 20, 20, 19, 19, 18, 17, 16, 15, 13, 12, 11, 9, 7, 5, 4, 2, 1}},
        {30, {30, 30, 29, 29, 28, 27, 26, 24, 22, 20, 18, 16, 13, 11, 8, 6, 3, 1}},
        {40, {40, 40, 39, 38, 37, 36, 34, 32, 30, 27, 24, 21, 18, 14, 11, 7, 4, 1}},
        {49, {49, 49, 48, 47, 46, 44, 42, 39, 36, 33, 30, 26, 22, 18, 13, 9, 5, 1}}};
    for (const auto* table : {&ten, &eighteen})
        for (const auto& [length, want] : *table) {
            std::vector<int64_t> got;
            for (const float t : time_grid(static_cast<int64_t>(want.size())))
                got.push_back(masked_count(t, length));
            CAPTURE(length);
            CHECK(got == want);
        }
    CHECK(top_k_count(0.9, 512) == 52);
    CHECK(top_k_count(0.9, 513) == 52);
    CHECK(top_k_count(0.9, 514) == 52);
    CHECK(top_k_count(0.9, 8192) == 820);
}

TEST_CASE("momask, bamm, bad: recorded time grids and masked counts of every length") {
    // Left out: where float64 would mask another number (6); BAD's unused schedules (2).
    check_case("schedules.safetensors", 8);
}

TEST_CASE("momask: recorded logits and training step of the masked transformer") {
    check_case("momask_mask_transformer.safetensors");
}

TEST_CASE("momask: recorded generation of base tokens in three modes") {
    check_case("momask_generate.safetensors");
}

TEST_CASE("momask: recorded logits and training step of the residual transformer") {
    check_case("momask_residual_transformer.safetensors");
}

TEST_CASE("momask: recorded generation of residual tokens") {
    check_case("momask_residual_generate.safetensors");
}

TEST_CASE("momask: recorded logits and gradients of the length estimator") {
    check_case("momask_length_estimator.safetensors");
}
