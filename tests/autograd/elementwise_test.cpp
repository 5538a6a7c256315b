#include <numbers>

#include "tests/autograd/autograd_test_util.h"

using namespace mc;
using namespace mc::testing;

namespace {

double apply(BinaryOp op, double a, double b) {
    switch (op) {
        case BinaryOp::add:
            return a + b;
        case BinaryOp::sub:
            return a - b;
        case BinaryOp::mul:
            return a * b;
        case BinaryOp::div:
            return a / b;
    }
    return kNan;
}

Var binary(BinaryOp op, const Var& a, const Var& b) {
    switch (op) {
        case BinaryOp::add:
            return add(a, b);
        case BinaryOp::sub:
            return sub(a, b);
        case BinaryOp::mul:
            return mul(a, b);
        case BinaryOp::div:
            return div(a, b);
    }
    return {};
}

double apply(UnaryOp op, double x, double param) {
    switch (op) {
        case UnaryOp::neg:
            return -x;
        case UnaryOp::exp:
            return std::exp(x);
        case UnaryOp::log:
            return std::log(x);
        case UnaryOp::sqrt:
            return std::sqrt(x);
        case UnaryOp::square:
            return x * x;
        case UnaryOp::reciprocal:
            return 1 / x;
        case UnaryOp::tanh:
            return std::tanh(x);
        case UnaryOp::sigmoid:
            return 1 / (1 + std::exp(-x));
        case UnaryOp::relu:
            return x > 0 ? x : 0;
        case UnaryOp::leaky_relu:
            return x > 0 ? x : param * x;
        case UnaryOp::gelu:
            return 0.5 * x * (1 + std::erf(x / std::numbers::sqrt2));
        case UnaryOp::quick_gelu:
            return x / (1 + std::exp(-1.702 * x));
        case UnaryOp::abs:
            return std::abs(x);
        case UnaryOp::sin:
            return std::sin(x);
        case UnaryOp::cos:
            return std::cos(x);
    }
    return kNan;
}

}  // namespace

TEST_CASE("binary operations: values and gradients, equal and broadcast shapes") {
    const std::vector<std::pair<Shape, Shape>> shapes{
        {{3, 5}, {3, 5}}, {{3, 5}, {5}},    {{3, 1}, {1, 5}}, {{2, 3, 5}, {3, 1}},
        {{7}, {}},        {{}, {3, 2}},     {{}, {}},         {{2, 1, 4, 1}, {3, 1, 5}},
        {{1, 1}, {2, 9}}, {{0, 3}, {1, 3}}, {{17}, {17}}};
    for (BinaryOp op : {BinaryOp::add, BinaryOp::sub, BinaryOp::mul, BinaryOp::div})
        for (auto& [sa, sb] : shapes) {
            const Tensor a = random(sa, 1), b = random_off_zero(sb, 2, 0.5);
            const Array x(a), y(b);
            const std::string name =
                "binary " + std::to_string(static_cast<int>(op)) + " " + sa.str() + " " + sb.str();
            check_op(
                name.c_str(), {a, b},
                [op](const std::vector<Var>& in) { return binary(op, in[0], in[1]); },
                filled(broadcast_shapes(sa, sb, "test"),
                       [&](const std::vector<int64_t>& i) { return apply(op, x.at(i), y.at(i)); }));
        }
}

TEST_CASE("binary operations: expanded inputs, and one value on both sides") {
    const Tensor a = random({1, 5}, 1).expand({3, 5}),
                 b = random_off_zero({3, 1}, 2).expand({3, 5});
    for (BinaryOp op : {BinaryOp::add, BinaryOp::sub, BinaryOp::mul, BinaryOp::div}) {
        CHECK_NOTHROW(gradcheck("expanded", {a, b}, [op](const std::vector<Var>& in) {
            return binary(op, in[0], in[1]);
        }));
        CHECK_NOTHROW(gradcheck("both sides", {b}, [op](const std::vector<Var>& in) {
            return binary(op, in[0], in[0]);
        }));
    }
    const Tensor v = random({3, 5}, 3);
    const Function twice = [](const std::vector<Var>& in) { return in[0] + in[0]; };
    const Array w(v);
    check_near(gradients_of({a}, twice, v)[0],
               filled({3, 5}, [&](const std::vector<int64_t>& i) { return 2 * w.at(i); }), 0,
               "x + x");
}

TEST_CASE("unary operations: values and gradients of every one on its domain") {
    constexpr UnaryOp kAll[] = {UnaryOp::neg,        UnaryOp::exp,     UnaryOp::log,
                                UnaryOp::sqrt,       UnaryOp::square,  UnaryOp::reciprocal,
                                UnaryOp::tanh,       UnaryOp::sigmoid, UnaryOp::relu,
                                UnaryOp::leaky_relu, UnaryOp::gelu,    UnaryOp::quick_gelu,
                                UnaryOp::abs,        UnaryOp::sin,     UnaryOp::cos};
    for (UnaryOp op : kAll)
        for (const Shape& shape : {Shape{3, 7}, Shape{2, 3, 5}, Shape{19}, Shape{}, Shape{0, 2}}) {
            Tensor x = random_off_zero(shape, 5);
            const bool positive = op == UnaryOp::log || op == UnaryOp::sqrt;
            if (positive) x = random(shape, 5, 0.3, 4);
            if (op == UnaryOp::reciprocal) x = random_off_zero(shape, 5, 0.5);
            if (!positive && op != UnaryOp::reciprocal) x = scale(Var(x), 3).value();
            const Array in(x);
            const std::string name = "unary " + std::to_string(static_cast<int>(op));
            check_op(
                name.c_str(), {x}, [op](const std::vector<Var>& v) { return unary(op, v[0], 0.2); },
                filled(shape,
                       [&](const std::vector<int64_t>& i) { return apply(op, in.at(i), 0.2); }));
        }
}

TEST_CASE("unary operations: the named forms are the operations they name") {
    const Tensor t = random({5}, 3, 0.2, 2);
    const Var x(t);
    auto same = [&](const Var& named, UnaryOp op, double param = 0) {
        CHECK(same_bits(named.value(), unary(op, x, param).value()));
    };
    same(exp(x), UnaryOp::exp);
    same(log(x), UnaryOp::log);
    same(sqrt(x), UnaryOp::sqrt);
    same(square(x), UnaryOp::square);
    same(tanh(x), UnaryOp::tanh);
    same(sigmoid(x), UnaryOp::sigmoid);
    same(relu(x), UnaryOp::relu);
    same(leaky_relu(x, 0.3), UnaryOp::leaky_relu, 0.3);
    same(gelu(x), UnaryOp::gelu);
    same(quick_gelu(x), UnaryOp::quick_gelu);
    same(neg(x), UnaryOp::neg);
    CHECK(same_bits((x * x).value(), square(x).value()));
    CHECK(same_bits((x - x).value(), Tensor::zeros({5}, DType::f64)));
}

TEST_CASE("relu: an infinite gradient does not become NaN where the input is negative") {
    const Tensor g = gradients_of(
        {doubles({-1, 2}, {2})}, [](const std::vector<Var>& in) { return relu(in[0]); },
        doubles({kInf, kInf}, {2}))[0];
    CHECK(values_of(g) == std::vector<double>{0, kInf});
}

TEST_CASE("affine: values and gradients") {
    const Tensor x = random({3, 4, 5}, 4);
    const Array in(x);
    check_op(
        "affine", {x}, [](const std::vector<Var>& v) { return affine(v[0], -2.5, 0.75); },
        filled(x.shape(), [&](const std::vector<int64_t>& i) { return -2.5 * in.at(i) + 0.75; }));
    check_op(
        "affine by 0", {x}, [](const std::vector<Var>& v) { return affine(v[0], 0, 2); },
        filled(x.shape(), [](const std::vector<int64_t>&) { return 2.0; }));
}

TEST_CASE("select: chooses in both directions") {
    const Tensor a = random({3, 5}, 1), b = random({3, 5}, 2);
    std::vector<uint8_t> bits;
    for (int i = 0; i < 15; ++i) bits.push_back(i % 3 == 1 || i == 6);
    const Tensor cond = Tensor::from_bools(bits, {3, 5});
    const Array x(a), y(b);
    size_t at = 0;
    const Array want = filled(
        {3, 5}, [&](const std::vector<int64_t>& i) { return bits[at++] ? x.at(i) : y.at(i); });
    check_op(
        "select", {a, b}, [&](const std::vector<Var>& v) { return select(cond, v[0], v[1]); },
        want);
    const Tensor strided = cond.transpose(0, 1).contiguous().transpose(0, 1);
    check_near(select(strided, Var(a), Var(b)).value(), want, 0, "strided condition");
    CHECK_NOTHROW(gradcheck("select x x", {a}, [&](const std::vector<Var>& v) {
        return select(cond, v[0], square(v[0]));
    }));
}

TEST_CASE("select: 0 x NaN never arises") {
    // log of a negative number is NaN, and so is its gradient times zero: neither is chosen.
    const Tensor cond = Tensor::from_bools({1, 0, 1}, {3});
    const Function f = [&](const std::vector<Var>& v) { return select(cond, v[0], log(v[0])); };
    const Tensor x = doubles({-1, 2, 0}, {3});
    check_near(f({Var(x)}).value(), Array(doubles({-1, std::log(2.0), 0}, {3})), 1e-15, "value");
    check_near(gradients_of(
                   {x},
                   [&](const std::vector<Var>& v) {
                       return select(cond, v[0], Var(Tensor::full({3}, kNan, DType::f64)));
                   },
                   doubles({1, 1, 1}, {3}))[0],
               Array(doubles({1, 0, 1}, {3})), 0, "gradient past a NaN");
    const std::vector<Tensor> g = gradients_of(
        {x, doubles({kNan, 5, kNan}, {3})},
        [&](const std::vector<Var>& v) { return select(cond, v[0], v[1]); },
        doubles({2, 3, kInf}, {3}));
    CHECK(values_of(g[0]) == std::vector<double>{2, 0, kInf});
    CHECK(values_of(g[1]) == std::vector<double>{0, 3, 0});
}

TEST_CASE("dropout: the stream's own draws, the same in backward") {
    const double p = 0.3;
    const Tensor x = random_off_zero({7, 9}, 1);
    Generator draws(5, 11);
    const RandomStream stream = draws.stream();
    const Array in(x);
    const DropRule rule(p);
    uint64_t at = 0;
    int64_t zeros = 0;
    const Array want = filled({7, 9}, [&](const std::vector<int64_t>& i) {
        const bool drop = drop_bits(stream, at++) < rule.limit;
        zeros += drop;
        return drop ? 0.0 : in.at(i) * rule.scale;
    });
    CHECK(zeros > 8);
    CHECK(zeros < 30);
    check_op(
        "dropout", {x},
        [p](const std::vector<Var>& v) {
            Generator generator(5, 11);
            return dropout(v[0], p, generator);
        },
        want);
}

TEST_CASE("dropout: zero is the identity and draws nothing; one stream otherwise") {
    Generator generator(3);
    const Var x(random({4}, 1), requires_grad);
    CHECK(dropout(x, 0, generator).slot() == x.slot());
    CHECK(generator.position() == 0);
    dropout(x, 0.5, generator);
    CHECK(generator.position() == 1);
    CHECK_ERROR(dropout(x, 1.0, generator), "[dropout]", "1.0");
    CHECK_ERROR(dropout(x, -0.1, generator), "[dropout]");
}

TEST_CASE("elementwise: errors name operation and shapes") {
    const Var a(random({2, 3}, 1)), b(random({2, 4}, 1)), single(Tensor::zeros({2, 3}));
    CHECK_ERROR(add(a, b), "[add]", "(2, 3)", "(2, 4)");
    CHECK_ERROR(sub(a, b), "[sub]", "(2, 3)", "(2, 4)");
    CHECK_ERROR(mul(a, b), "[mul]", "(2, 3)", "(2, 4)");
    CHECK_ERROR(div(a, b), "[div]", "(2, 3)", "(2, 4)");
    CHECK_ERROR(add(a, single), "[add]", "f64", "f32");
    CHECK_ERROR(exp(Var(Tensor::from_ids({1}, {1}))), "[unary]", "i64");
    CHECK_ERROR(select(Tensor::from_bools({1}, {1}), a, a), "[select]", "(1)", "(2, 3)");
    CHECK_ERROR(select(Tensor::zeros({2, 3}), a, a), "bool");
    CHECK_ERROR(select(Tensor::zeros({2, 3}, DType::boolean), a, single), "[select]", "f32");
}
