// The matrix product's operands rounded to bf16: packing, and the portable register block. See NOTE
// [ Packed right operands ].

#if defined(MC_KERNELS_CPU_GEMM_BF16_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MC_KERNELS_CPU_GEMM_BF16_INL_H_
#undef MC_KERNELS_CPU_GEMM_BF16_INL_H_
#else
#define MC_KERNELS_CPU_GEMM_BF16_INL_H_
#endif

#include <hwy/highway.h>

#include <bit>
#include <cstring>

#include "kernels/cpu/gemm_block.h"
#include "kernels/cpu/gemm_pack-inl.h"
#include "kernels/cpu/gemm_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mc {
namespace HWY_NAMESPACE {

// x rounded to bf16 (nearest even; NaN stays NaN), in the upper half of the bits; the lower half is
// anything.
HWY_INLINE uint32_t rounded_bf16(float x) {
    const uint32_t bits = std::bit_cast<uint32_t>(x);
    return x == x ? bits + 0x7fff + ((bits >> 16) & 1) : bits | 0x400000;
}
template <class D, class V>
HWY_INLINE auto rounded_bf16(D d, V x) {
    const hn::RebindToUnsigned<D> du;
    const auto bits = hn::BitCast(du, x);
    const auto even = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1u));
    const auto rounded = hn::Add(bits, hn::Add(even, hn::Set(du, 0x7fffu)));
    const auto quiet = hn::Or(bits, hn::Set(du, 0x400000u));
    return hn::IfThenElse(hn::MaskFromVec(hn::BitCast(du, hn::VecFromMask(d, hn::IsNaN(x)))), quiet,
                          rounded);
}

HWY_INLINE Pair pair_of(float low, float high) {
    return (rounded_bf16(low) >> 16) | (rounded_bf16(high) & 0xffff0000u);
}

// dst (ceil(depth / 2)) = pairs of a row that is contiguous along k.
HWY_INLINE void pairs_of_row(Pair* HWY_RESTRICT dst, const float* HWY_RESTRICT src, int64_t depth) {
    int64_t k = 0;
#if HWY_TARGET != HWY_SCALAR
    const hn::ScalableTag<float> d;
    const hn::ScalableTag<uint32_t> du;
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
    for (; k + 2 * lanes <= depth; k += 2 * lanes) {
        const auto first = rounded_bf16(d, hn::LoadU(d, src + k));
        const auto second = rounded_bf16(d, hn::LoadU(d, src + k + lanes));
        const auto low = hn::ShiftRight<16>(hn::ConcatEven(du, second, first));
        const auto high = hn::And(hn::ConcatOdd(du, second, first), hn::Set(du, 0xffff0000u));
        hn::StoreU(hn::Or(low, high), du, dst + k / 2);
    }
#endif
    for (; k + 2 <= depth; k += 2) dst[k / 2] = pair_of(src[k], src[k + 1]);
    if (k < depth) dst[k / 2] = pair_of(src[k], 0);
}

// pack_panels for pairs: steps [step, step + steps) of an operand that has k entries. kEven: as
// many entries in each panel as in the others.
template <int kWidth, bool kEven>
HWY_NOINLINE void pack_pairs(Pair* panels, int64_t panel_stride, const float* src, int64_t ld,
                             bool k_contiguous, int64_t first, int64_t count, int64_t step,
                             int64_t steps, int64_t k) {
    constexpr int64_t kStrip = 128;
    const RowBlocks<kWidth, kEven> blocks(count);
    if (k_contiguous) {
        Pair strip[kWidth * kStrip];
        for (int64_t panel = 0; panel < blocks.count; ++panel)
            for (int64_t s = 0; s < steps; s += kStrip) {
                const int64_t i = blocks.begin(panel), rows = blocks.height(panel);
                const int64_t from = 2 * (step + s), depth = HWY_MIN(kStrip, steps - s);
                for (int64_t r = 0; r < rows; ++r)
                    pairs_of_row(strip + r * kStrip, src + (first + i + r) * ld + from,
                                 HWY_MIN(2 * depth, k - from));
                pack_rows_transposed<kWidth>(panels + panel * panel_stride + s * kWidth, strip,
                                             kStrip, rows, depth);
            }
        return;
    }
    for (int64_t s = 0; s < steps; ++s) {
        const int64_t at = 2 * (step + s);
        const float* low = src + at * ld + first;
        for (int64_t panel = 0; panel < blocks.count; ++panel) {
            Pair* to = panels + panel * panel_stride + s * kWidth;
            const int64_t i = blocks.begin(panel), width = blocks.height(panel);
            for (int64_t j = 0; j < width; ++j)
                to[j] = pair_of(low[i + j], at + 1 < k ? low[ld + i + j] : 0);
            for (int64_t j = width; j < kWidth; ++j) to[j] = 0;
        }
    }
}

// x (n) rounded to bf16, as f32.
HWY_INLINE void round_to_bf16(float* x, int64_t n) {
    const hn::ScalableTag<float> d;
    const hn::ScalableTag<uint32_t> du;
    const auto upper = hn::Set(du, 0xffff0000u);
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
    for (int64_t i = 0; i < n; i += lanes) {
        const size_t count = static_cast<size_t>(HWY_MIN(lanes, n - i));
        const auto bits = rounded_bf16(d, load_n(d, x + i, count));
        store_n(hn::BitCast(d, hn::And(bits, upper)), d, x + i, count);
    }
}

// A as f32 values of bf16, two k a step; B in pairs.
template <int kRows, int kVecs>
HWY_NOINLINE void bf16_block(int64_t depth, Strip<float> a, Strip<Pair> b,
                             const BlockOutput<float>& out) {
    const hn::ScalableTag<float> d;
    const hn::ScalableTag<uint32_t> du;
    using V = hn::Vec<decltype(d)>;
    constexpr int64_t kLanes = hn::MaxLanes(hn::ScalableTag<float>());
    const auto upper = hn::Set(du, 0xffff0000u);
    V sum[kRows][kVecs];
    clear(sum);
    FetchWalk ahead(out.ahead);
    for (int64_t k = 0; k < depth; ++k) {
        V bv[kVecs];
#pragma GCC unroll 2
        for (int j = 0; j < kVecs; ++j)
            bv[j] = hn::BitCast(d, hn::And(hn::LoadU(du, b.at + j * kLanes), upper));
        ahead.step();
        multiply_add(sum, a.at + kBlockRows, bv);
#pragma GCC unroll 2
        for (int j = 0; j < kVecs; ++j)
            bv[j] = hn::BitCast(d, hn::ShiftLeft<16>(hn::LoadU(du, b.at + j * kLanes)));
        multiply_add(sum, a.at, bv);
        a.at += a.step;
        b.at += b.step;
    }
    store_block(sum, out);
}

// ---- As operands of the packed product ----------------------------------------------------------

struct Bf16Operands {  // portable
    using Out = float;
    using A = float;
    using B = Pair;
    static constexpr int64_t kA = 2 * kBlockRows, kB = kBlockCols<float>;
    static constexpr int64_t kUnit = 1;
    static int64_t steps(int64_t k) { return (k + 1) / 2; }
    static int64_t most_steps(int64_t) { return 384; }
    using Blocks = RowBlocks<kBlockRows, false>;
    static constexpr bool kInPlace = false;
    static constexpr bool kFetchOutput = true;
    static void pack_a(A* panels, int64_t panel_stride, const MatmulArgs<float>& args, int64_t row,
                       int64_t rows, int64_t step, int64_t steps) {
        const int64_t k = 2 * step, depth = HWY_MIN(2 * steps, args.k - k);
        pack_panels<kBlockRows>(panels, panel_stride, args.a, args.lda, !args.trans_a, row, rows, k,
                                depth);
        for (int64_t i = 0; i < rows; i += kBlockRows) {
            A* panel = panels + i / kBlockRows * panel_stride;
            round_to_bf16(panel, depth * kBlockRows);
            if (depth % 2) std::memset(panel + depth * kBlockRows, 0, kBlockRows * sizeof(A));
        }
    }
    static void pack_b(B* panels, int64_t panel_stride, const MatmulArgs<float>& args, int64_t col,
                       int64_t cols, int64_t step, int64_t steps) {
        pack_pairs<static_cast<int>(kB), false>(panels, panel_stride, args.b, args.ldb,
                                                args.trans_b, col, cols, step, steps, args.k);
    }
    static int64_t width(int64_t, int64_t left) { return HWY_MIN(kB, left); }
    static BlockFunction<float, A, B> block_for(int64_t rows, int64_t cols) {
        return block_function<kBlockRows>(rows, cols * 2 <= kB, [](auto height, auto width) {
            return &bf16_block<height(), width()>;
        });
    }
};

#if HWY_TARGET == HWY_AVX3
struct Bf16InstructionOperands : Bf16Operands {
    using A = Pair;
    static constexpr int64_t kA = kBlockRows;
    using Blocks = RowBlocks<kBlockRows, true>;
    static_assert(kA == 12 && kB == 32);  // the instruction's block is built for these panels
    static void pack_a(A* panels, int64_t panel_stride, const MatmulArgs<float>& args, int64_t row,
                       int64_t rows, int64_t step, int64_t steps) {
        pack_pairs<kBlockRows, true>(panels, panel_stride, args.a, args.lda, !args.trans_a, row,
                                     rows, step, steps, args.k);
    }
    static int64_t width(int64_t rows, int64_t left) { return few_rows_width<kB>(rows, left); }
    static PairBlock block_for(int64_t rows, int64_t cols) {
        return gemm_bf16_12x32_avx512(rows, cols);
    }
};
#endif

}  // namespace HWY_NAMESPACE
}  // namespace mc
HWY_AFTER_NAMESPACE();

#endif  // MC_KERNELS_CPU_GEMM_BF16_INL_H_
