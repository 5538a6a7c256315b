// The register blocks of NOTE [ Packed right operands ] on AVX512-BF16 and AVX512-VNNI. Built for
// every x86 processor; only the functions marked as targets use the instructions, and nothing calls
// them before cpuid was asked.
#include "kernels/cpu/gemm_block.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
#include <chrono>

#define MC_BF16 __attribute__((target("avx512f,avx512bf16"), noinline))
#define MC_BF16_INLINE __attribute__((target("avx512f,avx512bf16"), always_inline))
#define MC_INT16 __attribute__((target("avx512f,avx512vnni"), noinline))

namespace mc {

namespace {

constexpr int kRowsOfPanel = 12, kLanes = 16, kColsOfPanel = 2 * kLanes;

// 16 sums; as an array of __m512i they would not stay in registers (GCC 12).
using Sums = int __attribute__((vector_size(64)));
PairInstructions chosen = PairInstructions::where_faster;

// The columns of a block that its vector j covers.
__mmask16 columns_of(const BlockOutput<float>& out, int j) {
    const int64_t cols = std::clamp<int64_t>(out.cols - j * kLanes, 0, kLanes);
    return static_cast<__mmask16>((1u << cols) - 1);
}

// The numbers of B that are its vector j in a step: two to a panel.
const Pair* vector_of(const Strip<Pair>& b, int j, int64_t across) {
    return b.at + j / 2 * across + j % 2 * kLanes;
}

template <int kRows, int kVecs>
MC_BF16 void bf16_block(int64_t depth, Strip<Pair> a, Strip<Pair> b,
                        const BlockOutput<float>& out) {
    const int64_t across = out.across;
    __m512 sum[kRows][kVecs];
#pragma GCC unroll 12
    for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 8
        for (int j = 0; j < kVecs; ++j) sum[i][j] = _mm512_setzero_ps();
    FetchWalk ahead(out.ahead);
    for (int64_t k = 0; k < depth; ++k) {
        __m512bh bv[kVecs];
#pragma GCC unroll 8
        for (int j = 0; j < kVecs; ++j)
            bv[j] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(vector_of(b, j, across)));
        ahead.step();
#pragma GCC unroll 12
        for (int i = 0; i < kRows; ++i) {
            const auto av =
                reinterpret_cast<__m512bh>(_mm512_set1_epi32(static_cast<int>(a.at[i])));
#pragma GCC unroll 8
            for (int j = 0; j < kVecs; ++j) sum[i][j] = _mm512_dpbf16_ps(sum[i][j], av, bv[j]);
        }
        a.at += a.step;
        b.at += b.step;
    }
    const __m512 alpha = _mm512_set1_ps(out.alpha);
#pragma GCC unroll 8
    for (int j = 0; j < kVecs; ++j) {
        const __mmask16 mask = columns_of(out, j);
#pragma GCC unroll 12
        for (int i = 0; i < kRows; ++i) {
            const __m512 v =
                out.plus ? _mm512_fmadd_ps(
                               alpha, sum[i][j],
                               _mm512_maskz_loadu_ps(mask, out.plus + i * out.plus_ld + j * kLanes))
                         : _mm512_mul_ps(alpha, sum[i][j]);
            _mm512_mask_storeu_ps(out.c + i * out.ld + j * kLanes, mask, v);
        }
    }
}

// One block along k: the products of `pairs` steps, then the step of the scales.
template <int kRows, int kVecs>
MC_INT16 void add_int16_products(int64_t pairs, Strip<Pair> a, Strip<Pair> b,
                                 const BlockOutput<float>& out) {
    const int64_t across = out.across;
    Sums sum[kRows][kVecs];
#pragma GCC unroll 12
    for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 8
        for (int j = 0; j < kVecs; ++j) sum[i][j] = Sums{};
    FetchWalk ahead(out.ahead);
    for (int64_t k = 0; k < pairs; ++k) {
        __m512i bv[kVecs];
#pragma GCC unroll 8
        for (int j = 0; j < kVecs; ++j) bv[j] = _mm512_loadu_si512(vector_of(b, j, across));
        ahead.step();
#pragma GCC unroll 12
        for (int i = 0; i < kRows; ++i) {
            const __m512i av = _mm512_set1_epi32(static_cast<int>(a.at[i]));
#pragma GCC unroll 8
            for (int j = 0; j < kVecs; ++j)
                sum[i][j] = (Sums)_mm512_dpwssd_epi32((__m512i)sum[i][j], av, bv[j]);
        }
        a.at += a.step;
        b.at += b.step;
    }
    const auto* row_scales = reinterpret_cast<const float*>(a.at);
    const float* plus = out.plus;
    const int64_t plus_ld = out.plus_ld;
#pragma GCC unroll 8
    for (int j = 0; j < kVecs; ++j) {
        const __mmask16 mask = columns_of(out, j);
        float* c = out.c + j * kLanes;
        const int64_t ld = out.ld;
        const __m512 column_scales =
            _mm512_mul_ps(_mm512_set1_ps(out.alpha), _mm512_loadu_ps(vector_of(b, j, across)));
#pragma GCC unroll 12
        for (int i = 0; i < kRows; ++i, c += ld) {
            const __m512 v =
                _mm512_mul_ps(_mm512_maskz_cvtepi32_ps(mask, (__m512i)sum[i][j]), column_scales);
            const __m512 row_scale = _mm512_set1_ps(row_scales[i]);
            _mm512_mask_storeu_ps(
                c, mask,
                plus ? _mm512_fmadd_ps(v, row_scale,
                                       _mm512_maskz_loadu_ps(mask, plus + i * plus_ld + j * kLanes))
                     : _mm512_mul_ps(v, row_scale));
        }
    }
}

template <int kRows, int kVecs>
void int16_block(int64_t depth, Strip<Pair> a, Strip<Pair> b, const BlockOutput<float>& out) {
    for_int16_blocks(depth, a, b, out, &add_int16_products<kRows, kVecs>);
}

// `rounds` times 12 independent x = op(x) on registers; one number of the sum is kept.
template <class Op>
MC_BF16 void rounds_of(int64_t rounds, float* keep, Op op) {
    __m512 x[12];
    for (int i = 0; i < 12; ++i) x[i] = _mm512_set1_ps(static_cast<float>(i));
    for (int64_t r = 0; r < rounds; ++r)
#pragma GCC unroll 12
        for (int i = 0; i < 12; ++i) x[i] = op(x[i]);
    __m512 sum = x[0];
    for (int i = 1; i < 12; ++i) sum = _mm512_add_ps(sum, x[i]);
    _mm512_mask_storeu_ps(keep, 1, sum);
}

MC_BF16 void rounds_of_bf16(int64_t rounds, float* keep) {
    const auto a = reinterpret_cast<__m512bh>(_mm512_set1_epi32(0x3f003f00)),
               b = reinterpret_cast<__m512bh>(_mm512_set1_epi32(0x3c003c00));
    rounds_of(rounds, keep, [=](__m512 x) MC_BF16_INLINE { return _mm512_dpbf16_ps(x, a, b); });
}

MC_BF16 void rounds_of_f32(int64_t rounds, float* keep) {
    const __m512 a = _mm512_set1_ps(0.5f), b = _mm512_set1_ps(0.0078125f);
    rounds_of(rounds, keep, [=](__m512 x) MC_BF16_INLINE { return _mm512_fmadd_ps(a, b, x); });
}

// vdpbf16ps does the work of two f32 multiply-adds. AMD's cores run it at their rate; Intel's
// server cores, which have AMX for bf16, at a quarter of it, and are better off with those.
// Measured in about 20 us, as cpuid does not tell.
bool bf16_instruction_pays() {
    const auto time_of = [](void (*rounds)(int64_t, float*)) {
        float keep;
        const auto start = std::chrono::steady_clock::now();
        rounds(256, &keep);
        return std::chrono::steady_clock::now() - start;
    };
    auto pairs = time_of(rounds_of_bf16), singles = time_of(rounds_of_f32);
    for (int trial = 0; trial < 4; ++trial) {  // an interrupt lengthens one of them, not all
        pairs = std::min(pairs, time_of(rounds_of_bf16));
        singles = std::min(singles, time_of(rounds_of_f32));
    }
    return pairs < 2 * singles;
}

}  // namespace

bool bf16_by_instruction() {
    static const bool present = __builtin_cpu_supports("avx512bf16");
    if (!present || chosen == PairInstructions::never) return false;
    static const bool faster = bf16_instruction_pays();
    return faster || chosen == PairInstructions::where_present;
}

bool int16_by_instruction() {  // Intel's and AMD's run it at f32's rate
    static const bool present = __builtin_cpu_supports("avx512vnni");
    return present && chosen != PairInstructions::never;
}

void use_pair_instructions(PairInstructions where) {
    chosen = where;
}

namespace {

// choose(rows, vectors) for what few_rows_width gives.
template <class Choose>
PairBlock pair_block(int64_t rows, int64_t cols, const Choose& choose) {
    const auto wide = [&](auto most, auto vectors) {
        return block_function<most()>(rows, false,
                                      [&](auto height, auto) { return choose(height, vectors); });
    };
    if (cols > 2 * kColsOfPanel)
        return wide(std::integral_constant<int, 2>(), std::integral_constant<int, 8>());
    if (cols > kColsOfPanel)
        return wide(std::integral_constant<int, 4>(), std::integral_constant<int, 4>());
    return block_function<kRowsOfPanel>(rows, cols <= kLanes, choose);
}

}  // namespace

PairBlock gemm_bf16_12x32_avx512(int64_t rows, int64_t cols) {
    return pair_block(rows, cols, [](auto height, auto vectors) -> PairBlock {
        return &bf16_block<height(), vectors()>;
    });
}

PairBlock gemm_int16_12x32_avx512(int64_t rows, int64_t cols) {
    return pair_block(rows, cols, [](auto height, auto vectors) -> PairBlock {
        return &int16_block<height(), vectors()>;
    });
}

namespace {

MC_INT16 void rounds_of_int16(int64_t rounds, float* keep) {
    const __m512i a = _mm512_set1_epi32(0x00010003), b = _mm512_set1_epi32(0x00020001);
    __m512i x[12];
    for (int i = 0; i < 12; ++i) x[i] = _mm512_set1_epi32(i);
    for (int64_t r = 0; r < rounds; ++r)
#pragma GCC unroll 12
        for (int i = 0; i < 12; ++i) x[i] = _mm512_dpwssd_epi32(x[i], a, b);
    __m512i sum = x[0];
    for (int i = 1; i < 12; ++i) sum = _mm512_add_epi32(sum, x[i]);
    _mm512_mask_storeu_ps(keep, 1, _mm512_maskz_cvtepi32_ps(1, sum));
}

constexpr double flop_of(int64_t rounds) {
    return static_cast<double>(rounds) * 12 * 4 * kLanes;
}

}  // namespace

double bf16_rounds_avx512(int64_t rounds, float* keep) {
    if (!bf16_by_instruction()) return 0;
    rounds_of_bf16(rounds, keep);
    return flop_of(rounds);
}

double int16_rounds_avx512(int64_t rounds, float* keep) {
    if (!int16_by_instruction()) return 0;
    rounds_of_int16(rounds, keep);
    return flop_of(rounds);
}

}  // namespace mc

#else

namespace mc {

bool bf16_by_instruction() {
    return false;
}
bool int16_by_instruction() {
    return false;
}
void use_pair_instructions(PairInstructions) {}
PairBlock gemm_bf16_12x32_avx512(int64_t, int64_t) {
    return nullptr;
}
PairBlock gemm_int16_12x32_avx512(int64_t, int64_t) {
    return nullptr;
}
double bf16_rounds_avx512(int64_t, float*) {
    return 0;
}
double int16_rounds_avx512(int64_t, float*) {
    return 0;
}

}  // namespace mc

#endif
