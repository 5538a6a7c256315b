#include "autograd/gradcheck.h"

#include "tests/autograd/autograd_test_util.h"

using namespace mc;
using namespace mc::testing;

namespace {

// y = x^2 with a backward of 2 x times `factor`, plus `offset` at one element.
struct WrongSquareNode : Node {
    std::shared_ptr<GradSlot> x;
    Tensor value;
    double factor, offset;
    const char* name() const override { return "wrong_square"; }
    void backward(Tensor grad) override {
        Tensor dx = Tensor::empty(grad.shape(), grad.dtype());
        for (int64_t i = 0; i < grad.numel(); ++i)
            dx.data<double>()[i] = 2 * value.data<double>()[i] * factor * grad.data<double>()[i] +
                                   (i == 3 ? offset : 0);
        accumulate(x, dx);
    }
};

Var wrong_square(const Var& x, double factor, double offset = 0) {
    const Tensor value = x.value().contiguous();
    Tensor y = Tensor::empty(x.shape(), x.dtype());
    for (int64_t i = 0; i < y.numel(); ++i)
        y.data<double>()[i] = value.data<double>()[i] * value.data<double>()[i];
    if (!recording(x)) return y;
    auto node = std::make_unique<WrongSquareNode>();
    node->x = x.slot();
    node->value = value;
    node->factor = factor;
    node->offset = offset;
    return Tape::current()->record(std::move(node), y);
}

Function squared(double factor, double offset = 0) {
    return [=](const std::vector<Var>& in) { return wrong_square(in[0], factor, offset); };
}

}  // namespace

TEST_CASE("gradcheck: a right backward passes, small and large") {
    CHECK_NOTHROW(gradcheck("square", {random({3, 5}, 1)}, squared(1)));
    CHECK_NOTHROW(gradcheck("square", {random({50, 70}, 2)}, squared(1)));
    CHECK_NOTHROW(gradcheck("square", {random({3, 5}, 1).transpose(0, 1)}, squared(1)));
    CHECK_NOTHROW(gradcheck("square", {random({1, 5}, 1).expand({3, 5})}, squared(1)));
    CHECK_NOTHROW(gradcheck("square", {random({0, 5}, 1)}, squared(1)));
    CHECK_NOTHROW(gradcheck("square", {random({}, 1)}, squared(1)));
}

TEST_CASE("gradcheck: a factor of 1.0001 fails, small and large") {
    for (double factor : {1.0001, 0.9999}) {
        CHECK_THROWS_AS(gradcheck("square", {random({3, 5}, 1)}, squared(factor)), Error);
        CHECK_THROWS_AS(gradcheck("square", {random({50, 70}, 2)}, squared(factor)), Error);
    }
}

TEST_CASE("gradcheck: one wrong element of many fails") {
    CHECK_THROWS_AS(gradcheck("square", {random({3, 5}, 1)}, squared(1, 1e-4)), Error);
    CHECK_THROWS_AS(gradcheck("square", {random({50, 70}, 2)}, squared(1, 0.5)), Error);
    CHECK_THROWS_AS(gradcheck("square", {random({3, 5}, 1)}, squared(1, kNan)), Error);
    CHECK_THROWS_AS(gradcheck("square", {random({50, 70}, 2)}, squared(kNan)), Error);
}

TEST_CASE("gradcheck: the error names function, input, element and both values") {
    const auto f = [](const std::vector<Var>& in) { return add(in[0], wrong_square(in[1], 2)); };
    CHECK_ERROR(gradcheck("twice", {doubles({1, 1}, {2, 1}), doubles({3, 4}, {2, 1})}, f), "twice",
                "input 1", "(2, 1)", "element (0, 0)", "output element (0, 0)", "backward says 12",
                "differences 6");
}

TEST_CASE("gradcheck: a gradient that never arrives counts as zero") {
    CHECK_NOTHROW(gradcheck("constant", {random({3}, 1)}, [](const std::vector<Var>&) {
        return Var(Tensor::full({2}, 3, DType::f64));
    }));
    CHECK_ERROR(gradcheck("lost", {random({3}, 1)},
                          [](const std::vector<Var>& in) { return square(detach(in[0])); }),
                "lost", "backward says 0,");
}

TEST_CASE("gradcheck: functions that draw, other dtypes and a value that strides change are told") {
    Generator generator(1);
    CHECK_ERROR(
        gradcheck("drawing", {random({9}, 1)},
                  [&](const std::vector<Var>& in) { return dropout(in[0], 0.5, generator); }),
        "drawing", "two calls differ");
    CHECK_ERROR(gradcheck("single", {Tensor::zeros({2})}, squared(1)), "single", "f32");
    CHECK_ERROR(gradcheck("blind", {random({3, 2}, 1).transpose(0, 1)},
                          [](const std::vector<Var>& in) {  // forgets the strides
                              return Var(Tensor::from_span<double>(
                                  {in[0].value().data<double>(), 6}, in[0].shape()));
                          }),
                "blind", "strided");
}
