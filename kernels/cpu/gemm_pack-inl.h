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
#include <type_traits>
#include <utility>

#include "kernels/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mc {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR
// A square of N rows and columns, N the lanes of d, is transposed in two stages: numbers change
// places within the blocks of 16 bytes, then the blocks.
//
// Stage 1, four rows: part[j] has in its block b column 4 b + j of them.
template <class D, class V = hn::Vec<D>, class T = hn::TFromD<D>>
HWY_INLINE void transpose_blocks(D d, const T* HWY_RESTRICT src, int64_t ld, V (&part)[4]) {
    const V r0 = hn::LoadU(d, src), r1 = hn::LoadU(d, src + ld);
    const V r2 = hn::LoadU(d, src + 2 * ld), r3 = hn::LoadU(d, src + 3 * ld);
    const V lo02 = hn::InterleaveLower(d, r0, r2), lo13 = hn::InterleaveLower(d, r1, r3);
    const V hi02 = hn::InterleaveUpper(d, r0, r2), hi13 = hn::InterleaveUpper(d, r1, r3);
    part[0] = hn::InterleaveLower(d, lo02, lo13);
    part[1] = hn::InterleaveUpper(d, lo02, lo13);
    part[2] = hn::InterleaveLower(d, hi02, hi13);
    part[3] = hn::InterleaveUpper(d, hi02, hi13);
}

// Of two vectors the even blocks in turns, and the odd ones.
template <class V>
HWY_INLINE std::pair<V, V> interleave_blocks(V low, V high) {
    return {hn::OddEvenBlocks(hn::SwapAdjacentBlocks(high), low),
            hn::OddEvenBlocks(high, hn::SwapAdjacentBlocks(low))};
}

// Stage 2: part[g] is part[j] of rows 4 g to 4 g + 3; to[4 b * stride] = column 4 b + j of all.
template <class D, class V = hn::Vec<D>, class T = hn::TFromD<D>>
HWY_INLINE void store_blocks(D d, const V (&part)[hn::MaxLanes(D()) / 4], T* HWY_RESTRICT to,
                             int64_t stride) {
    constexpr int N = static_cast<int>(hn::MaxLanes(D()));
    const auto store = [&](V v, int block) HWY_ATTR { hn::StoreU(v, d, to + 4 * block * stride); };
    if constexpr (N == 4) {
        store(part[0], 0);
    } else if constexpr (N == 8) {
        store(hn::ConcatLowerLower(d, part[1], part[0]), 0);
        store(hn::ConcatUpperUpper(d, part[1], part[0]), 1);
    } else {
        static_assert(N == 16);
        const auto [even01, odd01] = interleave_blocks(part[0], part[1]);
        const auto [even23, odd23] = interleave_blocks(part[2], part[3]);
        store(hn::ConcatLowerLower(d, even23, even01), 0);
        store(hn::ConcatLowerLower(d, odd23, odd01), 1);
        store(hn::ConcatUpperUpper(d, even23, even01), 2);
        store(hn::ConcatUpperUpper(d, odd23, odd01), 3);
    }
}

// to[k * stride + i] = src[i * ld + k].
template <class D, class T = hn::TFromD<D>>
HWY_INLINE void transpose_square(D d, T* HWY_RESTRICT to, int64_t stride, const T* HWY_RESTRICT src,
                                 int64_t ld) {
    constexpr int N = static_cast<int>(hn::MaxLanes(D()));
    using V = hn::Vec<D>;
    if constexpr (sizeof(T) == 8) {
        static_assert(N == 2);
        const V r0 = hn::LoadU(d, src), r1 = hn::LoadU(d, src + ld);
        hn::StoreU(hn::InterleaveLower(d, r0, r1), d, to);
        hn::StoreU(hn::InterleaveUpper(d, r0, r1), d, to + stride);
    } else {
        V part[4][N / 4];
#pragma GCC unroll 4
        for (int g = 0; g < N / 4; ++g) {
            V rows[4];
            transpose_blocks(d, src + 4 * g * ld, ld, rows);
#pragma GCC unroll 4
            for (int j = 0; j < 4; ++j) part[j][g] = rows[j];
        }
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) store_blocks(d, part[j], to + j * stride, stride);
    }
}

// The same for kRows rows of `depth` numbers; meanwhile, kFetch, as many rows from `ahead` on are
// fetched.
template <int kRows, bool kFetch, class T>
HWY_INLINE void transpose_rows(T* HWY_RESTRICT to, int64_t stride, const T* HWY_RESTRICT src,
                               int64_t ld, int64_t depth, const T* ahead) {
    constexpr int64_t kLines = kRows * kRows * sizeof(T) / 64;  // of a square
    const hn::CappedTag<T, kRows> d;
    int64_t k = 0;
    for (; k + kRows <= depth; k += kRows) {
        // A line of each row, some of them at a time.
        const int64_t first = kLines > 0 ? k / kRows * kLines % kRows : k / kRows % kRows;
        for (int64_t i = 0; kFetch && i < HWY_MAX(kLines, 1); ++i)
            hwy::Prefetch(ahead + (first + i) * ld + k);
        transpose_square(d, to + k * stride, stride, src + k, ld);
    }
    for (; k < depth; ++k)
        for (int j = 0; j < kRows; ++j) to[k * stride + j] = src[j * ld + k];
}
#endif

// to[k * stride + i] = src[i * ld + k], i < count and k < depth: rows of src become columns, kMost
// of them together at most. kFetch: src comes from memory.
template <int kMost, bool kFetch, class T>
HWY_INLINE void transpose(T* HWY_RESTRICT to, int64_t stride, const T* HWY_RESTRICT src, int64_t ld,
                          int64_t count, int64_t depth) {
    int64_t i = 0;
#if HWY_TARGET != HWY_SCALAR
    constexpr int64_t kAhead = 16;
    const auto rows = [&](auto some) HWY_ATTR {
        constexpr int kRows = some();
        // Rows of numbers of 8 bytes go by pairs, whatever the vectors.
        if constexpr (kRows <= kMost && kRows <= hn::MaxLanes(hn::ScalableTag<T>()) &&
                      (sizeof(T) == 4 || kRows == 2))
            for (; i + kRows <= count; i += kRows) {
                // A strip is too short for the processor to see that one row follows another.
                const T* ahead = i + kAhead < count ? src + (i + kAhead) * ld
                                                    : src + depth + (i + kAhead - count) * ld;
                transpose_rows<kRows, kFetch>(to + i, stride, src + i * ld, ld, depth, ahead);
            }
    };
    if constexpr (sizeof(T) == 4) {
        rows(std::integral_constant<int, 16>());
        rows(std::integral_constant<int, 8>());
        rows(std::integral_constant<int, 4>());
    } else {
        rows(std::integral_constant<int, 2>());
    }
#endif
    for (; i < count; ++i) {
        const T* row = src + i * ld;
        for (int64_t k = 0; k < depth; ++k) to[k * stride + i] = row[k];
    }
}

// The same into a panel, with 0 beyond `count`.
template <int kWidth, class T>
HWY_INLINE void pack_rows_transposed(T* HWY_RESTRICT panel, const T* HWY_RESTRICT src, int64_t ld,
                                     int64_t count, int64_t depth) {
    if (count < kWidth) std::memset(panel, 0, static_cast<size_t>(kWidth * depth) * sizeof(T));
    transpose<kWidth, true>(panel, kWidth, src, ld, count, depth);
}

// Panels p = 0, 1, ... at distance panel_stride: panel p[k * kWidth + i] = src[k * ld + p * kWidth
// + i]. Walks the rows of src, so that a page of it is visited once, and some of them together, so
// that a line of a panel is written at once: panels share few sets of the first-level cache.
template <int kWidth, class T>
HWY_INLINE void pack_rows(T* HWY_RESTRICT panels, int64_t panel_stride, const T* HWY_RESTRICT src,
                          int64_t ld, int64_t count, int64_t depth) {
    constexpr int64_t kTogether = 8;
    const int64_t whole = count / kWidth, rest = count % kWidth;
    for (int64_t k = 0; k < depth; k += kTogether) {
        const int64_t some = HWY_MIN(kTogether, depth - k);
        const T* from = src + k * ld;
        T* to = panels + k * kWidth;
        const int64_t next = k + 2 * kTogether <= depth ? kTogether * ld : 0;
        for (int64_t p = 0; p < whole; ++p, from += kWidth, to += panel_stride)
            for (int64_t i = 0; i < some; ++i) {
                hwy::Prefetch(from + i * ld + next);
                std::memcpy(to + i * kWidth, from + i * ld, kWidth * sizeof(T));
            }
        if (rest == 0) continue;
        for (int64_t i = 0; i < some; ++i)
            for (int64_t j = 0; j < kWidth; ++j)
                to[i * kWidth + j] = j < rest ? from[i * ld + j] : T{0};
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
