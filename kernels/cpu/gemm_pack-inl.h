// Packing for the matrix product: operands are copied into panels in the order in which the
// microkernel reads them, so that it sees neither transposes nor row strides.
//
// A panel of width W holds for each k the W entries of one column of op(A) (or row of op(B)):
// panel[k * W + i]. Entries beyond the matrix are 0.

#if defined(MC_KERNELS_CPU_GEMM_PACK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MC_KERNELS_CPU_GEMM_PACK_INL_H_
#undef MC_KERNELS_CPU_GEMM_PACK_INL_H_
#else
#define MC_KERNELS_CPU_GEMM_PACK_INL_H_
#endif

#include <hwy/highway.h>

#include <cstring>

#include "kernels/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mc {
namespace HWY_NAMESPACE {

// panel[k * kWidth + i] = src[i * ld + k]: rows of src become columns, 16 bytes by 16 at a time.
template <int kWidth, class T>
HWY_INLINE void pack_rows_transposed(T* HWY_RESTRICT panel, const T* HWY_RESTRICT src, int64_t ld,
                                     int64_t count, int64_t depth) {
    int64_t i = 0;
#if HWY_TARGET != HWY_SCALAR
    constexpr int kLanes = 16 / sizeof(T);
    const hn::CappedTag<T, kLanes> d;
    for (; i + kLanes <= count; i += kLanes) {
        const T* row = src + i * ld;
        T* to = panel + i;
        int64_t k = 0;
        for (; k + kLanes <= depth; k += kLanes) {
            if constexpr (kLanes == 4) {
                const auto r0 = hn::LoadU(d, row + k), r1 = hn::LoadU(d, row + ld + k);
                const auto r2 = hn::LoadU(d, row + 2 * ld + k), r3 = hn::LoadU(d, row + 3 * ld + k);
                const auto lo02 = hn::InterleaveLower(d, r0, r2);
                const auto lo13 = hn::InterleaveLower(d, r1, r3);
                const auto hi02 = hn::InterleaveUpper(d, r0, r2);
                const auto hi13 = hn::InterleaveUpper(d, r1, r3);
                hn::StoreU(hn::InterleaveLower(d, lo02, lo13), d, to + k * kWidth);
                hn::StoreU(hn::InterleaveUpper(d, lo02, lo13), d, to + (k + 1) * kWidth);
                hn::StoreU(hn::InterleaveLower(d, hi02, hi13), d, to + (k + 2) * kWidth);
                hn::StoreU(hn::InterleaveUpper(d, hi02, hi13), d, to + (k + 3) * kWidth);
            } else {
                const auto r0 = hn::LoadU(d, row + k), r1 = hn::LoadU(d, row + ld + k);
                hn::StoreU(hn::InterleaveLower(d, r0, r1), d, to + k * kWidth);
                hn::StoreU(hn::InterleaveUpper(d, r0, r1), d, to + (k + 1) * kWidth);
            }
        }
        for (; k < depth; ++k)
            for (int j = 0; j < kLanes; ++j) to[k * kWidth + j] = row[j * ld + k];
    }
#endif
    for (; i < count; ++i) {
        const T* row = src + i * ld;
        for (int64_t k = 0; k < depth; ++k) panel[k * kWidth + i] = row[k];
    }
    for (; i < kWidth; ++i)
        for (int64_t k = 0; k < depth; ++k) panel[k * kWidth + i] = T{0};
}

// panel[k * kWidth + i] = src[k * ld + i].
template <int kWidth, class T>
HWY_INLINE void pack_rows(T* HWY_RESTRICT panel, const T* HWY_RESTRICT src, int64_t ld,
                          int64_t count, int64_t depth) {
    if (count == kWidth) {
        for (int64_t k = 0; k < depth; ++k)
            std::memcpy(panel + k * kWidth, src + k * ld, kWidth * sizeof(T));
        return;
    }
    for (int64_t k = 0; k < depth; ++k) {
        for (int64_t i = 0; i < count; ++i) panel[k * kWidth + i] = src[k * ld + i];
        for (int64_t i = count; i < kWidth; ++i) panel[k * kWidth + i] = T{0};
    }
}

// One panel: entries [first, first + count) of the operand's long side, k in [k0, k0 + depth).
// `k_contiguous`: the operand is stored with k along its rows.
template <int kWidth, class T>
HWY_NOINLINE void pack_panel(T* panel, const T* src, int64_t ld, bool k_contiguous, int64_t first,
                             int64_t count, int64_t k0, int64_t depth) {
    if (k_contiguous)
        pack_rows_transposed<kWidth>(panel, src + first * ld + k0, ld, count, depth);
    else
        pack_rows<kWidth>(panel, src + k0 * ld + first, ld, count, depth);
}

}  // namespace HWY_NAMESPACE
}  // namespace mc
HWY_AFTER_NAMESPACE();

#endif  // MC_KERNELS_CPU_GEMM_PACK_INL_H_
