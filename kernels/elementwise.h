// Element by element: arithmetic with broadcasting, activations and their derivatives, copies,
// dropout.
#pragma once

#include "kernels/kernel.h"

namespace mc {

enum class BinaryOp : uint8_t { add, sub, mul, div };
// Unary functions. `gelu` is the exact (erf) one, `quick_gelu` is x * sigmoid(1.702 x);
// `leaky_relu` has slope `param`.
enum class UnaryOp : uint8_t {
    neg,
    exp,
    log,
    sqrt,
    square,
    reciprocal,
    tanh,
    sigmoid,
    relu,
    leaky_relu,
    gelu,
    quick_gelu,
    abs,
    sin,
    cos
};

template <class T>
struct ElementwiseKernels {
    // dst[i] = op(a[i], b[i]) over the loop. dst is contiguous and may equal a or b where their
    // strides are contiguous.
    Kernel<BinaryOp, T*, const T*, const T*, const StridedLoop&> binary{"binary"};
    // dst[i] = f(src[i]), n elements. dst may equal src.
    Kernel<UnaryOp, T, T*, const T*, int64_t> unary{"unary"};  // (op, param, dst, src, n)
    // dst[i] = grad[i] * f'(x[i]); x is the forward INPUT for every op. dst may equal grad.
    Kernel<UnaryOp, T, T*, const T*, const T*, int64_t> unary_backward{
        "unary_backward"};  // (op, param, dst, grad, x, n)
    // dst[i] = alpha * src[i] + beta. dst may equal src.
    Kernel<T*, const T*, T, T, int64_t> affine{"affine"};  // (dst, src, alpha, beta, n)
    // dst[i] += alpha * src[i].
    Kernel<T*, const T*, T, int64_t> axpy{"axpy"};  // (dst, src, alpha, n)
    Kernel<T*, T, int64_t> fill{"fill"};            // (dst, value, n)
    // dst[i] = cond[i] ? a[i] : b[i], contiguous; chooses, never multiplies, so NaN in the other
    // branch stays there.
    Kernel<T*, const bool*, const T*, const T*, int64_t> select{"select"};
    // Dropout with keep scale: dst[i] = dropped ? 0 : src[i] / (1 - p), as DropRule (random.h) has
    // number i of the stream. The same call on the gradient is the backward. dst may equal src. p
    // in [0, 1).
    Kernel<T*, const T*, double, RandomStream, int64_t> dropout{"dropout"};
    // The derivative of what follows a product, y = dropout(op(z)), z the product and its bias:
    // dz = dropout(dy) * op'(z), and the bias's, the sums of dz's columns, which are ADDED to
    // dbias.
    struct EpilogueBackwardArgs {
        T* dz;        // (rows, cols), may be dy; null: not kept
        T* dbias;     // (cols), +=, or null
        const T* dy;  // (rows, cols)
        const T* z;   // (rows, cols), or null: no activation
        UnaryOp op;
        T param;
        double p;             // of dropout, [0, 1); 0: none
        RandomStream random;  // number r * cols + c
        int64_t rows, cols;
    };
    Kernel<const EpilogueBackwardArgs&> epilogue_backward{"epilogue_backward"};
};

}  // namespace mc
