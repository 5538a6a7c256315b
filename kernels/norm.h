// Normalisations over the last dimension of (rows, cols), contiguous rows.
#pragma once

#include "kernels/kernel.h"

namespace mc {

template <class T>
struct NormKernels {
    // Layer norm: y = (x - mean) * rstd * weight + bias, rstd = 1/sqrt(var + eps), two-pass
    // variance (biased). residual may be null; else x is replaced by x + residual first and that
    // sum is stored in `sum` (rows, cols), which is what backward takes as x. mean, rstd: (rows),
    // may be null at inference. weight/bias may be null (1/0).
    struct LayerNormArgs {
        T* y;               // (rows, cols)
        T* mean;            // (rows) or null
        T* rstd;            // (rows) or null
        T* sum;             // (rows, cols) or null
        const T* x;         // (rows, cols)
        const T* residual;  // (rows, cols) or null
        const T* weight;    // (cols) or null
        const T* bias;      // (cols) or null
        int64_t rows, cols;
        double eps;
    };
    Kernel<const LayerNormArgs&> layer_norm{"layer_norm"};
    // dx (rows, cols) = gradient through the above; dweight, dbias (cols) are ADDED to (null:
    // skipped). dx may equal dy.
    struct LayerNormBackwardArgs {
        T* dx;            // may be null
        T* dweight;       // (cols), +=, or null
        T* dbias;         // (cols), +=, or null
        const T* dy;      // (rows, cols)
        const T* x;       // (rows, cols)
        const T* mean;    // (rows)
        const T* rstd;    // (rows)
        const T* weight;  // (cols) or null
        int64_t rows, cols;
    };
    Kernel<const LayerNormBackwardArgs&> layer_norm_backward{"layer_norm_backward"};
    // y = x / max(|x|_2, eps) per row, norm (rows) = |x|_2.
    Kernel<T*, T*, const T*, int64_t, int64_t, double> l2_normalize{
        "l2_normalize"};  // (y, norm, x, rows, cols, eps)
    // dx = (dy - y (y . dy)) / max(norm, eps); where norm < eps: dy / eps.
    Kernel<T*, const T*, const T*, const T*, int64_t, int64_t, double> l2_normalize_backward{
        "l2_normalize_backward"};  // (dx, dy, y, norm, rows, cols, eps)
};

}  // namespace mc
