// The matrix product's operands as 16-bit integers with a scale a block: packing, and the portable
// register block. See NOTE [ Packed right operands ].

#if defined(MC_KERNELS_CPU_GEMM_INT16_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MC_KERNELS_CPU_GEMM_INT16_INL_H_
#undef MC_KERNELS_CPU_GEMM_INT16_INL_H_
#else
#define MC_KERNELS_CPU_GEMM_INT16_INL_H_
#endif

#include <hwy/highway.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cpu/gemm_block.h"
#include "kernels/cpu/gemm_pack-inl.h"
#include "kernels/cpu/gemm_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mc {
namespace HWY_NAMESPACE {

// The length that a block of integers may have: two such blocks have a product of at most 2^31 - 1
// (46340^2), however the rounding lengthens them, by sqrt(256) / 2 at most.
inline constexpr float kInt16Length = 46332;

// dst (128) = the block x (256) as pairs of integers; returns their scale. 16 sums whatever the
// vector, so that every instruction set finds the same scale.
HWY_INLINE float int16_block_of(Pair* HWY_RESTRICT dst, const float* HWY_RESTRICT x) {
    const hn::CappedTag<float, 16> d;
    const hn::RebindToSigned<decltype(d)> di;
    constexpr int64_t kLanes = hn::MaxLanes(hn::CappedTag<float, 16>()), kSums = 16 / kLanes;
    // As integers, magnitudes are in the same order, infinity and NaN above all.
    hn::Vec<decltype(di)> most[kSums];
    for (auto& m : most) m = hn::Zero(di);
    const auto magnitude = hn::Set(di, 0x7fffffff);
    for (int64_t k = 0; k < kInt16Block; k += 16)
#pragma GCC unroll 16
        for (int64_t s = 0; s < kSums; ++s)
            most[s] = hn::Max(
                most[s], hn::And(hn::BitCast(di, hn::LoadU(d, x + k + s * kLanes)), magnitude));
#pragma GCC unroll 16
    for (int64_t s = 1; s < kSums; ++s) most[0] = hn::Max(most[0], most[s]);
    const float largest = std::bit_cast<float>(hn::GetLane(hn::MaxOfLanes(di, most[0])));
    if (!(largest >= std::numeric_limits<float>::min()) || std::isinf(largest)) {
        std::memset(dst, 0, kInt16Pairs * sizeof(Pair));
        return std::isfinite(largest) ? 0 : std::numeric_limits<float>::quiet_NaN();
    }
    const auto over = hn::Set(d, 1 / largest);
    hn::Vec<decltype(d)> squares[kSums];
    for (auto& s : squares) s = hn::Zero(d);
    for (int64_t k = 0; k < kInt16Block; k += 16)
#pragma GCC unroll 16
        for (int64_t s = 0; s < kSums; ++s) {
            const auto v = hn::Mul(hn::LoadU(d, x + k + s * kLanes), over);
            squares[s] = hn::Add(squares[s], hn::Mul(v, v));
        }
    HWY_ALIGN float sums[16];
    for (int64_t s = 0; s < kSums; ++s) hn::Store(squares[s], d, sums + s * kLanes);
    for (int64_t half = 8; half > 0; half /= 2)
        for (int64_t s = 0; s < half; ++s) sums[s] += sums[s + half];
    const float steps = std::fmin(32767.0f, kInt16Length / std::sqrt(sums[0]));
    const auto fine = hn::Set(d, steps);
    const hn::RebindToUnsigned<decltype(d)> du;
    const auto integers = [&](int64_t k) {
        return hn::BitCast(du, hn::NearestInt(hn::Mul(hn::Mul(hn::LoadU(d, x + k), over), fine)));
    };
    for (int64_t k = 0; k < kInt16Block; k += 2 * kLanes) {
        const auto first = integers(k), second = integers(k + kLanes);
#if HWY_TARGET == HWY_SCALAR
        const auto even = first, odd = second;
#else
        const auto even = hn::ConcatEven(du, second, first), odd = hn::ConcatOdd(du, second, first);
#endif
        hn::StoreU(hn::Or(hn::And(even, hn::Set(du, 0xffffu)), hn::ShiftLeft<16>(odd)), du,
                   dst + k / 2);
    }
    return largest / steps;
}

// pack_panels for int16: steps [step, step + steps), whole blocks, of an operand that has k
// entries.
template <int kWidth>
HWY_NOINLINE void pack_int16(Pair* panels, int64_t panel_stride, const float* src, int64_t ld,
                             bool k_contiguous, int64_t first, int64_t count, int64_t step,
                             int64_t steps, int64_t k) {
    Pair pairs[kWidth * kInt16Pairs];
    float scales[kWidth], padded[kInt16Block];
    for (int64_t i = 0; i < count; i += kWidth) {
        Pair* to = panels + i / kWidth * panel_stride;
        const int64_t rows = HWY_MIN(int64_t{kWidth}, count - i);
        for (int64_t from = step / (kInt16Pairs + 1) * kInt16Block, left = steps; left > 0;
             from += kInt16Block) {
            const int64_t depth = HWY_MIN(kInt16Block, k - from), used = (depth + 1) / 2;
            for (int64_t r = 0; r < kWidth; ++r) {
                scales[r] = 0;
                if (r >= rows) continue;
                const float* row = src + (first + i + r) * (k_contiguous ? ld : 1) +
                                   from * (k_contiguous ? 1 : ld);
                if (!k_contiguous || depth < kInt16Block) {
                    for (int64_t p = 0; p < depth; ++p)
                        padded[p] = row[p * (k_contiguous ? 1 : ld)];
                    for (int64_t p = depth; p < kInt16Block; ++p) padded[p] = 0;
                    row = padded;
                }
                scales[r] = int16_block_of(pairs + r * kInt16Pairs, row);
            }
            pack_rows_transposed<kWidth>(to, pairs, kInt16Pairs, rows, used);
            std::memcpy(to + used * kWidth, scales, sizeof(scales));
            to += (used + 1) * kWidth;
            left -= used + 1;
        }
    }
}

// sum + a[2k] b[2k] + a[2k + 1] b[2k + 1], for pairs of integers.
template <class DI, class V>
HWY_INLINE V add_products([[maybe_unused]] DI di, V a, V b, V sum) {
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
    const hn::Repartition<int16_t, DI> d16;
    auto none = hn::Zero(di);
    return hn::ReorderWidenMulAccumulate(di, hn::BitCast(d16, a), hn::BitCast(d16, b), sum, none);
#else
    const auto low = [](V v) { return hn::ShiftRight<16>(hn::ShiftLeft<16>(v)); };
    const auto high = [](V v) { return hn::ShiftRight<16>(v); };
    return hn::Add(sum, hn::Add(hn::Mul(low(a), low(b)), hn::Mul(high(a), high(b))));
#endif
}

// One block along k: the products of `pairs` steps, then the step of the scales.
template <int kRows, int kVecs>
HWY_NOINLINE void add_int16_products(int64_t pairs, Strip<Pair> a, Strip<Pair> b,
                                     const BlockOutput<float>& out) {
    const hn::ScalableTag<float> d;
    const hn::RebindToSigned<decltype(d)> di;
    using V = hn::Vec<decltype(di)>;
    constexpr int64_t kLanes = hn::MaxLanes(hn::ScalableTag<float>());
    V sum[kRows][kVecs];
    clear(sum);
    FetchWalk ahead(out.ahead);
    for (int64_t k = 0; k < pairs; ++k) {
        V bv[kVecs];
#pragma GCC unroll 2
        for (int j = 0; j < kVecs; ++j)
            bv[j] = hn::LoadU(di, reinterpret_cast<const int32_t*>(b.at) + j * kLanes);
        ahead.step();
#pragma GCC unroll 16
        for (int i = 0; i < kRows; ++i) {
            const V av = hn::Set(di, static_cast<int32_t>(a.at[i]));
#pragma GCC unroll 2
            for (int j = 0; j < kVecs; ++j) sum[i][j] = add_products(di, av, bv[j], sum[i][j]);
        }
        a.at += a.step;
        b.at += b.step;
    }
    const auto* row_scales = reinterpret_cast<const float*>(a.at);
    const auto* column_scales = reinterpret_cast<const float*>(b.at);
#pragma GCC unroll 2
    for (int j = 0; j < kVecs; ++j) {
        const int64_t cols = HWY_MIN(kLanes, out.cols - j * kLanes);
        if (cols <= 0) break;
        const auto n = static_cast<size_t>(cols);
        const auto scales =
            hn::Mul(hn::Set(d, out.alpha), hn::LoadU(d, column_scales + j * kLanes));
#pragma GCC unroll 16
        for (int i = 0; i < kRows; ++i) {
            float* c = out.c + i * out.ld + j * kLanes;
            const auto v = hn::Mul(hn::ConvertTo(d, sum[i][j]), scales);
            const auto s = hn::Set(d, row_scales[i]);
            store_n(out.add ? hn::MulAdd(v, s, load_n(d, c, n)) : hn::Mul(v, s), d, c, n);
        }
    }
}

template <int kRows, int kVecs>
void int16_block(int64_t depth, Strip<Pair> a, Strip<Pair> b, const BlockOutput<float>& out) {
    for_int16_blocks<kRows>(depth, a, b, out, &add_int16_products<kRows, kVecs>);
}

struct Int16Operands {  // of the packed product; portable
    using Out = float;
    using A = Pair;
    using B = Pair;
    static constexpr int64_t kA = kBlockRows, kB = kBlockCols<float>;
    static constexpr int64_t kUnit = kInt16Pairs + 1, kMostSteps = kDepth / kUnit * kUnit + kUnit;
    static int64_t steps(int64_t k) { return (k + 1) / 2 + ceil_div(k, kInt16Block); }
    static constexpr int64_t kRows = kBlockRows;
    static constexpr bool kEven = false;
    static void pack_a(A* panels, int64_t panel_stride, const MatmulArgs<float>& args, int64_t row,
                       int64_t rows, int64_t step, int64_t steps) {
        pack_int16<kBlockRows>(panels, panel_stride, args.a, args.lda, !args.trans_a, row, rows,
                               step, steps, args.k);
    }
    static void pack_b(B* panels, int64_t panel_stride, const MatmulArgs<float>& args, int64_t col,
                       int64_t cols, int64_t step, int64_t steps) {
        pack_int16<static_cast<int>(kB)>(panels, panel_stride, args.b, args.ldb, args.trans_b, col,
                                         cols, step, steps, args.k);
    }
    static PairBlock block_for(int64_t rows, int64_t cols) {
#if HWY_TARGET == HWY_AVX3
        static_assert(kA == 12 && kB == 32);  // the instruction's block is built for these panels
        if (int16_by_instruction()) return gemm_int16_12x32_avx512(rows, cols);
#endif
        return block_function<kBlockRows>(rows, cols * 2 <= kB, [](auto height, auto width) {
            return &int16_block<height(), width()>;
        });
    }
};

}  // namespace HWY_NAMESPACE
}  // namespace mc
HWY_AFTER_NAMESPACE();

#endif  // MC_KERNELS_CPU_GEMM_INT16_INL_H_
