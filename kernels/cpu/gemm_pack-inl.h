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

#include <hwy/cache_control.h>
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
    if (count < kWidth) std::memset(panel, 0, static_cast<size_t>(kWidth * depth) * sizeof(T));
    int64_t i = 0;
#if HWY_TARGET != HWY_SCALAR
    constexpr int kLanes = 16 / sizeof(T);
    constexpr int64_t kAhead = 16;
    const hn::CappedTag<T, kLanes> d;
    for (; i + kLanes <= count; i += kLanes) {
        const T* row = src + i * ld;
        // A strip is too short for the processor to see that one row follows another.
        const T* ahead =
            i + kAhead < count ? row + kAhead * ld : src + depth + (i + kAhead - count) * ld;
        T* to = panel + i;
        int64_t k = 0;
        for (; k + kLanes <= depth; k += kLanes) {
            hwy::Prefetch(ahead + k / kLanes % kLanes * ld + k);
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
}

// Panels p = 0, 1, ... at distance panel_stride: panel p[k * kWidth + i] = src[k * ld + p * kWidth
// + i]. Walks the rows of src, so that a page of it is visited once.
template <int kWidth, class T>
HWY_INLINE void pack_rows(T* HWY_RESTRICT panels, int64_t panel_stride, const T* HWY_RESTRICT src,
                          int64_t ld, int64_t count, int64_t depth) {
    constexpr int64_t kAhead = 8, kLine = 64 / sizeof(T);
    const int64_t whole = count / kWidth, rest = count % kWidth;
    for (int64_t k = 0; k < depth; ++k) {
        const T* from = src + k * ld;
        if (k + kAhead < depth)
            for (int64_t i = 0; i < count; i += kLine) hwy::Prefetch(from + kAhead * ld + i);
        T* to = panels + k * kWidth;
        for (int64_t p = 0; p < whole; ++p) {
            std::memcpy(to, from, kWidth * sizeof(T));
            from += kWidth;
            to += panel_stride;
        }
        if (rest == 0) continue;
        for (int64_t i = 0; i < rest; ++i) to[i] = from[i];
        for (int64_t i = rest; i < kWidth; ++i) to[i] = T{0};
    }
}

// Entries [first, first + count) of an operand's long side for k in [k0, k0 + depth), into panels
// at distance panel_stride. `k_contiguous`: the operand is stored with k along its rows.
template <int kWidth, class T>
HWY_NOINLINE void pack_panels(T* panels, int64_t panel_stride, const T* src, int64_t ld,
                              bool k_contiguous, int64_t first, int64_t count, int64_t k0,
                              int64_t depth) {
    if (!k_contiguous)
        return pack_rows<kWidth>(panels, panel_stride, src + k0 * ld + first, ld, count, depth);
    constexpr int64_t kStrip = 128;  // of a panel at a time, so that it stays in the first cache
    for (int64_t i = 0; i < count; i += kWidth)
        for (int64_t k = 0; k < depth; k += kStrip)
            pack_rows_transposed<kWidth>(
                panels + i / kWidth * panel_stride + k * kWidth, src + (first + i) * ld + k0 + k,
                ld, HWY_MIN(int64_t{kWidth}, count - i), HWY_MIN(kStrip, depth - k));
}

}  // namespace HWY_NAMESPACE
}  // namespace mc
HWY_AFTER_NAMESPACE();

#endif  // MC_KERNELS_CPU_GEMM_PACK_INL_H_
