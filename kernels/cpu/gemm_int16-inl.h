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

// The parts of making blocks of integers. 16 sums whatever the vector, so that every instruction
// set finds the same scale; 0 beyond `depth`.
using BlockTag = hn::CappedTag<float, 16>;
inline constexpr int64_t kBlockLanes = hn::MaxLanes(BlockTag()), kSums = 16 / kBlockLanes;

// f(sum, vector) on each vector of x (depth).
template <class F>
HWY_INLINE void for_vectors(const float* HWY_RESTRICT x, int64_t depth, const F& f) {
    const BlockTag d;
    int64_t k = 0;
    for (; k + 16 <= depth; k += 16)
#pragma GCC unroll 16
        for (int64_t s = 0; s < kSums; ++s) f(s, hn::LoadU(d, x + k + s * kBlockLanes));
    for (int64_t s = 0; k < depth; k += kBlockLanes, ++s)
        f(s, load_n(d, x + k, static_cast<size_t>(HWY_MIN(kBlockLanes, depth - k))));
}

// The largest magnitude of x. As integers, magnitudes are in the same order, infinity and NaN above
// all.
HWY_INLINE float largest_of(const float* HWY_RESTRICT x, int64_t depth) {
    const hn::RebindToSigned<BlockTag> d;
    hn::Vec<decltype(d)> most[kSums];
    for (auto& m : most) m = hn::Zero(d);
    const auto magnitude = hn::Set(d, 0x7fffffff);
    for_vectors(x, depth, [&](int64_t s, auto v) HWY_ATTR {
        most[s] = hn::Max(most[s], hn::And(hn::BitCast(d, v), magnitude));
    });
#pragma GCC unroll 16
    for (int64_t s = 1; s < kSums; ++s) most[0] = hn::Max(most[0], most[s]);
    return std::bit_cast<float>(hn::GetLane(hn::MaxOfLanes(d, most[0])));
}

// The sum of v's lanes by halves.
template <class D, class V = hn::Vec<D>>
HWY_INLINE float sum_by_halves(D, V v) {
#if HWY_TARGET != HWY_SCALAR
    if constexpr (hn::MaxLanes(D()) > 1) {
        const hn::Half<D> half;
        return sum_by_halves(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
    }
#endif
    return hn::GetLane(v);
}

// The sum of (x * over)^2.
HWY_INLINE float squares_of(const float* HWY_RESTRICT x, int64_t depth, float over) {
    const BlockTag d;
    hn::Vec<BlockTag> squares[kSums];
    for (auto& s : squares) s = hn::Zero(d);
    const auto factor = hn::Set(d, over);
    for_vectors(x, depth, [&](int64_t s, auto part) HWY_ATTR {
        const auto v = hn::Mul(part, factor);
        squares[s] = hn::Add(squares[s], hn::Mul(v, v));
    });
#pragma GCC unroll 4
    for (int64_t half = kSums / 2; half > 0; half /= 2)
        for (int64_t s = 0; s < half; ++s) squares[s] = hn::Add(squares[s], squares[s + half]);
    return sum_by_halves(BlockTag(), squares[0]);
}

// dst (depth / 2, and up to 15 more) = round(x * over * steps) as pairs of integers.
HWY_INLINE void integers_of(Pair* HWY_RESTRICT dst, const float* HWY_RESTRICT x, int64_t depth,
                            float over, float steps) {
    const BlockTag d;
    const hn::RebindToUnsigned<BlockTag> du;
    const auto factor = hn::Set(d, over), fine = hn::Set(d, steps);
    const auto store = [&](auto x0, auto x1, int64_t k) HWY_ATTR {
        const auto first = hn::BitCast(du, hn::NearestInt(hn::Mul(hn::Mul(x0, factor), fine)));
        const auto second = hn::BitCast(du, hn::NearestInt(hn::Mul(hn::Mul(x1, factor), fine)));
#if HWY_TARGET == HWY_SCALAR
        const auto even = first, odd = second;
#else
        const auto even = hn::ConcatEven(du, second, first), odd = hn::ConcatOdd(du, second, first);
#endif
        hn::StoreU(hn::Or(hn::And(even, hn::Set(du, 0xffffu)), hn::ShiftLeft<16>(odd)), du,
                   dst + k / 2);
    };
    int64_t k = 0;
    for (; k + 2 * kBlockLanes <= depth; k += 2 * kBlockLanes)
        store(hn::LoadU(d, x + k), hn::LoadU(d, x + k + kBlockLanes), k);
    if (k < depth) {
        const int64_t n = HWY_MIN(kBlockLanes, depth - k), rest = depth - k - n;
        store(load_n(d, x + k, static_cast<size_t>(n)),
              rest > 0 ? load_n(d, x + k + n, static_cast<size_t>(rest)) : hn::Zero(d), k);
    }
}

// pairs (kRows, kInt16Pairs) and scales (kRows): a block along k, `depth` numbers, of `count` rows
// x[r * ld]. What is done once a row is done for all rows together.
template <int kRows>
HWY_INLINE void int16_blocks_of(Pair* pairs, float* scales, const float* x, int64_t ld,
                                int64_t count, int64_t depth) {
    constexpr int64_t kRoom = (kRows + 15) / 16 * 16;
    const BlockTag d;
    HWY_ALIGN float largest[kRoom] = {}, over[kRoom], steps[kRoom] = {}, scale[kRoom];
    for (int64_t r = 0; r < count; ++r) largest[r] = largest_of(x + r * ld, depth);
    const auto for_rows = [&](auto f) HWY_ATTR {
        for (int64_t r = 0; r < kRoom; r += kBlockLanes) f(r);
    };
    for_rows([&](int64_t r) HWY_ATTR {
        hn::Store(hn::Div(hn::Set(d, 1.0f), hn::Load(d, largest + r)), d, over + r);
    });
    for (int64_t r = 0; r < count; ++r) steps[r] = squares_of(x + r * ld, depth, over[r]);
    for_rows([&](int64_t r) HWY_ATTR {
        const auto length = hn::Sqrt(hn::Load(d, steps + r));
        const auto s = hn::Min(hn::Set(d, 32767.0f), hn::Div(hn::Set(d, kInt16Length), length));
        hn::Store(s, d, steps + r);
        hn::Store(hn::Div(hn::Load(d, largest + r), s), d, scale + r);
    });
    for (int64_t r = 0; r < count; ++r) {
        const bool wild = !std::isfinite(largest[r]);
        if (wild || largest[r] < std::numeric_limits<float>::min()) {
            std::memset(pairs + r * kInt16Pairs, 0, kInt16Pairs * sizeof(Pair));
            scale[r] = wild ? std::numeric_limits<float>::quiet_NaN() : 0;
        } else {
            integers_of(pairs + r * kInt16Pairs, x + r * ld, depth, over[r], steps[r]);
        }
    }
    for (int64_t r = 0; r < kRows; ++r) scales[r] = r < count ? scale[r] : 0;
}

// pack_panels for int16: steps [step, step + steps), whole blocks, of an operand that has k
// entries. kEven: as many entries in each panel as in the others.
template <int kWidth, bool kEven>
HWY_NOINLINE void pack_int16(Pair* panels, int64_t panel_stride, const float* src, int64_t ld,
                             bool k_contiguous, int64_t first, int64_t count, int64_t step,
                             int64_t steps, int64_t k) {
    Pair pairs[kWidth * kInt16Pairs];
    float gathered[kWidth * kInt16Block];
    const RowBlocks<kWidth, kEven> blocks(count);
    for (int64_t panel = 0; panel < blocks.count; ++panel) {
        Pair* to = panels + panel * panel_stride;
        const int64_t i = blocks.begin(panel), rows = blocks.height(panel);
        for (int64_t from = step / (kInt16Pairs + 1) * kInt16Block, left = steps; left > 0;
             from += kInt16Block) {
            const int64_t depth = HWY_MIN(kInt16Block, k - from), used = (depth + 1) / 2;
            const float* x = src + (first + i) * ld + from;
            if (!k_contiguous) {
                for (int64_t p = 0; p < depth; ++p)
                    for (int64_t r = 0; r < rows; ++r)
                        gathered[r * kInt16Block + p] = src[(from + p) * ld + first + i + r];
                x = gathered;
            }
            int16_blocks_of<kWidth>(pairs, reinterpret_cast<float*>(to + used * kWidth), x,
                                    k_contiguous ? ld : kInt16Block, rows, depth);
            pack_rows_transposed<kWidth>(to, pairs, kInt16Pairs, rows, used);
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
            const float* plus = out.plus ? out.plus + i * out.plus_ld + j * kLanes : nullptr;
            store_n(plus ? hn::MulAdd(v, s, load_n(d, plus, n)) : hn::Mul(v, s), d, c, n);
        }
    }
}

template <int kRows, int kVecs>
void int16_block(int64_t depth, Strip<Pair> a, Strip<Pair> b, const BlockOutput<float>& out) {
    for_int16_blocks(depth, a, b, out, &add_int16_products<kRows, kVecs>);
}

struct Int16Operands {  // of the packed product; portable
    using Out = float;
    using A = Pair;
    using B = Pair;
    static constexpr int64_t kA = kBlockRows, kB = kBlockCols<float>;
    static constexpr int64_t kUnit = kInt16Pairs + 1;
    static int64_t steps(int64_t k) { return (k + 1) / 2 + ceil_div(k, kInt16Block); }
    static int64_t most_steps(int64_t) { return 3 * kUnit; }
    using Blocks = RowBlocks<kBlockRows, true>;
    static constexpr bool kInPlace = false;
    static constexpr bool kFetchOutput = true;
    static void pack_a(A* panels, int64_t panel_stride, const MatmulArgs<float>& args, int64_t row,
                       int64_t rows, int64_t step, int64_t steps) {
        pack_int16<kBlockRows, true>(panels, panel_stride, args.a, args.lda, !args.trans_a, row,
                                     rows, step, steps, args.k);
    }
    static void pack_b(B* panels, int64_t panel_stride, const MatmulArgs<float>& args, int64_t col,
                       int64_t cols, int64_t step, int64_t steps) {
        pack_int16<static_cast<int>(kB), false>(panels, panel_stride, args.b, args.ldb,
                                                args.trans_b, col, cols, step, steps, args.k);
    }
    static int64_t width(int64_t rows, int64_t left) {
        const bool several = HWY_TARGET == HWY_AVX3 && int16_by_instruction();
        return several ? few_rows_width<kB>(rows, left) : HWY_MIN(kB, left);
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
