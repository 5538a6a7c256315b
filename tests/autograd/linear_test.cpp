#include <optional>

#include "autograd/inference.h"
#include "tests/autograd/autograd_test_util.h"

using namespace mc;
using namespace mc::testing;

namespace {

// (B, M, N) from a and b as they stand after the transposes; 2-D operands serve every batch.
Array naive_product(const Tensor& a_in, bool ta, const Tensor& b_in, bool tb) {
    const Array a(ta ? a_in.transpose(-2, -1) : a_in), b(tb ? b_in.transpose(-2, -1) : b_in);
    const int da = a.shape.size(), db = b.shape.size();
    Shape shape;
    if (da == 3)
        shape.push_back(a.shape[0]);
    else if (db == 3)
        shape.push_back(b.shape[0]);
    shape.push_back(a.shape[da - 2]);
    shape.push_back(b.shape[db - 1]);
    return filled(shape, [&](const std::vector<int64_t>& i) {
        const int64_t batch = i[0], row = i[i.size() - 2], col = i[i.size() - 1];
        double total = 0;
        for (int64_t k = 0; k < a.shape[da - 1]; ++k)
            total += (da == 3 ? a.at({batch, row, k}) : a.at({row, k})) *
                     (db == 3 ? b.at({batch, k, col}) : b.at({k, col}));
        return total;
    });
}

// (rows, cols), with a batch in front if there is one, stored transposed if asked.
Tensor matrix(int64_t batch, int64_t rows, int64_t cols, bool transposed, uint64_t seed) {
    if (transposed) std::swap(rows, cols);
    return random(batch ? Shape{batch, rows, cols} : Shape{rows, cols}, seed);
}

constexpr UnaryOp kActivations[] = {
    UnaryOp::relu,       UnaryOp::gelu, UnaryOp::quick_gelu, UnaryOp::tanh,   UnaryOp::sigmoid,
    UnaryOp::leaky_relu, UnaryOp::neg,  UnaryOp::exp,        UnaryOp::square, UnaryOp::abs,
    UnaryOp::sin,        UnaryOp::cos,  UnaryOp::log,        UnaryOp::sqrt,   UnaryOp::reciprocal};

}  // namespace

TEST_CASE("matmul: every transposition, batches on both sides, on one alone, on none") {
    const std::vector<std::pair<int, int>> batches{{0, 0}, {3, 3}, {3, 0}, {0, 3}, {1, 0}, {1, 1}};
    for (auto& [ba, bb] : batches)
        for (bool ta : {false, true})
            for (bool tb : {false, true}) {
                const Tensor a = matrix(ba, 3, 5, ta, 1), b = matrix(bb, 5, 2, tb, 2);
                const std::string name = "matmul " + a.shape().str() + (ta ? "^T " : " ") +
                                         b.shape().str() + (tb ? "^T" : "");
                check_op(
                    name.c_str(), {a, b},
                    [=](const std::vector<Var>& v) { return matmul(v[0], v[1], ta, tb); },
                    naive_product(a, ta, b, tb));
            }
}

TEST_CASE("matmul: larger than a tile, size one, an empty inner size, an empty batch") {
    for (bool ta : {false, true})
        for (bool tb : {false, true}) {
            const Tensor a = matrix(0, 37, 41, ta, 1), b = matrix(0, 41, 35, tb, 2);
            check_op(
                "matmul 37 41 35", {a, b},
                [=](const std::vector<Var>& v) { return matmul(v[0], v[1], ta, tb); },
                naive_product(a, ta, b, tb), 1e-5);
        }
    const Function f = [](const std::vector<Var>& v) { return matmul(v[0], v[1]); };
    check_op("1 1 1", {random({1, 1}, 1), random({1, 1}, 2)}, f,
             naive_product(random({1, 1}, 1), false, random({1, 1}, 2), false));
    check_op("k = 0", {random({2, 0}, 1), random({0, 3}, 2)}, f, Array(Shape{2, 3}));
    check_op("batch 0", {random({0, 2, 4}, 1), random({4, 3}, 2)}, f, Array(Shape{0, 2, 3}));
    check_op("batch 0 right", {random({2, 4}, 1), random({0, 4, 3}, 2)}, f, Array(Shape{0, 2, 3}));
}

TEST_CASE("matmul: expanded operands, and a value times itself") {
    const Tensor a = random({1, 4}, 1).expand({3, 4}), b = random({4, 1}, 2).expand({4, 5});
    CHECK_NOTHROW(gradcheck("expanded", {a, b},
                            [](const std::vector<Var>& v) { return matmul(v[0], v[1]); }));
    CHECK_NOTHROW(gradcheck("gram", {random({3, 4}, 1)}, [](const std::vector<Var>& v) {
        return matmul(v[0], v[0], false, true);
    }));
}

// A dropout that follows a product becomes a part of its node: the same bits as one of its own.
TEST_CASE("linear: with the dropout that follows it") {
    const Tensor x = random({5, 6}, 1), w = random({7, 6}, 2), b = random({7}, 3),
                 dy = random({5, 7}, 4);
    for (const std::optional<UnaryOp> activation :
         {std::optional<UnaryOp>(), std::optional(UnaryOp::gelu)})
        for (const int dropouts : {1, 2}) {
            const auto layer = [&](const std::vector<Var>& v, bool kept) {
                Generator draws(3);
                Var y = linear(v[0], v[1], v[2], activation);
                const Var other = kept ? y : Var();  // somebody else has the value
                for (int i = 0; i < dropouts; ++i) y = dropout(std::move(y), 0.3, draws);
                return y;
            };
            const auto gradients = [&](bool kept, size_t nodes) {
                const std::vector<Var> leaves{Var(x, requires_grad), Var(w, requires_grad),
                                              Var(b, requires_grad)};
                Tape tape;
                Tape::Recording recording(tape);
                const Var y = layer(leaves, kept);
                CHECK(tape.size() == nodes);
                tape.backward(y, dy);
                std::vector<std::vector<double>> values{values_of(y.value())};
                for (const Var& leaf : leaves) values.push_back(values_of(leaf.grad()));
                return values;
            };
            const auto fused = gradients(false, static_cast<size_t>(dropouts));
            const auto apart = gradients(true, static_cast<size_t>(dropouts) + 1);
            CHECK(fused == apart);
            CHECK_NOTHROW(gradcheck("linear and dropout", {x, w, b},
                                    [&](const std::vector<Var>& v) { return layer(v, false); }));
            // Without a bias, and where the weight alone is trained.
            CHECK_NOTHROW(gradcheck("no bias", {x, w}, [&](const std::vector<Var>& v) {
                return layer({v[0], v[1], Var()}, false);
            }));
            CHECK_NOTHROW(gradcheck("weight", {w}, [&](const std::vector<Var>& v) {
                return layer({Var(x), v[0], Var(b)}, false);
            }));
        }
}

TEST_CASE("matmul: errors name operation and shapes") {
    auto var = [](const Shape& shape) { return Var(random(shape, 1)); };
    CHECK_ERROR(matmul(var({2, 3}), var({4, 2})), "[matmul]", "(2, 3)", "(4, 2)");
    CHECK_ERROR(matmul(var({2, 3}), var({3, 2}), true), "[matmul]", "(2, 3)^T", "(3, 2)");
    CHECK_ERROR(matmul(var({2, 2, 3}), var({3, 3, 2})), "[matmul]", "(2, 2, 3)", "(3, 3, 2)");
    CHECK_ERROR(matmul(var({3}), var({3, 2})), "[matmul]", "(3)");
    CHECK_ERROR(matmul(var({2, 3}), Var(Tensor::zeros({3, 2}))), "[matmul]", "f64", "f32");
}

TEST_CASE("linear: gradients that are there already, alone or shared, are added to") {
    const Tensor x = random({2, 3, 4}, 1), w = random({4, 4}, 2);
    // x's comes from the sum first, and is the very tensor that arrives at the product.
    CHECK_NOTHROW(gradcheck("residual", {x, w}, [](const std::vector<Var>& v) {
        return linear(v[0], v[1], Var()) + v[0];
    }));
    CHECK_NOTHROW(gradcheck("normed residual", {x, w}, [](const std::vector<Var>& v) {
        return layer_norm_residual(linear(v[0], v[1], Var()), v[0], Var(), Var(), 1e-5);
    }));
    CHECK_NOTHROW(gradcheck("twice, by one weight", {x, w}, [](const std::vector<Var>& v) {
        return linear(linear(v[0], v[1], Var(), UnaryOp::tanh), v[1], Var()) +
               linear(v[0], v[1], Var());
    }));
    // Whoever holds a gradient keeps what it was.
    const Var a(x, requires_grad), b(w, requires_grad);
    Tape tape;
    const auto backward = [&] {
        Tape::Recording recording(tape);
        tape.backward(sum(linear(a, b, Var())));
    };
    backward();
    const Tensor da = a.grad(), db = b.grad();
    const auto first_a = da.to_vector<double>(), first_b = db.to_vector<double>();
    backward();
    CHECK(da.to_vector<double>() == first_a);
    CHECK(db.to_vector<double>() == first_b);
    CHECK(a.grad().to_vector<double>()[5] == doctest::Approx(2 * first_a[5]).epsilon(1e-14));
    CHECK(b.grad().to_vector<double>()[5] == doctest::Approx(2 * first_b[5]).epsilon(1e-14));
}

TEST_CASE("linear: one to four dimensions, with and without bias, every activation") {
    for (const Shape& shape : {Shape{5}, Shape{3, 5}, Shape{2, 3, 5}, Shape{2, 1, 3, 5}})
        for (bool with_bias : {true, false})
            for (int which = -1; which < static_cast<int>(std::size(kActivations)); ++which) {
                std::optional<UnaryOp> activation;
                if (which >= 0) activation = kActivations[which];
                if (shape.size() != 2 && which > 0) continue;
                const bool positive = activation == UnaryOp::log || activation == UnaryOp::sqrt ||
                                      activation == UnaryOp::reciprocal;
                const double low = positive ? 0.3 : -1;
                // Kinks of relu and the like: values too near to them are drawn anew.
                Tensor x, w, b;
                Array pre{Shape{}};
                double nearest = 0;
                for (uint64_t seed = 1; nearest < 0.02; seed += 3) {
                    x = random(shape, seed, low, 1);
                    w = random({4, 5}, seed + 1, low, 1);
                    b = random({4}, seed + 2, low, 1);
                    Shape out = shape;
                    out[out.size() - 1] = 4;
                    const Array xa(x), wa(w), ba(b);
                    pre = filled(out, [&](std::vector<int64_t> i) {
                        const int64_t n = i.back();
                        double total = with_bias ? ba.at({n}) : 0;
                        for (int64_t k = 0; k < 5; ++k) {
                            i.back() = k;
                            total += xa.at(i) * wa.at({n, k});
                        }
                        return total;
                    });
                    nearest = kInf;
                    for (double p : pre.v) nearest = std::min(nearest, std::abs(p));
                }
                Array want = pre;
                if (activation) {
                    const Tensor y = unary(*activation, Var(pre.tensor()), 0.2).value();
                    want = Array(y);  // the operation itself is proven in elementwise_test.cpp
                }
                const std::string name = "linear " + shape.str() + (with_bias ? " bias" : "") +
                                         " activation " + std::to_string(which);
                std::vector<Tensor> inputs{x, w};
                if (with_bias) inputs.push_back(b);
                check_op(
                    name.c_str(), inputs,
                    [=](const std::vector<Var>& v) {
                        return linear(v[0], v[1], with_bias ? v[2] : Var(), activation, 0.2);
                    },
                    want, 1e-5);
            }
}

TEST_CASE("linear: larger than a tile, empty, and a weight used twice") {
    const Tensor x = random({37, 41}, 1), w = random({35, 41}, 2), b = random({35}, 3);
    Array want = naive_product(x, false, w, true);
    const Array bias(b);
    for_each_index(want.shape,
                   [&](const std::vector<int64_t>& i) { want.at(i) += bias.at({i[1]}); });
    const Function f = [](const std::vector<Var>& v) { return linear(v[0], v[1], v[2]); };
    check_op("linear 37 41 35", {x, w, b}, f, want, 1e-5);
    check_op("no rows", {random({0, 3}, 1), random({2, 3}, 2), random({2}, 3)}, f,
             Array(Shape{0, 2}));
    check_op("no inputs", {random({2, 0}, 1), random({3, 0}, 2), doubles({1, 2, 3}, {3})}, f,
             Array(doubles({1, 2, 3, 1, 2, 3}, {2, 3})));
    CHECK_NOTHROW(gradcheck("twice", {random({3, 4}, 1), random({4, 4}, 2), random({4}, 3)},
                            [](const std::vector<Var>& v) {
                                const Var y = linear(v[0], v[1], v[2], UnaryOp::gelu);
                                return linear(y, v[1], v[2], UnaryOp::tanh);
                            }));
    CHECK_NOTHROW(gradcheck("expanded",
                            {random({1, 4}, 1).expand({3, 4}), random({5, 1}, 2).expand({5, 4}),
                             random({1}, 3).expand({5})},
                            f));
}

TEST_CASE("linear: errors name operation and shapes") {
    auto var = [](const Shape& shape) { return Var(random(shape, 1)); };
    CHECK_ERROR(linear(var({2, 3}), var({4, 2}), Var()), "[linear]", "(2, 3)", "(4, 2)");
    CHECK_ERROR(linear(var({2, 3}), var({3}), Var()), "[linear]", "(2, 3)", "(3)");
    CHECK_ERROR(linear(var({}), var({4, 3}), Var()), "[linear]", "()", "(4, 3)");
    CHECK_ERROR(linear(var({2, 3}), var({4, 3}), var({3})), "[linear]", "(3)", "(4)");
    CHECK_ERROR(linear(var({2, 3}), Var(Tensor::zeros({4, 3})), Var()), "[linear]", "f32");
    CHECK_ERROR(linear(var({2, 3}), var({4, 3}), Var(Tensor::zeros({4}))), "[linear]", "f32");
}
