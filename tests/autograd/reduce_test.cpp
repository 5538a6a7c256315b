#include "tests/autograd/autograd_test_util.h"

using namespace mc;
using namespace mc::testing;

TEST_CASE("sum and mean over one dimension, kept or not") {
    for (const Shape& shape : {Shape{3, 5, 7}, Shape{4}, Shape{1, 6}, Shape{2, 3, 1, 5}}) {
        const Tensor x = random(shape, 1);
        const Array in(x);
        for (int dim = -shape.size(); dim < shape.size(); ++dim)
            for (bool keep : {false, true})
                for (bool average : {false, true}) {
                    const int at = dim < 0 ? dim + shape.size() : dim;
                    Shape kept = shape, out;
                    kept[at] = 1;
                    for (int d = 0; d < shape.size(); ++d)
                        if (d != at) out.push_back(shape[d]);
                    Array want(kept);
                    for_each_index(shape, [&](const std::vector<int64_t>& i) {
                        want.at(i) += in.at(i) / (average ? static_cast<double>(shape[at]) : 1.0);
                    });
                    if (!keep) want.shape = out;
                    const Function f = [=](const std::vector<Var>& v) {
                        return average ? mean(v[0], dim, keep) : sum(v[0], dim, keep);
                    };
                    const std::string name =
                        (average ? "mean " : "sum ") + shape.str() + " over " + std::to_string(dim);
                    if (dim >= 0)
                        check_op(name.c_str(), {x}, f, want);
                    else
                        check_near(f({Var(x)}).value(), want, 1e-14, name);
                }
    }
}

TEST_CASE("sum and mean of everything") {
    for (const Shape& shape : {Shape{3, 5}, Shape{}, Shape{1}, Shape{2, 3, 4, 5}, Shape{17, 9}}) {
        const Tensor x = random(shape, 2);
        double total = 0;
        for (double value : values_of(x)) total += value;
        Array want(Shape{});
        want.v[0] = total;
        check_op(
            "sum", {x}, [](const std::vector<Var>& v) { return sum(v[0]); }, want, 1e-5);
        want.v[0] = total / static_cast<double>(shape.numel());
        check_op(
            "mean", {x}, [](const std::vector<Var>& v) { return mean(v[0]); }, want);
    }
    CHECK(sum(Var(Tensor::zeros({0, 3}, DType::f64))).value().item<double>() == 0);
    check_near(sum(Var(Tensor::zeros({0, 3}, DType::f64)), 0, false).value(), Array(Shape{3}), 0,
               "a sum over nothing");
}

TEST_CASE("cumsum: the sums up to each element, along any dimension") {
    for (const Shape& shape : {Shape{3, 5, 7}, Shape{4}, Shape{1, 6}, Shape{2, 3, 1, 5}, Shape{41}})
        for (int dim = -shape.size(); dim < shape.size(); ++dim) {
            const Tensor x = random(shape, 1);
            const Array in(x);
            const int at = dim < 0 ? dim + shape.size() : dim;
            const Array want = filled(shape, [&](std::vector<int64_t> i) {
                double total = 0;
                for (int64_t& k = i[static_cast<size_t>(at)]; k >= 0; --k) total += in.at(i);
                return total;
            });
            const Function f = [=](const std::vector<Var>& v) { return cumsum(v[0], dim); };
            const std::string name = "cumsum " + shape.str() + " along " + std::to_string(dim);
            if (dim >= 0)
                check_op(name.c_str(), {x}, f, want);
            else
                check_near(f({Var(x)}).value(), want, 1e-14, name);
        }
    CHECK_NOTHROW(gradcheck("expanded", {random({1, 5}, 1).expand({3, 5})},
                            [](const std::vector<Var>& v) { return cumsum(v[0], 0); }));
    CHECK(cumsum(Var(Tensor::zeros({0, 3}, DType::f64)), 0).value().numel() == 0);
    CHECK_ERROR(cumsum(Var(random({2, 3}, 1)), 2), "[cumsum]", "dimension 2", "(2, 3)");
    CHECK_ERROR(cumsum(Var(random({}, 1)), 0), "[cumsum]", "()");
}

TEST_CASE("sum and mean: expanded input, errors") {
    CHECK_NOTHROW(
        gradcheck("expanded", {random({1, 5}, 1).expand({3, 5})},
                  [](const std::vector<Var>& v) { return mean(square(v[0]), 0, false); }));
    const Var x(random({2, 3}, 1));
    CHECK_ERROR(sum(x, 2, false), "[sum]", "dimension 2", "(2, 3)");
    CHECK_ERROR(mean(x, -3, true), "[mean]", "dimension -3", "(2, 3)");
    CHECK_ERROR(sum(Var(Tensor::from_ids({1, 2}, {2}))), "[sum]", "i64");
}
