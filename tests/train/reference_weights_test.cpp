#include "train/reference_weights.h"

#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/reference_test.h"

using namespace mc;
using namespace mc::train;

TEST_CASE("reference weights: the worked example of the recordings' README") {
    const HashStream stream("token_embedding.weight");
    CHECK(std::abs(stream.uniform(0) - 0.45909387) < 5e-9);
    CHECK(std::abs(stream.uniform(1) - 0.31935453) < 5e-9);
    const Tensor table = Tensor::zeros({3, 2});
    fill_from_name(table, "token_embedding.weight");
    CHECK(table.item<float>({0, 0}) == -0.00163624529f);
    CHECK(table.item<float>({0, 1}) == -0.00722581847f);
    CHECK(table.item<float>({1, 0}) == 0.00783548877f);
}

TEST_CASE("reference weights: the checks of the other two rules") {
    CHECK(std::abs(moclip_hash("x", 0) - 0.1443769) < 5e-8);
    CHECK(std::abs(moclip_hash("x", 1) + 0.2269727) < 5e-8);
    CHECK(std::abs(moclip_hash("x", 2) + 0.37701889) < 5e-8);
    const double row0[5] = {-0.98446973, 0.24463918, -0.94045081, -0.87855396, -0.16412936};
    for (uint32_t i = 0; i < 5; ++i) CHECK(std::abs(generator_hash(i, 0) - row0[i]) < 5e-9);
    CHECK(std::abs(generator_hash(2, 7) - 0.16870059) < 5e-9);
}

TEST_CASE("reference weights: every class of tensor has the listed sum") {
    const auto path = mc::testing::reference_file("weights_index.json");
    if (path.empty()) return;
    std::ifstream in(path);
    const auto index = nlohmann::json::parse(in);
    constexpr int64_t kLargest = 600'000;  // elements: every class is met below
    int64_t met = 0;
    for (const auto& [model, keys] : index.items())
        for (const auto& [key, entry] : keys.items()) {
            if (entry[0] == "keep") continue;
            Shape shape;
            for (const auto& size : entry[1]) shape.push_back(size.get<int64_t>());
            if (shape.numel() > kLargest) continue;
            const Tensor tensor = Tensor::zeros(shape);
            fill_from_name(tensor, key);
            double sum = 0;
            for (int64_t i = 0; i < tensor.numel(); ++i) sum += tensor.data<float>()[i];
            CAPTURE(model);
            CAPTURE(key);
            CHECK(std::abs(sum - entry[2].get<double>()) < 1e-9);
            CHECK(tensor.data<float>()[0] == entry[3].get<float>());
            ++met;
        }
    CHECK(met > 500);
}

TEST_CASE("reference weights: draws follow the key, kept tensors stay") {
    HashUniforms draws([](const std::string& name) { return "noise." + name; });
    const Tensor u = draws.uniform("a", {2, 3});
    CHECK(u.item<float>({1, 2}) == static_cast<float>(HashStream("noise.a").uniform(5)));
    // What Box-Muller makes of a tile request: s of randn.0, then of randn.1.
    for (const char* key : {"randn.0", "randn.1"}) {
        const Tensor pairs = draws.uniform("layer0.init.tile", {4, 2, 2});
        for (int64_t i = 0; i < 8; ++i) {
            const double radius = std::sqrt(-2 * std::log(1 - double{pairs.data<float>()[2 * i]}));
            const double normal = radius * std::cos(2 * M_PI * pairs.data<float>()[2 * i + 1]);
            CHECK(std::abs(normal - HashStream(key).symmetric(static_cast<uint64_t>(i))) < 1e-6);
        }
    }
    const Tensor scale = Tensor::full({}, 2.5);
    fill_from_name(scale, "logit_scale");
    CHECK(scale.item<float>() == 2.5f);
}
