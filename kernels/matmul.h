// Matrix products: one packed, register-blocked design for f32 and f64.
#pragma once

#include "kernels/elementwise.h"
#include "kernels/kernel.h"

namespace mc {

// What happens to a finished tile of C while it is in registers or cache.
template <class T>
struct Epilogue {
    const T* bias = nullptr;         // (N), added to every row; null: none
    bool activate = false;           // then C = op(C + bias)
    UnaryOp op = UnaryOp::relu;      // relu, gelu, quick_gelu, tanh, ... (any UnaryOp)
    T param = 0;                     // leaky_relu's slope
    T* before_activation = nullptr;  // (M, N) row stride ldc: C + bias stored here too (what
                                     // backward needs); null: not
};

// C (M, N) = alpha * op(A) (M, K) * op(B) (K, N) + (accumulate ? C : 0), then the epilogue.
// op(X) is X or its transpose; ld* are row strides in elements of the matrix as stored. Row-major.
// Batched: `batch` problems at distances stride_* (0 shares an operand).
template <class T>
struct MatmulArgs {
    T* c = nullptr;
    const T* a = nullptr;
    const T* b = nullptr;
    int64_t m = 0, n = 0, k = 0;
    int64_t ldc = 0, lda = 0, ldb = 0;
    bool trans_a = false, trans_b = false;
    int64_t batch = 1, stride_c = 0, stride_a = 0, stride_b = 0;
    T alpha = 1;
    bool accumulate = false;
    Epilogue<T> epilogue;
};

template <class T>
struct MatmulKernels {
    Kernel<const MatmulArgs<T>&> matmul{"matmul"};
};

}  // namespace mc
