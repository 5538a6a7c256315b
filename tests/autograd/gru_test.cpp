#include "tests/autograd/autograd_test_util.h"

using namespace mc;
using namespace mc::testing;

TEST_CASE("gru_cell: values and gradients, with rows that stay as they are") {
    const auto logistic = [](double v) { return 1 / (1 + std::exp(-v)); };
    for (const bool some : {false, true}) {
        const int64_t batch = 3, width = 5;
        const Tensor input = random({batch, 3 * width}, 1), state = random({batch, 3 * width}, 2),
                     h = random({batch, width}, 3);
        const Tensor on = some ? Tensor::from_bools({1, 0, 1}, {batch}) : Tensor();
        const Array x(input), s(state), old(h);
        Array want(Shape{batch, width});
        for (int64_t b = 0; b < batch; ++b)
            for (int64_t i = 0; i < width; ++i) {
                const double r = logistic(x.at({b, i}) + s.at({b, i})),
                             z = logistic(x.at({b, width + i}) + s.at({b, width + i})),
                             n = std::tanh(x.at({b, 2 * width + i}) + r * s.at({b, 2 * width + i}));
                want.v[static_cast<size_t>(b * width + i)] =
                    some && b == 1 ? old.at({b, i}) : (1 - z) * n + z * old.at({b, i});
            }
        check_op(
            some ? "gru_cell, some rows" : "gru_cell", {input, state, h},
            [on](const std::vector<Var>& v) { return gru_cell(v[0], v[1], v[2], on); }, want, 1e-5);
    }
}

TEST_CASE("gru_cell: shapes that do not fit are told") {
    const auto var = [](const Shape& shape) { return Var(Tensor::zeros(shape)); };
    CHECK_ERROR(gru_cell(var({2, 6}), var({2, 6}), var({2, 3})), "[gru_cell]", "(2, 3)", "(2, 6)");
    CHECK_ERROR(gru_cell(var({2, 9}), var({2, 9}), var({2, 3}), Tensor::zeros({2})), "[gru_cell]",
                "bool (B)");
}
