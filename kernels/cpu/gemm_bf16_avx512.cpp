// The register block of NOTE [ Packed right operands ] on AVX512-BF16. Built for every x86
// processor; only the functions marked kTarget use the instructions, and nothing calls them before
// cpuid was asked.
#include "kernels/cpu/gemm_block.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
#include <utility>

#define MC_TARGET __attribute__((target("avx512f,avx512bf16"), noinline))

namespace mc {

namespace {

constexpr int kRowsOfPanel = 12, kLanes = 16;

template <int kRows, int kVecs>
MC_TARGET void block(int64_t depth, Strip<Bf16Pair> a, Strip<Bf16Pair> b,
                     const BlockOutput<float>& out) {
    __m512 sum[kRows][kVecs];
#pragma GCC unroll 12
    for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 2
        for (int j = 0; j < kVecs; ++j) sum[i][j] = _mm512_setzero_ps();
    fetch_output<kRows>(out);
    const char* ahead = out.ahead;
    for (int64_t k = 0; k < depth; ++k) {
        __m512bh bv[kVecs];
#pragma GCC unroll 2
        for (int j = 0; j < kVecs; ++j)
            bv[j] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(b.at + j * kLanes));
        _mm_prefetch(ahead, _MM_HINT_T1);
        ahead += out.ahead_stride;
#pragma GCC unroll 12
        for (int i = 0; i < kRows; ++i) {
            const auto av =
                reinterpret_cast<__m512bh>(_mm512_set1_epi32(static_cast<int>(a.at[i])));
#pragma GCC unroll 2
            for (int j = 0; j < kVecs; ++j) sum[i][j] = _mm512_dpbf16_ps(sum[i][j], av, bv[j]);
        }
        a.at += a.step;
        b.at += b.step;
    }
    const __m512 alpha = _mm512_set1_ps(out.alpha);
#pragma GCC unroll 2
    for (int j = 0; j < kVecs; ++j) {
        const int64_t cols = std::clamp<int64_t>(out.cols - j * kLanes, 0, kLanes);
        const auto mask = static_cast<__mmask16>((1u << cols) - 1);
#pragma GCC unroll 12
        for (int i = 0; i < kRows; ++i) {
            float* c = out.c + i * out.ld + j * kLanes;
            const __m512 v = out.add
                                 ? _mm512_fmadd_ps(alpha, sum[i][j], _mm512_maskz_loadu_ps(mask, c))
                                 : _mm512_mul_ps(alpha, sum[i][j]);
            _mm512_mask_storeu_ps(c, mask, v);
        }
    }
}

using Block = BlockFunction<float, Bf16Pair, Bf16Pair>;

template <int... kIndex>
Block choose(int64_t rows, bool narrow, std::integer_sequence<int, kIndex...>) {
    static constexpr Block one[] = {&block<kIndex + 1, 1>...}, two[] = {&block<kIndex + 1, 2>...};
    return narrow ? one[rows - 1] : two[rows - 1];
}

bool allowed = true;

}  // namespace

bool has_bf16_instructions() {
    static const bool present = __builtin_cpu_supports("avx512bf16");
    return present && allowed;
}

void allow_bf16_instructions(bool allow) {
    allowed = allow;
}

BlockFunction<float, Bf16Pair, Bf16Pair> gemm_bf16_12x32_avx512(int64_t rows, int64_t cols) {
    return choose(rows, cols <= kLanes, std::make_integer_sequence<int, kRowsOfPanel>());
}

namespace {

MC_TARGET void rounds_of_bf16(int64_t rounds, float* keep) {
    const auto a = reinterpret_cast<__m512bh>(_mm512_set1_epi32(0x3f003f00)),
               b = reinterpret_cast<__m512bh>(_mm512_set1_epi32(0x3c003c00));
    __m512 x[12];
    for (int i = 0; i < 12; ++i) x[i] = _mm512_set1_ps(static_cast<float>(i));
    for (int64_t r = 0; r < rounds; ++r)
#pragma GCC unroll 12
        for (int i = 0; i < 12; ++i) x[i] = _mm512_dpbf16_ps(x[i], a, b);
    __m512 sum = x[0];
    for (int i = 1; i < 12; ++i) sum = _mm512_add_ps(sum, x[i]);
    _mm512_mask_storeu_ps(keep, 1, sum);
}

}  // namespace

double bf16_rounds_avx512(int64_t rounds, float* keep) {
    if (!has_bf16_instructions()) return 0;
    rounds_of_bf16(rounds, keep);
    return static_cast<double>(rounds) * 12 * 4 * kLanes;
}

}  // namespace mc

#else

namespace mc {

bool has_bf16_instructions() {
    return false;
}
void allow_bf16_instructions(bool) {}
BlockFunction<float, Bf16Pair, Bf16Pair> gemm_bf16_12x32_avx512(int64_t, int64_t) {
    return nullptr;
}
double bf16_rounds_avx512(int64_t, float*) {
    return 0;
}

}  // namespace mc

#endif
