#include "tests/autograd/autograd_test_util.h"

using namespace mc;
using namespace mc::testing;

namespace {

Array naive_softmax(const Array& x, bool log) {
    const size_t cols = static_cast<size_t>(x.shape.back());
    Array y(x.shape);
    for (size_t row = 0; row < x.v.size(); row += cols) {
        double top = -kInf, total = 0;
        for (size_t c = 0; c < cols; ++c) top = std::max(top, x.v[row + c]);
        for (size_t c = 0; c < cols; ++c) total += std::exp(x.v[row + c] - top);
        for (size_t c = 0; c < cols; ++c) {
            const double log_p = x.v[row + c] - top - std::log(total);
            y.v[row + c] = log ? log_p : std::exp(log_p);
        }
    }
    return y;
}

Array scalar(double value) {
    Array a(Shape{});
    a.v[0] = value;
    return a;
}

double naive_cross_entropy(const Array& x, const std::vector<int64_t>& labels, int64_t ignore,
                           double smoothing) {
    const Array log_p = naive_softmax(x, true);
    double total = 0;
    int64_t counted = 0;
    for (int64_t r = 0; r < x.shape[0]; ++r) {
        const int64_t label = labels[static_cast<size_t>(r)];
        if (label == ignore) continue;
        ++counted;
        total -= (1 - smoothing) * log_p.at({r, label});
        for (int64_t c = 0; c < x.shape[1]; ++c)
            total -= smoothing / static_cast<double>(x.shape[1]) * log_p.at({r, c});
    }
    return counted ? total / static_cast<double>(counted) : 0;
}

Tensor scaled(const Tensor& x, double alpha, double beta = 0) {
    return affine(Var(x), alpha, beta).value();
}

}  // namespace

TEST_CASE("softmax and log softmax: rows of any size, one class, far from zero") {
    for (const Shape& shape : {Shape{3, 5}, Shape{2, 3, 7}, Shape{9}, Shape{4, 1}, Shape{5, 37}})
        for (double offset : {0.0, 512.0}) {
            const Tensor x = scaled(random(shape, 1), 3, offset);
            check_op(
                "softmax", {x}, [](const std::vector<Var>& v) { return softmax(v[0]); },
                naive_softmax(Array(x), false), offset == 0 ? 2e-6 : 1e-4);
            check_op(
                "log_softmax", {x}, [](const std::vector<Var>& v) { return log_softmax(v[0]); },
                naive_softmax(Array(x), true), offset == 0 ? 2e-6 : 1e-4);
        }
    CHECK_NOTHROW(gradcheck("expanded", {random({3, 1}, 1).expand({3, 4})},
                            [](const std::vector<Var>& v) { return softmax(v[0]); }));
}

TEST_CASE("softmax: classes at -inf get nothing, a row of them gets zeros") {
    const Tensor x = doubles({1, -kInf, 2, -kInf, -kInf, -kInf}, {2, 3});
    const double p = 1 / (1 + std::exp(1.0));
    const Function f = [](const std::vector<Var>& v) { return softmax(v[0]); };
    check_near(f({Var(x)}).value(), Array(doubles({p, 0, 1 - p, 0, 0, 0}, {2, 3})), 1e-15, "value");
    CHECK_NOTHROW(gradcheck("softmax with -inf", {x}, f));
}

TEST_CASE("cross entropy: labels to ignore, smoothing, a class as the label to ignore") {
    const Tensor x = scaled(random({6, 5}, 1), 2);
    const std::vector<int64_t> labels{0, 4, -100, 2, 2, -100};
    const std::vector<int64_t> all_classes{0, 4, 1, 2, 2, 3};
    for (double smoothing : {0.0, 0.1, 1.0}) {
        auto check = [&](const char* name, const std::vector<int64_t>& label, int64_t ignore) {
            const Tensor ids = Tensor::from_ids(label, {6});
            check_op(
                name, {x},
                [=](const std::vector<Var>& v) {
                    return cross_entropy(v[0], ids, ignore, smoothing);
                },
                scalar(naive_cross_entropy(Array(x), label, ignore, smoothing)));
        };
        check("cross_entropy", labels, -100);
        check("cross_entropy, 2 ignored", all_classes, 2);
        check("cross_entropy, none ignored", all_classes, -100);
    }
    const Tensor ids = Tensor::from_ids(all_classes, {6});
    const Tensor strided =
        Tensor::from_ids({0, 9, 4, 9, 1, 9, 2, 9, 2, 9, 3, 9}, {6, 2}).slice(1, 0, 1).squeeze(1);
    CHECK(same_bits(cross_entropy(Var(x), strided).value(), cross_entropy(Var(x), ids).value()));
    CHECK_NOTHROW(gradcheck("scaled loss", {x}, [&](const std::vector<Var>& v) {
        return scale(cross_entropy(v[0], ids, -100, 0.1), 3);
    }));
}

TEST_CASE("cross entropy: all rows ignored give zero and a zero gradient") {
    const Tensor x = random({3, 4}, 1), ids = Tensor::from_ids({-100, -100, -100}, {3});
    const Function f = [&](const std::vector<Var>& v) { return cross_entropy(v[0], ids); };
    check_op("all ignored", {x}, f, scalar(0));
    check_op(
        "no rows", {random({0, 4}, 1)},
        [&](const std::vector<Var>& v) { return cross_entropy(v[0], Tensor::from_ids({}, {0})); },
        scalar(0));
    const Tensor nan = Tensor::full({3, 4}, kNan, DType::f64);
    CHECK(f({Var(nan)}).value().item<double>() == 0);  // rows ignored are not looked at
}

TEST_CASE("cross entropy: large logits stay finite") {
    const Tensor x = doubles({1000, -1000, 0, 700, 700, 700}, {2, 3});
    const Tensor ids = Tensor::from_ids({1, 2}, {2});
    const double loss = cross_entropy(Var(x), ids).value().item<double>();
    CHECK(loss == doctest::Approx((2000 + std::log(3.0)) / 2).epsilon(1e-12));
    for (double g : values_of(gradients_of(
             {x}, [&](const std::vector<Var>& v) { return cross_entropy(v[0], ids); },
             Tensor::full({}, 1, DType::f64))[0]))
        CHECK(std::isfinite(g));
}

TEST_CASE("smooth l1: both branches, any beta, gradients of both sides") {
    for (double beta : {0.5, 1.0, 2.0}) {
        const Tensor a = scaled(random({4, 7}, 1), 2);
        Tensor b = scaled(random({4, 7}, 2), 2);
        // The second derivative jumps at |a - b| = beta: no pair may lie there.
        double total = 0;
        for (int64_t i = 0; i < 28; ++i) {
            double& y = b.data<double>()[i];
            double d = a.data<double>()[i] - y;
            if (std::abs(std::abs(d) - beta) < 0.05) y += 0.2, d -= 0.2;
            total += std::abs(d) < beta ? d * d / (2 * beta) : std::abs(d) - beta / 2;
        }
        check_op(
            "smooth_l1", {a, b},
            [=](const std::vector<Var>& v) { return smooth_l1(v[0], v[1], beta); },
            scalar(total / 28));
    }
    CHECK_NOTHROW(gradcheck("both sides", {random({5}, 1)}, [](const std::vector<Var>& v) {
        return smooth_l1(v[0], scale(v[0], 0.5));
    }));
}

TEST_CASE("mse: the mean square, gradients of both sides") {
    const Tensor a = random({3, 5}, 1), b = random({3, 5}, 2);
    double total = 0;
    for (int64_t i = 0; i < 15; ++i)
        total += std::pow(a.data<double>()[i] - b.data<double>()[i], 2) / 15;
    check_op(
        "mse", {a, b}, [](const std::vector<Var>& v) { return mse(v[0], v[1]); }, scalar(total));
}

TEST_CASE("losses: errors name operation and shapes") {
    auto var = [](const Shape& shape) { return Var(random(shape, 1)); };
    const Tensor two = Tensor::from_ids({0, 1}, {2});
    CHECK_ERROR(cross_entropy(var({3, 4}), two), "[cross_entropy]", "(3, 4)", "(2)");
    CHECK_ERROR(cross_entropy(var({2}), two), "[cross_entropy]", "(2)");
    CHECK_ERROR(cross_entropy(var({2, 4}), Tensor::from_ids({0, 4}, {2})), "[cross_entropy]",
                "label 4", "row 1", "4 classes");
    CHECK_ERROR(cross_entropy(var({2, 4}), Tensor::from_ids({-1, 0}, {2})), "[cross_entropy]",
                "label -1");
    CHECK_ERROR(smooth_l1(var({2, 3}), var({3})), "[smooth_l1]", "(2, 3)", "(3)");
    CHECK_ERROR(mse(var({2, 3}), var({2, 1})), "[mse]", "(2, 3)", "(2, 1)");
    CHECK_ERROR(softmax(var({})), "[softmax]", "()");
    CHECK_ERROR(log_softmax(var({})), "[log_softmax]", "()");
}
