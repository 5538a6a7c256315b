// The vector functions against the C library in double.
#include <doctest/doctest.h>

#include "kernels/cpu/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/kernels/math_test.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mc {
namespace HWY_NAMESPACE {

template <class T>
void apply(UnaryOp op, bool grad, T param, T* dst, const T* src, int64_t n) {
    const hn::ScalableTag<T> d;
    with_unary_op(op, [&](auto constant) {
        const auto p = hn::Set(d, param);
        const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
        for (int64_t i = 0; i < n; i += lanes) {
            const size_t count = static_cast<size_t>(n - i < lanes ? n - i : lanes);
            const auto x = load_n(d, src + i, count);
            store_n(grad ? vunary_grad<constant()>(d, x, p) : vunary<constant()>(d, x, p), d,
                    dst + i, count);
        }
    });
}
void apply_f32(UnaryOp op, bool grad, float param, float* dst, const float* src, int64_t n) {
    apply<float>(op, grad, param, dst, src, n);
}
void apply_f64(UnaryOp op, bool grad, double param, double* dst, const double* src, int64_t n) {
    apply<double>(op, grad, param, dst, src, n);
}

}  // namespace HWY_NAMESPACE
}  // namespace mc
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <bit>

#include "tests/kernels/kernel_test_util.h"

namespace mc {

HWY_EXPORT(apply_f32);
HWY_EXPORT(apply_f64);

namespace {

template <class T>
void apply(UnaryOp op, bool grad, T param, T* dst, const T* src, int64_t n) {
    if constexpr (sizeof(T) == 4)
        HWY_DYNAMIC_DISPATCH(apply_f32)(op, grad, param, dst, src, n);
    else
        HWY_DYNAMIC_DISPATCH(apply_f64)(op, grad, param, dst, src, n);
}

double reference(UnaryOp op, double x, double param) {
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
            return x < 0 ? 0 : x;
        case UnaryOp::leaky_relu:
            return x < 0 ? param * x : x;
        case UnaryOp::gelu:
            return 0.5 * x * (1 + std::erf(x * std::sqrt(0.5)));
        case UnaryOp::quick_gelu:
            return x / (1 + std::exp(-1.702 * x));
        case UnaryOp::abs:
            return std::fabs(x);
        case UnaryOp::sin:
            return std::sin(x);
        case UnaryOp::cos:
            return std::cos(x);
    }
    return 0;
}

constexpr UnaryOp kAll[] = {
    UnaryOp::neg,        UnaryOp::exp,        UnaryOp::log,     UnaryOp::sqrt, UnaryOp::square,
    UnaryOp::reciprocal, UnaryOp::tanh,       UnaryOp::sigmoid, UnaryOp::relu, UnaryOp::leaky_relu,
    UnaryOp::gelu,       UnaryOp::quick_gelu, UnaryOp::abs,     UnaryOp::sin,  UnaryOp::cos};

bool positive_only(UnaryOp op) {
    return op == UnaryOp::log || op == UnaryOp::sqrt;
}

}  // namespace

TEST_CASE("vector functions: f32 within a few ulp of the C library") {
    testing::for_each_target([] {
        for (UnaryOp op : kAll) {
            CAPTURE(static_cast<int>(op));
            for (double range : {0.01, 1.0, 10.0, 80.0}) {
                const int64_t n = 20001;
                std::vector<float> x(n), y(n);
                testing::fill_random(x.data(), n, 5, positive_only(op) ? 1e-6 : -range, range);
                apply<float>(op, false, 0.2f, y.data(), x.data(), n);
                std::vector<double> want(n), bound(n);
                for (size_t i = 0; i < want.size(); ++i) {
                    want[i] = reference(op, x[i], static_cast<double>(0.2f));
                    // 4 ulp; the GELUs lose them by cancellation in their left tail, exp's argument
                    // in quick_gelu is rounded.
                    bound[i] = 4 * 6e-8 * std::fabs(want[i]) + 1e-44;
                    if (op == UnaryOp::gelu) bound[i] += 1.5e-7 * std::fabs(x[i]);
                    if (op == UnaryOp::quick_gelu)
                        bound[i] += 1.2e-7 * std::fabs(x[i] * want[i]) + 1e-36;
                }
                CHECK_NEAR(y.data(), want, bound);
            }
        }
    });
}

TEST_CASE("vector functions: f64 as exact as the C library") {
    testing::for_each_target([] {
        for (UnaryOp op : kAll) {
            CAPTURE(static_cast<int>(op));
            const int64_t n = 2001;
            std::vector<double> x(n), y(n);
            testing::fill_random(x.data(), n, 6, positive_only(op) ? 1e-6 : -8, 8);
            apply<double>(op, false, 0.2, y.data(), x.data(), n);
            std::vector<double> want(n), bound(n);
            for (size_t i = 0; i < want.size(); ++i) {
                want[i] = reference(op, x[i], 0.2);
                bound[i] = 1e-15 * std::fabs(want[i]) + 2e-16 * std::fabs(x[i]);
            }
            CHECK_NEAR(y.data(), want, bound);
        }
    });
}

TEST_CASE("vector functions: derivatives meet central differences") {
    testing::for_each_target([] {
        for (UnaryOp op : kAll) {
            CAPTURE(static_cast<int>(op));
            const int64_t n = 501;
            std::vector<double> x(n), g(n), want(n);
            std::vector<float> xf(n), gf(n);
            testing::fill_random(x.data(), n, 7, positive_only(op) ? 0.1 : -4, 4);
            for (size_t i = 0; i < want.size(); ++i) {
                if (std::fabs(x[i]) < 0.1) x[i] += 0.3;  // off the kinks and the pole
                xf[i] = static_cast<float>(x[i]);
                x[i] = static_cast<double>(xf[i]);
                const double h = 1e-5;
                want[i] = (reference(op, x[i] + h, 0.2) - reference(op, x[i] - h, 0.2)) / (2 * h);
            }
            apply<double>(op, true, 0.2, g.data(), x.data(), n);
            CHECK_NEAR(
                g.data(), want,
                std::vector<double>{op == UnaryOp::reciprocal || op == UnaryOp::log ? 1e-5 : 1e-8});
            apply<float>(op, true, 0.2f, gf.data(), xf.data(), n);
            for (size_t i = 0; i < want.size(); ++i) want[i] = g[i];
            CHECK_NEAR(
                gf.data(), want,
                std::vector<double>{op == UnaryOp::exp || op == UnaryOp::reciprocal ? 3e-5 : 1e-6});
        }
    });
}

TEST_CASE("vector functions: GELU and its derivative over the whole range of f32") {
    testing::for_each_target([] {
        // Every 4001st float: both signs, denormals to the largest.
        std::vector<float> x;
        for (uint32_t bits = 0; bits < 0x7f800000u; bits += 4001)
            for (uint32_t sign : {0u, 0x80000000u}) x.push_back(std::bit_cast<float>(bits | sign));
        const int64_t n = static_cast<int64_t>(x.size());
        std::vector<float> y(x.size()), g(x.size());
        apply<float>(UnaryOp::gelu, false, 0, y.data(), x.data(), n);
        apply<float>(UnaryOp::gelu, true, 0, g.data(), x.data(), n);
        double worst = 0, worst_grad = 0;
        bool saturated = true;
        for (size_t i = 0; i < x.size(); ++i) {
            const double v = x[i], phi = 0.5 * std::erfc(-v * std::sqrt(0.5));
            const double slope = phi + v * std::exp(-0.5 * v * v) * 0.39894228040143267794;
            const double off = std::fabs(y[i] - v * phi) - 1e-45;  // a denormal has no more digits
            worst = std::max(worst, v == 0 ? off : off / std::fabs(v));
            worst_grad = std::max(worst_grad, std::fabs(g[i] - slope));
            if (std::fabs(v) >= 5.7)
                saturated &= y[i] == (v > 0 ? x[i] : 0) && g[i] == (v > 0 ? 1.0f : 0.0f);
        }
        CHECK(worst < 1.7e-7);  // Phi's error and the product's rounding
        CHECK(worst_grad < 3.2e-7);
        CHECK(saturated);
    });
}

TEST_CASE("vector functions: NaN, infinities, zeros, denormals") {
    const float inf = std::numeric_limits<float>::infinity(), nan = std::nanf("");
    testing::for_each_target([&] {
        const auto f = [](UnaryOp op, float x, bool grad = false) {
            float y = 7;
            apply<float>(op, grad, 0.2f, &y, &x, 1);
            return y;
        };
        for (UnaryOp op : kAll) {
            CAPTURE(static_cast<int>(op));
            CHECK(std::isnan(f(op, nan)));
        }
        CHECK(f(UnaryOp::exp, inf) == inf);
        CHECK(f(UnaryOp::exp, -inf) == 0);
        CHECK(f(UnaryOp::exp, 1e9f) == inf);
        CHECK(f(UnaryOp::exp, 89.0f) == inf);
        CHECK(f(UnaryOp::exp, 88.7f) < inf);
        CHECK(f(UnaryOp::exp, -1e9f) == 0);
        CHECK(f(UnaryOp::exp, 0) == 1);
        CHECK(f(UnaryOp::exp, -103.9f) > 0);  // above half the smallest denormal number
        CHECK(f(UnaryOp::exp, -104.1f) == 0);
        CHECK(f(UnaryOp::exp, -100.0f) == doctest::Approx(std::exp(-100.0)).epsilon(0.05));
        CHECK(f(UnaryOp::log, 0) == -inf);
        CHECK(f(UnaryOp::log, inf) == inf);
        CHECK(std::isnan(f(UnaryOp::log, -1)));
        CHECK(f(UnaryOp::log, 1) == 0);
        CHECK(f(UnaryOp::log, 1e-42f) == doctest::Approx(std::log(double{1e-42f})));
        CHECK(f(UnaryOp::tanh, inf) == 1);
        CHECK(f(UnaryOp::tanh, -inf) == -1);
        CHECK(f(UnaryOp::sigmoid, -inf) == 0);
        CHECK(f(UnaryOp::sigmoid, inf) == 1);
        CHECK(f(UnaryOp::gelu, 50) == 50);
        CHECK(f(UnaryOp::gelu, -50) == 0);
        CHECK(f(UnaryOp::gelu, inf) == inf);
        CHECK(f(UnaryOp::gelu, inf, true) == 1);
        CHECK(f(UnaryOp::gelu, -inf, true) == 0);
        CHECK(std::isnan(f(UnaryOp::gelu, nan, true)));
        CHECK(f(UnaryOp::relu, -inf) == 0);
        CHECK(f(UnaryOp::relu, inf) == inf);
    });
}

TEST_CASE("vector functions: partial loads and stores touch nothing else") {
    testing::for_each_target([] {
        for (int64_t n = 0; n < 40; ++n)
            for (int64_t shift : {0, 1, 3}) {
                testing::GuardedBuffer<float> x(n, shift), y(n, shift);
                testing::fill_random(x, 1);
                apply<float>(UnaryOp::neg, false, 0, y.data(), x.data(), n);
                for (int64_t i = 0; i < n; ++i) CHECK(y[i] == -x[i]);
            }
    });
}

}  // namespace mc
#endif
