// Initialisers with PyTorch's names and bounds. A null generator leaves zeros: for models that are
// loaded next.
#pragma once

#include <cmath>

#include "autograd/tape.h"

namespace mc::nn::init {

inline Var zeros(const Shape& shape) {
    return Var(Tensor::zeros(shape), requires_grad);
}
inline Var ones(const Shape& shape) {
    return Var(Tensor::full(shape, 1), requires_grad);
}

inline Var uniform(const Shape& shape, double bound, Generator* generator) {
    return generator ? Var(generator->uniform(shape, -bound, bound), requires_grad) : zeros(shape);
}
inline Var normal(const Shape& shape, double std, Generator* generator) {
    return generator ? Var(generator->normal(shape, 0, std), requires_grad) : zeros(shape);
}
// kaiming_uniform with a = sqrt(5), PyTorch's default of Linear and Conv: U(+-1/sqrt(fan_in)).
inline Var fan_in_uniform(const Shape& shape, int64_t fan_in, Generator* generator) {
    return uniform(shape, 1.0 / std::sqrt(static_cast<double>(fan_in)), generator);
}
inline Var xavier_uniform(const Shape& shape, Generator* generator) {  // (out, in)
    return uniform(shape, std::sqrt(6.0 / static_cast<double>(shape[0] + shape[1])), generator);
}

}  // namespace mc::nn::init
