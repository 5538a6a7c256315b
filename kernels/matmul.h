// Matrix products in f32 and f64, and of f32 operands that are rounded to 16 bits.
//
// NOTE [ Packed right operands ]
// A weight takes part in many products. `pack_b_*` lays op(B) out once as the device's product
// reads it, and MatmulArgs::packed_b then stands for b. Packed in 16 bits, it makes A be rounded
// too.
//
// bf16, f16: each number to nearest even; NaN stays NaN, what is beyond the type is infinite. Their
// products are exact in f32, in which they are added. In which order is the device's matter.
//
// int16: a row of A and a column of op(B) are cut into blocks of 256 along k (the last has what is
// left), and a block x is a scale times integers of 16 bits:
//     steps = min(32767, 46332 / |x / max|x|_2|),  integers = round(x / max|x| * steps),
//     scale = max|x| / steps
// Two blocks of integers are no longer than 2^15.5 each, so by Cauchy and Schwarz their product
// fits 32 bits: it is exact. C is the sum over the blocks, in their order, of alpha * scale_b *
// product * scale_a in f32. The step is fine where the numbers are about as large as one another:
// for uniform or normal ones a product is off by 1.4e-4 of its root mean square, where bf16's is
// off by 2e-3. A block that has a number that is not finite gives NaN, one below 2^-126 gives 0.
//
// The CPU has f32, with the same bits as unpacked, bf16 and int16. In bf16 every element of C is
// the chain
//     c = fma(a[k], b[k], fma(a[k + 1], b[k + 1], c))
// over pairs of k. That is the instruction vdpbf16ps of AVX512-BF16, used where it is faster than
// multiply-adds; elsewhere it is computed so, with the same bits but for one thing: the instruction
// takes denormal numbers for 0 and flushes such sums. In int16 the products are vpdpwssd's of
// AVX512-VNNI where the processor has it, with the same bits as without.
//
// CUDA has bf16 and f16, for the tensor cores by way of cuBLASLt. Its f32 products read b as it is:
// packing would gain nothing.
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

// op(B) (K, N) as pack_b_* left it for this device. See NOTE [ Packed right operands ].
struct PackedMatrix {
    const void* data = nullptr;
    Precision precision = Precision::f32;
};
// Numbers of a row that have one scale in int16.
inline constexpr int64_t kInt16Block = 256;
// What pack_b_* writes for (K, N): room for every instruction set's panels of the CPU, and for
// CUDA's rows of whole 16 bytes.
constexpr int64_t packed_bytes(Precision precision, int64_t k, int64_t n) {
    const int64_t cols = (n + 63) / 64 * 64, elements = (k + 7) / 8 * 8 * cols;
    if (precision == Precision::f32) return 4 * elements;
    const int64_t scales =
        precision == Precision::int16 ? (k + kInt16Block - 1) / kInt16Block * cols : 0;
    return 2 * elements + 4 * scales;
}

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
    PackedMatrix packed_b;  // set: stands for b, which f32 reads too (few rows); T float, batch 1
};

template <class T>
struct MatmulKernels {
    Kernel<const MatmulArgs<T>&> matmul{"matmul"};
    // dst (packed_bytes of the name's precision) = op(B) (K, N): (dst, b, ldb, trans_b, k, n).
    // (optional; T float)
    using PackB = Kernel<void*, const T*, int64_t, bool, int64_t, int64_t>;
    PackB pack_b_f32{"pack_b_f32"}, pack_b_bf16{"pack_b_bf16"}, pack_b_f16{"pack_b_f16"},
        pack_b_int16{"pack_b_int16"};

    const PackB& pack_b(Precision precision) const {
        const PackB* const kernels[] = {&pack_b_f32, &pack_b_bf16, &pack_b_f16, &pack_b_int16};
        return *kernels[static_cast<int>(precision)];
    }
};

}  // namespace mc
