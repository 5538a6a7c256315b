// Register blocks of the matrix product as all instruction sets see them, and those of AVX512-BF16,
// which Highway does not know.
#pragma once

#include <cstdint>

namespace mc {

// Where a register block goes.
template <class T>
struct BlockOutput {
    T* c;          // first element
    int64_t ld;    // row stride
    int64_t cols;  // <= the width of a panel of B
    T alpha;
    bool add;  // C += alpha A B, else C =
    // Fetched into the second-level cache meanwhile, a line every step along k: what the next
    // columns will read.
    const char* ahead;
    int64_t ahead_stride;  // bytes
};

// Fetches the block of C that will be written when the sums are ready.
template <int kRows, class T>
inline void fetch_output(const BlockOutput<T>& out) {
    for (int i = 0; i < kRows; ++i) {
        const T* row = out.c + i * out.ld;
        __builtin_prefetch(row, 1, 3);
        __builtin_prefetch(row + out.cols - 1, 1, 3);
    }
}

// What a register block reads of an operand: `step` elements from one step along k to the next.
template <class E>
struct Strip {
    const E* at;
    int64_t step;
};

// C = sum over `depth` steps along k of a strip of A times a strip of B.
template <class T, class A, class B>
using BlockFunction = void (*)(int64_t depth, Strip<A> a, Strip<B> b, const BlockOutput<T>& out);

// Two bf16 numbers, k in the low half and k + 1 in the high one.
using Bf16Pair = uint32_t;

// True if this processor has vdpbf16ps and `allow_bf16_instructions(false)` was not called (tests
// compare with the portable block).
bool has_bf16_instructions();
void allow_bf16_instructions(bool allowed);

// For `rows` rows (1..12) and `cols` columns (1..32) of panels that are 12 and 32 pairs wide: only
// where has_bf16_instructions().
BlockFunction<float, Bf16Pair, Bf16Pair> gemm_bf16_12x32_avx512(int64_t rows, int64_t cols);

// Independent vdpbf16ps on registers, `rounds` times 12; returns the flop done, 0 without the
// instruction. The sum is kept alive.
double bf16_rounds_avx512(int64_t rounds, float* keep);

}  // namespace mc
