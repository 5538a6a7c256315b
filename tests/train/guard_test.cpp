#include "train/guard.h"

#include <doctest/doctest.h>

#include <limits>

using namespace mc;
using namespace mc::train;

TEST_CASE("guard: the step and the value are named") {
    CHECK_NOTHROW(guard_value(1, "loss", 3.5));
    CHECK_THROWS_WITH_AS(guard_value(120, "loss", std::nan("")),
                         doctest::Contains("step 120: loss is nan; "), Error);
    CHECK_THROWS_WITH_AS(guard_value(2, "loss", -std::numeric_limits<double>::infinity()),
                         doctest::Contains("step 2: loss is -inf; "), Error);
}

TEST_CASE("guard: the step, the tensor and the place are named") {
    Tensor bad = Tensor::zeros({4, 4});
    bad.data<float>()[3] = std::numeric_limits<float>::infinity();
    const NamedTensors gradients = {{"a", Tensor::zeros({2})}, {"b.weight", bad}};
    CHECK_NOTHROW(guard_tensors(1, "gradient", {gradients[0]}));
    CHECK_THROWS_WITH_AS(guard_tensors(7, "gradient", gradients),
                         doctest::Contains("step 7: gradient of b.weight: inf at (0, 3)"), Error);
}
