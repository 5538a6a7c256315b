#include "models/clip/text_transformer.h"

#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "tests/reference_test.h"

using namespace mc;
using namespace mc::clip;

namespace {

Tensor ids_of(const std::vector<std::vector<int64_t>>& rows, int64_t context) {
    Tensor ids = Tensor::zeros({static_cast<int64_t>(rows.size()), context}, DType::i64);
    for (size_t r = 0; r < rows.size(); ++r)
        std::copy(rows[r].begin(), rows[r].end(), ids.data<int64_t>() + r * context);
    return ids;
}

double norm(const std::vector<double>& values) {
    double squares = 0;
    for (const double v : values) squares += v * v;
    return std::sqrt(squares);
}

}  // namespace

TEST_CASE("text transformer: golden values of clip_text.md section 2") {
    CHECK(train::moclip_hash("x", 0) == doctest::Approx(0.1443769).epsilon(1e-6));
    TextConfig config;
    config.width = 64;
    config.heads = 1;
    config.layers = 2;
    config.embed_dim = 16;
    TextTransformer model(config, nullptr);
    model.to(DType::f64);
    train::fill_as_moclip_golden(model);
    const Tensor out =
        model(ids_of({{49406, 320, 2533, 8192, 2342, 537, 7882, 269, 49407},
                      {49406, 320, 786, 6989, 2006, 541, 2100, 593, 787, 1823, 4924, 269, 49407}},
                     77))
            .value();
    const double want[2][4] = {{0.128946624, 2.431833799, -1.724457961, -0.413392883},
                               {-0.383131312, 1.667044516, -1.844553119, -0.185866946}};
    const double sums[2] = {-3.018483643, -2.373444807}, norms[2] = {4.292075903, 4.585414292};
    for (int64_t r = 0; r < 2; ++r) {
        const auto row = out.slice(0, r, r + 1).to_vector<double>();
        double sum = 0;
        for (const double v : row) sum += v;
        for (size_t i = 0; i < 4; ++i) CHECK(std::abs(row[i] - want[r][i]) < 2e-9);
        CHECK(std::abs(sum - sums[r]) < 2e-9);
        CHECK(std::abs(norm(row) - norms[r]) < 2e-9);
    }
}

TEST_CASE("text transformer: sizes come from the shapes, heads from the width") {
    TextConfig config;
    config.vocab = 600;
    config.context = 20;
    config.width = 128;
    config.heads = 2;
    config.layers = 3;
    config.embed_dim = 24;
    TextTransformer model(config, nullptr);
    const TextConfig got = TextConfig::from_state(model.state(), "here");
    CHECK(got.vocab == 600);
    CHECK(got.context == 20);
    CHECK(got.width == 128);
    CHECK(got.heads == 2);
    CHECK(got.layers == 3);
    CHECK(got.embed_dim == 24);
    nn::TensorMap broken = model.state();
    broken.erase("text_projection");
    CHECK_THROWS_WITH_AS(TextConfig::from_state(broken, "here"),
                         doctest::Contains("here has no usable text_projection"), Error);
    CHECK_THROWS_WITH_AS(model(Tensor::zeros({1, 21}, DType::i64)), doctest::Contains("at most 20"),
                         Error);
}

TEST_CASE("text transformer: recorded outputs and gradients of CLIP ViT-B/32") {
    testing::check_case("clip_text.safetensors");
}
