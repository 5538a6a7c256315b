#include "tests/autograd/autograd_test_util.h"

using namespace mc;
using namespace mc::testing;

namespace {

// Layer norm over the last dimension; null: no weight (1), no bias (0).
Array naive_layer_norm(const Array& x, const Array* weight, const Array* bias, double eps) {
    const int64_t cols = x.shape.back();
    Array y(x.shape);
    for (size_t row = 0; row < x.v.size(); row += static_cast<size_t>(cols)) {
        double mean = 0, variance = 0;
        for (int64_t c = 0; c < cols; ++c) mean += x.v[row + static_cast<size_t>(c)];
        mean /= static_cast<double>(cols);
        for (int64_t c = 0; c < cols; ++c)
            variance += std::pow(x.v[row + static_cast<size_t>(c)] - mean, 2);
        variance /= static_cast<double>(cols);
        for (int64_t c = 0; c < cols; ++c) {
            const size_t at = row + static_cast<size_t>(c);
            y.v[at] =
                (x.v[at] - mean) / std::sqrt(variance + eps) * (weight ? weight->at({c}) : 1) +
                (bias ? bias->at({c}) : 0);
        }
    }
    return y;
}

}  // namespace

TEST_CASE("layer norm: with and without residual, weight and bias") {
    for (const Shape& shape : {Shape{3, 5}, Shape{2, 3, 9}, Shape{7}, Shape{2, 1}, Shape{19, 33}})
        for (int parts = 0; parts < 8; ++parts) {
            const bool with_weight = parts & 1, with_bias = parts & 2, with_residual = parts & 4;
            const Tensor x = random(shape, 1), w = random({shape.back()}, 2),
                         b = random({shape.back()}, 3), r = random(shape, 4);
            Array total(x);
            if (with_residual)
                for (size_t i = 0; i < total.v.size(); ++i) total.v[i] += Array(r).v[i];
            const Array wa(w), ba(b);
            const double eps = shape.back() == 1 ? 0.1 : 1e-5;
            const Array want = naive_layer_norm(total, with_weight ? &wa : nullptr,
                                                with_bias ? &ba : nullptr, eps);
            std::vector<Tensor> inputs{x};
            for (auto& [wanted, input] :
                 {std::pair{with_residual, r}, std::pair{with_weight, w}, std::pair{with_bias, b}})
                if (wanted) inputs.push_back(input);
            const Function f = [=](const std::vector<Var>& v) {
                size_t next = 1;
                const Var residual = with_residual ? v[next++] : Var(),
                          weight = with_weight ? v[next++] : Var(),
                          bias = with_bias ? v[next++] : Var();
                return with_residual ? layer_norm_residual(v[0], residual, weight, bias, eps)
                                     : layer_norm(v[0], weight, bias, eps);
            };
            const std::string name =
                "layer_norm " + shape.str() + " parts " + std::to_string(parts);
            check_op(name.c_str(), inputs, f, want, 1e-5);
        }
}

TEST_CASE("layer norm: one value as input and residual, a large mean, expanded parameters") {
    CHECK_NOTHROW(gradcheck("x + x", {random({3, 5}, 1)}, [](const std::vector<Var>& v) {
        return layer_norm_residual(v[0], v[0], Var(), Var(), 1e-5);
    }));
    Tensor x = random({2, 8}, 1);
    for (int64_t i = 0; i < 16; ++i) x.data<double>()[i] += 1e6;  // E[x^2] - E[x]^2 would fail
    check_near(layer_norm(Var(x), Var(), Var(), 1e-5).value(),
               naive_layer_norm(Array(x), nullptr, nullptr, 1e-5), 1e-9, "large mean");
    CHECK_NOTHROW(gradcheck(
        "expanded",
        {random({1, 5}, 1).expand({3, 5}), random({1}, 2).expand({5}), random({1}, 3).expand({5})},
        [](const std::vector<Var>& v) { return layer_norm(v[0], v[1], v[2], 0.1); }));
}

TEST_CASE("l2 normalize: rows of any size; below eps it is a division by eps") {
    for (const Shape& shape : {Shape{3, 5}, Shape{2, 3, 9}, Shape{7}, Shape{4, 1}}) {
        const Tensor x = random_off_zero(shape, 1, 0.1);
        for (double eps : {1e-12, 100.0}) {
            const int64_t cols = shape.back();
            Array want(x);
            for (size_t row = 0; row < want.v.size(); row += static_cast<size_t>(cols)) {
                double norm = 0;
                for (size_t c = 0; c < static_cast<size_t>(cols); ++c)
                    norm += want.v[row + c] * want.v[row + c];
                norm = std::max(std::sqrt(norm), eps);
                for (size_t c = 0; c < static_cast<size_t>(cols); ++c) want.v[row + c] /= norm;
            }
            check_op(
                "l2_normalize", {x},
                [=](const std::vector<Var>& v) { return l2_normalize(v[0], eps); }, want);
        }
    }
    const Tensor zero = Tensor::zeros({2, 3}, DType::f64);
    check_near(l2_normalize(Var(zero)).value(), Array(Shape{2, 3}), 0, "zero rows");
}

TEST_CASE("norms: errors name operation and shapes") {
    auto var = [](const Shape& shape) { return Var(random(shape, 1)); };
    CHECK_ERROR(layer_norm(var({2, 3}), var({2}), Var(), 1e-5), "[layer_norm]", "(2, 3)", "(2)");
    CHECK_ERROR(layer_norm(var({2, 3}), Var(), var({3, 1}), 1e-5), "[layer_norm]", "(3, 1)");
    CHECK_ERROR(layer_norm(var({}), Var(), Var(), 1e-5), "[layer_norm]", "()");
    CHECK_ERROR(layer_norm(var({2, 3}), Var(Tensor::zeros({3})), Var(), 1e-5), "[layer_norm]",
                "f32");
    CHECK_ERROR(layer_norm_residual(var({2, 3}), var({3}), Var(), Var(), 1e-5), "[layer_norm]",
                "(2, 3)", "(3)");
    CHECK_ERROR(l2_normalize(var({})), "[l2_normalize]", "()");
}
