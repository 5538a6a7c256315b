// A register block that transposes the panel of B that it multiplies, for products whose rows are
// too few for packing to be cheap beside them: shuffles and stores run beside multiply-adds.

#if defined(MC_KERNELS_CPU_GEMM_TRANSPOSE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MC_KERNELS_CPU_GEMM_TRANSPOSE_INL_H_
#undef MC_KERNELS_CPU_GEMM_TRANSPOSE_INL_H_
#else
#define MC_KERNELS_CPU_GEMM_TRANSPOSE_INL_H_
#endif

#include <hwy/highway.h>

#include "kernels/cpu/gemm_pack-inl.h"
#include "kernels/cpu/gemm_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mc {
namespace HWY_NAMESPACE {

// Where there are registers for both.
template <class T>
inline constexpr bool kTransposes = HWY_TARGET == HWY_AVX3 && sizeof(T) == 4;

// Steps along k that are transposed together: the lanes of a vector.
inline constexpr int64_t kSquare = 16;
inline constexpr int64_t kPanel = 2 * kSquare;  // columns of a panel

#if HWY_TARGET == HWY_AVX3
// The part of transposing kSquare steps of kPanel rows of B that goes with step `part` of as many
// multiplied: panel[k * kPanel + j] = b[j * ld + k]. The first four of a square's eight parts write
// to `half`, the others read it.
template <int kPart, class D, class V>
HWY_INLINE void transpose_part(D d, V (&half)[4][4], float* HWY_RESTRICT panel,
                               const float* HWY_RESTRICT b, int64_t ld) {
    constexpr int kColumns = kPart / 8 * 16, kGroup = kPart % 4;
    if constexpr (kPart % 8 < 4) {
        V rows[4];
        transpose_blocks(d, b + (kColumns + 4 * kGroup) * ld, ld, rows);
        for (int j = 0; j < 4; ++j) half[j][kGroup] = rows[j];
    } else {
        store_blocks(d, half[kGroup], panel + kGroup * kPanel + kColumns, kPanel);
    }
}

// block<kRows, 2, true> for `depth` >= kSquare steps of kPanel rows of B in place, b[j * ld + k],
// which it leaves behind as a panel. Of out.ahead it fetches the first piece and what follows it:
// a walk from piece to piece has no register left.
template <int kRows>
HWY_NOINLINE void transposing_block(int64_t depth, Strip<float> a, const float* b, int64_t ld,
                                    float* HWY_RESTRICT panel, const BlockOutput<float>& out) {
    const hn::ScalableTag<float> d;
    using V = hn::Vec<decltype(d)>;
    const auto square = [&](int64_t k) HWY_ATTR {
        for (int64_t j = 0; j < kPanel; j += kSquare)
            transpose_square(d, panel + k * kPanel + j, kPanel, b + j * ld + k, ld);
    };
    square(0);
    if (depth % kSquare) square(depth - kSquare);
    V sum[kRows][2];
    clear(sum);
    const char* ahead = out.ahead.at;
    const RowPointers<kRows, float> rows(a);
    const float* at = panel;
    const auto step = [&](int64_t k) HWY_ATTR {
        const V bv[2] = {hn::LoadU(d, at), hn::LoadU(d, at + kSquare)};
        at += kPanel;
        __builtin_prefetch(ahead, 0, 2);
        ahead += out.ahead.stride;
        multiply_add(sum, rows, k, bv);
    };
    int64_t k = 0;
    V half[4][4];
    for (; k + 2 * kSquare <= depth; k += kSquare) {
        const auto both = [&](auto part) HWY_ATTR {
            step(k + part());
            transpose_part<part()>(d, half, panel + (k + kSquare) * kPanel, b + k + kSquare, ld);
        };
        [&]<int... kPart>(std::integer_sequence<int, kPart...>) HWY_ATTR {
            (both(std::integral_constant<int, kPart>()), ...);
        }
        (std::make_integer_sequence<int, kSquare>());
    }
    for (; k < depth; ++k) step(k);
    store_block(sum, out);
}

// A panel's columns [col, col + kPanel) of C for steps [k, k + depth) of B (n, k) in place, all
// rows of A in place: the first register block makes the panel, the others read it. Meanwhile
// `next` is fetched; pieces beside the others alone.
HWY_INLINE void transposing_tile(const MatmulArgs<float>& args, int64_t col, const Strips<float>& a,
                                 float* panel, int64_t k, int64_t depth, Fetch& next) {
    using Rows = RowsInPlace<float>;
    const bool first = k == 0, last = k + depth == args.k;
    const int64_t height = args.m / ceil_div(args.m, Rows::kRows);
    const auto block = block_function<Rows::kRows>(
        height, false, [](auto rows, auto) { return &transposing_block<rows()>; });
    block_of_c(args, 0, col, height, kPanel, first, last, next, 0, [&](const auto& out) {
        block(depth, a.from(0), args.b + col * args.ldb + k, args.ldb, panel, out);
    });
    if (!next.in_pieces()) next.skip(depth);
    tile<Rows>(args, height, args.m - height, col, kPanel, {a.from(height).at, a.stride, a.step},
               {panel, 0, kPanel}, depth, first, last, nullptr, &next);
}
#endif

}  // namespace HWY_NAMESPACE
}  // namespace mc
HWY_AFTER_NAMESPACE();

#endif  // MC_KERNELS_CPU_GEMM_TRANSPOSE_INL_H_
