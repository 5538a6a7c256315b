// Dot products along k: the matrix product where C has few rows or few columns.

#if defined(MC_KERNELS_CPU_GEMM_DOTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MC_KERNELS_CPU_GEMM_DOTS_INL_H_
#undef MC_KERNELS_CPU_GEMM_DOTS_INL_H_
#else
#define MC_KERNELS_CPU_GEMM_DOTS_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>

#include "kernels/cpu/gemm_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mc {
namespace HWY_NAMESPACE {

// Sums of lanes are made for as many vectors together as fill 16 bytes.
template <class T>
inline constexpr int kTogether = HWY_MIN(16 / static_cast<int>(sizeof(T)),
                                         static_cast<int>(hn::MaxLanes(hn::ScalableTag<T>())));

#if HWY_TARGET == HWY_SCALAR
template <class D, class V = hn::Vec<D>, class T = hn::TFromD<D>>
HWY_INLINE void sums_together(D d, const V* v, T* to) {
    hn::StoreU(v[0], d, to);
}
#else
// Each block of 16 bytes += the others; the first of them is stored.
template <class D, class T>
HWY_INLINE void store_sum_of_blocks(D d, hn::Vec<D> v, T* to) {
    if constexpr (hn::MaxLanes(D()) > kTogether<T>) {
        const hn::Half<D> half;
        store_sum_of_blocks(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)), to);
    } else {
        hn::StoreU(v, d, to);
    }
}

// to[i] = the sum of the lanes of v[i], i < kTogether.
template <class D, class V = hn::Vec<D>, class T = hn::TFromD<D>>
HWY_INLINE void sums_together(D d, const V* v, T* to) {
    const auto sum = [d](V a, V b) HWY_ATTR {  // of neighbours: of a, of b, of a, ...
        return hn::Add(hn::InterleaveLower(d, a, b), hn::InterleaveUpper(d, a, b));
    };
    if constexpr (kTogether<T> == 2) {
        store_sum_of_blocks(d, sum(v[0], v[1]), to);
    } else {
        const hn::Repartition<double, D> pairs;
        const auto a = hn::BitCast(pairs, sum(v[0], v[1])), b = hn::BitCast(pairs, sum(v[2], v[3]));
        store_sum_of_blocks(d,
                            hn::Add(hn::BitCast(d, hn::InterleaveLower(pairs, a, b)),
                                    hn::BitCast(d, hn::InterleaveUpper(pairs, a, b))),
                            to);
    }
}
#endif

// The same for i < kCount, each in the same order.
template <int kCount, class D, class V = hn::Vec<D>, class T = hn::TFromD<D>>
HWY_INLINE void sums_of_lanes(D d, const V* v, T* to) {
    constexpr int kWhole = kCount / kTogether<T> * kTogether<T>;
#pragma GCC unroll 16
    for (int i = 0; i < kWhole; i += kTogether<T>) sums_together(d, v + i, to + i);
    if constexpr (kWhole < kCount) {
        V rest[kTogether<T>];
        T made[kTogether<T>];
#pragma GCC unroll 4
        for (int i = 0; i < kTogether<T>; ++i)
            rest[i] = kWhole + i < kCount ? v[HWY_MIN(kWhole + i, kCount - 1)] : hn::Zero(d);
        sums_together(d, rest, made);
        std::copy_n(made, kCount - kWhole, to + kWhole);
    }
}

// c[i, j] = alpha a[i, :] b[j, :] [+ c[i, j]] for kRows rows of a and kCols of b, `depth` numbers
// each.
template <int kRows, int kCols, class T>
HWY_INLINE void dot_block(int64_t depth, const T* a, int64_t lda, const T* b, int64_t ldb, T* c,
                          int64_t ldc, T alpha, bool add) {
    const hn::ScalableTag<T> d;
    using V = hn::Vec<decltype(d)>;
    constexpr int64_t kLanes = hn::MaxLanes(hn::ScalableTag<T>());
    constexpr int kSums = kRows * kCols;
    V sum[kSums];
#pragma GCC unroll 32
    for (int i = 0; i < kSums; ++i) sum[i] = hn::Zero(d);
    const auto step = [&](int64_t k, auto load) HWY_ATTR {
        V av[kRows];
#pragma GCC unroll 8
        for (int i = 0; i < kRows; ++i) av[i] = load(a + i * lda + k);
#pragma GCC unroll 8
        for (int j = 0; j < kCols; ++j) {
            const V bv = load(b + j * ldb + k);
#pragma GCC unroll 8
            for (int i = 0; i < kRows; ++i)
                sum[i * kCols + j] = hn::MulAdd(av[i], bv, sum[i * kCols + j]);
        }
    };
    int64_t k = 0;
    for (; k + kLanes <= depth; k += kLanes)
        step(k, [d](const T* at) HWY_ATTR { return hn::LoadU(d, at); });
    if (k < depth)
        step(k, [d, n = static_cast<size_t>(depth - k)](const T* at)
                    HWY_ATTR { return load_n(d, at, n); });

    T made[kSums];
    sums_of_lanes<kSums>(d, sum, made);
    for (int row = 0; row < kRows; ++row) {
        T* to = c + row * ldc;
        for (int col = 0; col < kCols; ++col) {
            const T v = alpha * made[row * kCols + col];
            to[col] = add ? to[col] + v : v;
        }
    }
}

// Such blocks side by side: `cols` columns, which kCols divides.
template <int kRows, int kCols, class T>
HWY_NOINLINE void dot_blocks(int64_t depth, int64_t cols, const T* a, int64_t lda, const T* b,
                             int64_t ldb, T* c, int64_t ldc, T alpha, bool add) {
    for (int64_t j = 0; j < cols; j += kCols)
        dot_block<kRows, kCols>(depth, a, lda, b + j * ldb, ldb, c + j, ldc, alpha, add);
}

// Blocks of `rows` rows, and the columns of one: of `left` ones, as many as the registers hold
// sums.
template <class T>
struct DotBlock {
    static constexpr int kMostRows = HWY_MAX(kBlockRows / 2, 1), kMostCols = 8;
    DotBlock(int64_t rows, int64_t left) {
        block_function<kMostRows>(rows, false, [&](auto some, auto) {
            constexpr int kRows = some(),
                          kWide = kRows * kMostCols <= 2 * kBlockRows ? kMostCols : 4;
            if (left >= kMostCols) return choose<kRows, kWide>();
            return left >= 4 ? choose<kRows, 4>() : choose<kRows, 1>();
        });
    }
    template <int kRows, int kCols>
    void choose() {
        run = &dot_blocks<kRows, kCols, T>;
        cols = kCols;
    }
    decltype(&dot_blocks<1, 1, T>) run;
    int64_t cols;
};

// c (rows, cols) of `depth` numbers each, as in dot_block. The rows of b are walked once; where
// more than one block of rows of a meets many of them, kMostCols at a time and as many numbers as
// stay near.
template <class T>
HWY_INLINE void dot_tile(int64_t rows, int64_t cols, int64_t depth, const T* a, int64_t lda,
                         const T* b, int64_t ldb, T* c, int64_t ldc, T alpha, bool add) {
    constexpr int64_t kMostCols = DotBlock<T>::kMostCols, kMostDepth = 1024;
    // Evenly where the registers hold many sums; of few, a block of fewer rows would be too short.
    const RowBlocks<DotBlock<T>::kMostRows, kBlockRows == 12> blocks(rows);
    // Of few columns all steps too, however many rows: a row's sums do not depend on its block.
    const bool split = blocks.count > 1 && cols > 4;
    const int64_t steps = split ? kMostDepth : HWY_MAX(depth, int64_t{1});
    const int64_t together = split ? kMostCols : cols;
    for (int64_t j = 0; j < cols; j += together)
        for (int64_t k = 0; k < depth; k += steps)
            for (int64_t block = 0; block < blocks.count; ++block) {
                const int64_t i = blocks.begin(block), height = blocks.height(block);
                const int64_t end = HWY_MIN(j + together, cols);
                for (int64_t at = j, some = 0; at < end; at += some) {
                    const DotBlock<T> dots(height, end - at);
                    some = (end - at) / dots.cols * dots.cols;
                    dots.run(HWY_MIN(steps, depth - k), some, a + i * lda + k, lda,
                             b + at * ldb + k, ldb, c + i * ldc + at, ldc, alpha, add || k > 0);
                }
            }
}

}  // namespace HWY_NAMESPACE
}  // namespace mc
HWY_AFTER_NAMESPACE();

#endif  // MC_KERNELS_CPU_GEMM_DOTS_INL_H_
