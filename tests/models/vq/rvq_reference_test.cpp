// The motion tokenizer against the original's recorded runs and the golden values of generators.md
// 15. The recordings are (B, C, T); ours is channels last.
#include <doctest/doctest.h>

#include <cmath>

#include "models/vq/rvq_vae.h"
#include "tests/reference_test.h"
#include "train/adamw.h"

using namespace mc;
using namespace mc::testing;
using namespace mc::train;
using namespace mc::vq;

namespace {

double mean_of(const Tensor& x, bool magnitude) {
    double sum = 0;
    for (const float v : x.to_vector<float>()) sum += magnitude ? std::abs(v) : v;
    return sum / static_cast<double>(x.numel());
}

}  // namespace

TEST_CASE("rvq: golden ids and reconstructions of generators.md 15") {
    RvqVae model(RvqConfig{}, nullptr);
    fill_as_generator_golden(model);
    CHECK(model.state().size() == 72);
    CHECK(model.state().begin()->first == "decoder.model.0.bias");
    CHECK(generator_hash(0, 0) == doctest::Approx(-0.98446973).epsilon(1e-7));
    CHECK(generator_hash(2, 7) == doctest::Approx(0.16870059).epsilon(1e-7));
    const Tensor x = generator_golden_input({1, 64, 263}, 1000);
    const RvqOutput out = model(Var(x));
    const int64_t first[8][6] = {{351, 400, 325, 314, 136, 139}, {397, 254, 233, 326, 104, 253},
                                 {93, 479, 95, 398, 61, 61},     {283, 297, 475, 73, 450, 168},
                                 {357, 303, 285, 189, 422, 290}, {121, 400, 308, 251, 160, 272},
                                 {419, 300, 58, 479, 43, 349},   {137, 352, 328, 383, 162, 199}};
    const int64_t sums[6] = {4795, 5291, 4116, 4660, 2665, 3044};
    const Tensor ids = model.encode(x);
    CHECK(ids.to_vector<int64_t>() == out.ids.to_vector<int64_t>());
    for (int64_t q = 0; q < 6; ++q) {
        int64_t sum = 0;
        for (int64_t t = 0; t < 16; ++t) {
            sum += ids.item<int64_t>({0, t, q});
            if (t < 8) CHECK(ids.item<int64_t>({0, t, q}) == first[t][q]);
        }
        CHECK(sum == sums[q]);
    }
    CHECK(out.commitment.value().item<float>() == doctest::Approx(0.0035800056).epsilon(1e-5));
    CHECK(perplexity(out.code_counts) == doctest::Approx(13.960088).epsilon(1e-5));

    const Tensor decoded = model.decode(ids);
    CHECK(decoded.shape() == Shape{1, 64, 263});
    CHECK(std::abs(mean_of(decoded, false) + 0.00020012556) < 1e-8);
    CHECK(mean_of(decoded, true) == doctest::Approx(0.011248519).epsilon(1e-5));
    const float start[4] = {-0.000527901f, -0.00832265f, -0.0104977f, 0.00649453f};
    const float end[4] = {0.0165518f, -0.0137488f, -0.00694522f, 0.0135324f};
    for (int64_t i = 0; i < 4; ++i) {
        CHECK(std::abs(decoded.item<float>({0, 0, i}) - start[i]) < 1e-6);
        CHECK(std::abs(decoded.item<float>({0, 63, 259 + i}) - end[i]) < 1e-6);
    }
    Tensor cut = ids.clone();
    for (int64_t t = 10; t < 16; ++t)
        for (int64_t q = 0; q < 6; ++q) cut.data<int64_t>()[t * 6 + q] = -1;
    const Tensor shorter = model.decode(cut);
    CHECK(mean_of(shorter, true) == doctest::Approx(0.011196425).epsilon(1e-5));
    const float changed[4] = {-0.000480198f, -0.00837062f, -0.0104786f, 0.00629969f};
    for (int64_t i = 0; i < 4; ++i)
        CHECK(std::abs(shorter.item<float>({0, 0, i}) - changed[i]) < 1e-6);
}

TEST_CASE("rvq: recorded encoder, ids, reconstructions of the full model") {
    check_case("momask_rvq.safetensors");
}

TEST_CASE("rvq: three recorded training steps of a small model") {
    check_case("momask_rvq_train_small.safetensors");
}

TEST_CASE("rvq: three recorded training steps with fewer rows than codes") {
    check_case("momask_rvq_train_small_tile.safetensors");
}

TEST_CASE("rvq: a recorded training step of the full model") {
    check_case("momask_rvq_train_full.safetensors");
}
