// Softmax over rows and the losses on top of it.
#pragma once

#include "kernels/kernel.h"

namespace mc {

template <class T>
struct SoftmaxKernels {
    // y = softmax of each row of x (rows, cols); y may equal x. A row of -inf alone gives zeros.
    Kernel<T*, const T*, int64_t, int64_t> softmax{"softmax"};
    // dx = y * (dy - sum(y * dy)); dx may equal dy.
    Kernel<T*, const T*, const T*, int64_t, int64_t> softmax_backward{
        "softmax_backward"};  // (dx, dy, y, rows, cols)
    Kernel<T*, const T*, int64_t, int64_t> log_softmax{"log_softmax"};
    // dx = dy - exp(y) * sum(dy); dx may equal dy.
    Kernel<T*, const T*, const T*, int64_t, int64_t> log_softmax_backward{
        "log_softmax_backward"};  // (dx, dy, y, ..)
    // Per row: loss[r] = logsumexp(x) - x[label] with label smoothing s: (1-s) that + s *
    // mean_c(lse - x_c). lse (rows) is saved. Both are 0 where label == ignore. Labels outside [0,
    // cols) other than ignore are checked by the caller.
    struct CrossEntropyArgs {
        T* loss;               // (rows)
        T* lse;                // (rows)
        const T* x;            // (rows, cols)
        const int64_t* label;  // (rows)
        int64_t rows, cols, ignore;
        double smoothing;
    };
    Kernel<const CrossEntropyArgs&> cross_entropy{"cross_entropy"};
    // dx = scale[r] * (softmax(x) - target), rows with label == ignore get zeros; scale (rows) is
    // dLoss/dloss[r].
    struct CrossEntropyBackwardArgs {
        T* dx;                 // (rows, cols)
        const T* scale;        // (rows)
        const T* x;            // (rows, cols)
        const T* lse;          // (rows)
        const int64_t* label;  // (rows)
        int64_t rows, cols, ignore;
        double smoothing;
    };
    Kernel<const CrossEntropyBackwardArgs&> cross_entropy_backward{"cross_entropy_backward"};
    // Smooth L1 (Huber with beta): dst[i] = |d| < beta ? d^2 / (2 beta) : |d| - beta/2, d = a[i] -
    // b[i]; n elements.
    Kernel<T*, const T*, const T*, T, int64_t> smooth_l1{"smooth_l1"};  // (dst, a, b, beta, n)
    // dst[i] = grad[i] * (|d| < beta ? d / beta : sign d)  (the gradient for a; b's is its
    // negative).
    Kernel<T*, const T*, const T*, const T*, T, int64_t> smooth_l1_backward{
        "smooth_l1_backward"};  // (dst, grad, a, b, beta, n)
};

}  // namespace mc
