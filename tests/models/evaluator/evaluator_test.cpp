#include "models/evaluator/evaluator.h"

#include <cmath>

#include "tests/reference_test.h"

using namespace mc;
using namespace mc::evaluator;

namespace {

struct Mean {
    double plain = 0, magnitude = 0;
    explicit Mean(const Tensor& x) {
        for (const float v : x.to_vector<float>()) {
            plain += static_cast<double>(v) / static_cast<double>(x.numel());
            magnitude += std::abs(static_cast<double>(v)) / static_cast<double>(x.numel());
        }
    }
};

void check_row(const Tensor& x, const std::vector<int64_t>& at, const std::vector<double>& want) {
    const Tensor flat = x.contiguous().reshape({x.numel() / x.size(-1), x.size(-1)});
    const int64_t row = at.size() == 2 ? at[0] * x.size(1) + at[1] : at[0];
    for (size_t i = 0; i < want.size(); ++i)
        CHECK(std::abs(static_cast<double>(flat.item<float>({row, static_cast<int64_t>(i)})) -
                       want[i]) < 2e-6);
}

}  // namespace

TEST_CASE("evaluator: golden values of generators.md 15") {
    const EvaluatorConfig config;
    MovementEncoder movement(config, nullptr);
    CHECK(movement.parameter_count() == 1842688);
    train::fill_as_generator_golden(movement);
    const Tensor movements =
        movement(Var(train::generator_golden_input({2, 196, 263}, 1000))).value();
    REQUIRE(movements.shape() == Shape{2, 49, 512});
    CHECK(Mean(movements).plain == doctest::Approx(-0.0010238067).epsilon(1e-4));
    CHECK(Mean(movements).magnitude == doctest::Approx(0.050167019).epsilon(1e-5));
    check_row(movements, {0, 0}, {-0.0607507, 0.10264, -0.0499692, 0.0468009});
    check_row(movements, {0, 48}, {-0.0342808, 0.0620863, -0.0647002});

    MotionEncoder motion(config, nullptr);
    CHECK(motion.parameter_count() == 15747584);
    CHECK(motion.state().size() == 17);
    train::fill_as_generator_golden(motion);
    const Tensor m = motion(Var(movements), {49, 30}).value();
    CHECK(Mean(m).plain == doctest::Approx(0.013310737).epsilon(1e-4));
    CHECK(Mean(m).magnitude == doctest::Approx(0.33691929).epsilon(1e-5));
    check_row(m, {0}, {-0.208219, -0.199901, -0.362487, 0.417577});
    check_row(m, {1}, {-0.389713, 0.391738, -0.371326, 0.511018});

    TextEncoder text(config, nullptr);
    CHECK(text.parameter_count() == 4100288);
    CHECK(text.state().size() == 19);
    train::fill_as_generator_golden(text);
    Tensor pos = Tensor::zeros({2, 22, 15});
    for (int64_t t = 0; t < 22; ++t) {
        pos.data<float>()[t * 15 + t % 15] = 1;
        pos.data<float>()[(22 + t) * 15 + 2 * t % 15] = 1;
    }
    const Tensor t = text(train::generator_golden_input({2, 22, 300}, 1003), pos, {22, 9}).value();
    CHECK(Mean(t).plain == doctest::Approx(-0.0031216914).epsilon(1e-4));
    CHECK(Mean(t).magnitude == doctest::Approx(0.33557106).epsilon(1e-5));
    check_row(t, {0}, {0.47026, -0.660135, 0.283018, -0.0253885});
    check_row(t, {1}, {-0.208925, -0.396669, 0.0412897, -0.720409});
}

TEST_CASE("evaluator: recorded movements and embeddings") {
    testing::check_case("t2m_evaluator.safetensors");
}

TEST_CASE("evaluator: recorded metrics") {
    testing::check_case("metrics.safetensors");
}

TEST_CASE("evaluator: rows do not depend on their order, nor on the batch; KIT's width") {
    EvaluatorConfig config = EvaluatorConfig::kit();
    config.movement_hidden = config.movement_dim = config.motion_hidden = config.embed_dim = 8;
    config.text_hidden = 8;
    Generator init(4);
    Evaluator model(config, &init);
    const Tensor motions = Generator(1).normal({2, 24, 251});
    const Tensor both = model.motion_embeddings(motions, {12, 24});
    const Tensor alone = model.motion_embeddings(motions.slice(0, 1, 2).contiguous(), {24});
    for (int64_t i = 0; i < 8; ++i)
        CHECK(both.item<float>({1, i}) == doctest::Approx(alone.item<float>({0, i})).epsilon(1e-5));
    CHECK_THROWS_WITH_AS(model.motion_embeddings(Tensor::zeros({1, 8, 263}), {8}),
                         doctest::Contains("want (B, T, 251)"), Error);
    CHECK_THROWS_WITH_AS(model.motion_embeddings(motions, {3, 24}), doctest::Contains("length 0"),
                         Error);
}
