// Scalar functions for kernels, one name for f32 and f64, and the table's unary functions.
//
// The build forbids contraction (nvcc --fmad=false), so a product and a sum round twice as on the
// CPU; multiply_add() asks for one rounding by name.
#pragma once

#include <cmath>
#include <limits>

#include "kernels/cuda/device.h"
#include "kernels/elementwise.h"

namespace mc::cuda {

template <class T>
constexpr T kInf = std::numeric_limits<T>::infinity();

__device__ inline float exp_of(float x) {
    return ::expf(x);
}
__device__ inline double exp_of(double x) {
    return ::exp(x);
}
__device__ inline float log_of(float x) {
    return ::logf(x);
}
__device__ inline double log_of(double x) {
    return ::log(x);
}
__device__ inline float sqrt_of(float x) {
    return ::sqrtf(x);
}
__device__ inline double sqrt_of(double x) {
    return ::sqrt(x);
}
__device__ inline float tanh_of(float x) {
    return ::tanhf(x);
}
__device__ inline double tanh_of(double x) {
    return ::tanh(x);
}
__device__ inline float erfc_of(float x) {
    return ::erfcf(x);
}
__device__ inline double erfc_of(double x) {
    return ::erfc(x);
}
__device__ inline float sin_of(float x) {
    return ::sinf(x);
}
__device__ inline double sin_of(double x) {
    return ::sin(x);
}
__device__ inline float cos_of(float x) {
    return ::cosf(x);
}
__device__ inline double cos_of(double x) {
    return ::cos(x);
}
__device__ inline float multiply_add(float a, float b, float c) {
    return ::fmaf(a, b, c);
}
__device__ inline double multiply_add(double a, double b, double c) {
    return ::fma(a, b, c);
}
template <class T>
__device__ inline T size_of_value(T x) {
    return x < T{0} ? -x : x;
}

template <class T>
__device__ inline T sigmoid_of(T x) {
    return T{1} / (T{1} + exp_of(-x));
}
// Phi(x), the normal distribution function: erfc keeps the digits of the left tail.
template <class T>
__device__ inline T normal_cdf(T x) {
    return T(0.5) * erfc_of(x * T(-0.70710678118654752440));
}

// f(x) of the table; comparisons, not maxima: a NaN stays.
template <class T>
__device__ inline T unary_value(UnaryOp op, T x, T param) {
    switch (op) {
        case UnaryOp::neg:
            return -x;
        case UnaryOp::exp:
            return exp_of(x);
        case UnaryOp::log:
            return log_of(x);
        case UnaryOp::sqrt:
            return sqrt_of(x);
        case UnaryOp::square:
            return x * x;
        case UnaryOp::reciprocal:
            return T{1} / x;
        case UnaryOp::tanh:
            return tanh_of(x);
        case UnaryOp::sigmoid:
            return sigmoid_of(x);
        case UnaryOp::relu:
            return x < T{0} ? T{0} : x;
        case UnaryOp::leaky_relu:
            return x < T{0} ? param * x : x;
        case UnaryOp::gelu:
            return x * normal_cdf(x);
        case UnaryOp::quick_gelu:
            return x * sigmoid_of(T(1.702) * x);
        case UnaryOp::abs:
            return size_of_value(x);
        case UnaryOp::sin:
            return sin_of(x);
        case UnaryOp::cos:
            return cos_of(x);
    }
    return x;
}

// g * f'(x), x being the input of f. relu chooses: an infinite gradient is no NaN there.
template <class T>
__device__ inline T unary_gradient(UnaryOp op, T g, T x, T param) {
    switch (op) {
        case UnaryOp::neg:
            return -g;
        case UnaryOp::exp:
            return g * exp_of(x);
        case UnaryOp::log:
            return g / x;
        case UnaryOp::sqrt:
            return g * (T(0.5) / sqrt_of(x));
        case UnaryOp::square:
            return g * (x + x);
        case UnaryOp::reciprocal:
            return g * (T{-1} / (x * x));
        case UnaryOp::tanh: {
            const T t = tanh_of(x);
            return g * (T{1} - t * t);
        }
        case UnaryOp::sigmoid: {
            const T s = sigmoid_of(x);
            return g * (s * (T{1} - s));
        }
        case UnaryOp::relu:
            return x > T{0} ? g : T{0};
        case UnaryOp::leaky_relu:
            return x > T{0} ? g : param * g;
        case UnaryOp::gelu: {
            const T density = T(0.39894228040143267794) * exp_of(T(-0.5) * x * x);
            return g * (normal_cdf(x) + x * density);
        }
        case UnaryOp::quick_gelu: {
            const T k = T(1.702), s = sigmoid_of(k * x);
            return g * (s + k * x * s * (T{1} - s));
        }
        case UnaryOp::abs:
            return x > T{0} ? g : (x < T{0} ? -g : g * x);
        case UnaryOp::sin:
            return g * cos_of(x);
        case UnaryOp::cos:
            return g * -sin_of(x);
    }
    return g;
}

}  // namespace mc::cuda
