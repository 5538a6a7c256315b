// The same work on both devices, compared.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "nn/module.h"

namespace mc::testing {

inline double greatest(const Tensor& t) {
    double size = 0;
    for (double x : t.to(DType::f64).to_vector<double>()) size = std::max(size, std::fabs(x));
    return size;
}

// The greatest difference, relative to the greatest value of `want`, or to `least` where that is
// more (of all zeros: to 1).
inline double worst(const Tensor& got, const Tensor& want, double least = 0) {
    REQUIRE(got.shape() == want.shape());
    const std::vector<double> a = got.to(DType::f64).to_vector<double>(),
                              b = want.to(DType::f64).to_vector<double>();
    const double size = std::max(least, greatest(want));
    double difference = 0;
    for (size_t i = 0; i < a.size(); ++i) {
        difference = a[i] == a[i] ? std::max(difference, std::fabs(a[i] - b[i])) : INFINITY;
    }
    return difference / (size > 0 ? size : 1);
}

inline Tensor on_gpu(const Tensor& t) {
    return t.to(DeviceType::cuda);
}

// The parameters of two modules of one kind, and their gradients where there are any. One that is
// rounding alone (of a bias that a softmax undoes) is measured by the module's others.
inline void check_same_gradients(nn::Module& got, nn::Module& want, double tolerance) {
    const auto ours = got.parameters(), theirs = want.parameters();
    REQUIRE(ours.size() == theirs.size());
    double least = 0;
    for (const auto& [name, parameter] : theirs)
        if (parameter->grad().defined())
            least = std::max(least, 1e-3 * greatest(parameter->grad()));
    for (size_t i = 0; i < ours.size(); ++i) {
        CAPTURE(ours[i].first);
        const Tensor &a = ours[i].second->grad(), &b = theirs[i].second->grad();
        REQUIRE(a.defined() == b.defined());
        if (!a.defined()) continue;
        CHECK(a.device() == DeviceType::cuda);
        CHECK(worst(a, b, least) < tolerance);
    }
}

}  // namespace mc::testing
