// Register blocks of the matrix product as all instruction sets see them, and those of AVX512-BF16
// and AVX512-VNNI, which Highway does not know.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/matmul.h"

namespace mc {

// Memory that is fetched into the second-level cache, an address every step along k: pieces of
// `period` steps, `stride` bytes from one to the next, and then `jump` more to the next piece.
struct Fetch {
    const char* at;
    int64_t stride;
    int64_t period = INT64_MAX, jump = 0;
    int64_t left = INT64_MAX;  // steps in this piece

    // One piece without an end from `at` on.
    static Fetch line(const void* at, int64_t stride) {
        return {static_cast<const char*>(at), stride};
    }
    // `rows` of `bytes`, `row_stride` bytes apart, in no more than `steps` steps, one a row at
    // least.
    static Fetch rows(const void* at, int64_t rows, int64_t bytes, int64_t row_stride,
                      int64_t steps) {
        const int64_t period = steps / rows > 1 ? steps / rows : 1;
        const int64_t stride = (bytes + period - 1) / period;
        return {static_cast<const char*>(at), stride, period, row_stride - period * stride, period};
    }
    void skip(int64_t steps) {
        at += steps * stride;
        if (steps < left) {
            left -= steps;
            return;
        }
        at += (1 + (steps - left) / period) * jump;
        left = period - (steps - left) % period;
    }
};

// A walk through it. The pattern stays in memory: registers are short.
struct FetchWalk {
    explicit FetchWalk(const Fetch& fetch) : f(fetch), at(fetch.at), left(fetch.left) {}
    void step() {
        __builtin_prefetch(at, 0, 2);
        at += f.stride;
        if (--left == 0) [[unlikely]] {
            at += f.jump;
            left = f.period;
        }
    }
    const Fetch& f;
    const char* at;
    int64_t left;
};

// What a register block makes: c = alpha A B + plus, where that is not null.
template <class T>
struct BlockOutput {
    T* c;          // first element
    int64_t ld;    // row stride
    int64_t cols;  // the width of a panel of B or less, or that of several
    T alpha;
    const T* plus;  // may be c
    int64_t plus_ld;
    Fetch ahead;         // what the next columns will read, fetched meanwhile
    int64_t across = 0;  // from one panel of B to the next, where cols are those of several
};

// Fetches a block of `cols` columns, two lines of memory at most, that will be written. Always
// inline: GCC drops the calls of a function that does nothing else.
template <class T>
[[gnu::always_inline]] inline void fetch_to_write(const T* block, int64_t ld, int64_t rows,
                                                  int64_t cols) {
    for (int64_t i = 0; i < rows; ++i) {
        __builtin_prefetch(block + i * ld, 1, 3);
        __builtin_prefetch(block + i * ld + cols - 1, 1, 3);
    }
}

// What a register block reads of an operand: `step` elements from one step along k to the next. No
// third member: two are passed in registers, three through memory, which costs a product 5 %.
template <class E>
struct Strip {
    const E* at;
    int64_t step;
};

// C = sum over `depth` steps along k of a strip of A times a strip of B.
template <class T, class A, class B>
using BlockFunction = void (*)(int64_t depth, Strip<A> a, Strip<B> b, const BlockOutput<T>& out);

// choose(rows, vectors), both std::integral_constant, for `rows` rows (1..kRows) and one vector of
// columns or two.
template <int kRows, class Choose>
auto block_function(int64_t rows, bool narrow, const Choose& choose) {
    if constexpr (kRows > 1) {
        if (rows < kRows) return block_function<kRows - 1>(rows, narrow, choose);
    }
    using Rows = std::integral_constant<int, kRows>;
    return narrow ? choose(Rows(), std::integral_constant<int, 1>())
                  : choose(Rows(), std::integral_constant<int, 2>());
}

// `rows` (> 0) in blocks of at most `most`: of as many each, the first of one more where that does
// not divide; or, not kEven, of `most` each, the last of what is left.
template <int64_t kMost, bool kEven>
struct RowBlocks {
    explicit RowBlocks(int64_t rows, int64_t most = kMost)
        : rows(rows),
          most(most),
          count((rows + most - 1) / most),
          each(rows / count),
          longer(rows % count) {}
    int64_t begin(int64_t block) const {  // rows for block = count
        if (kEven) return block * each + (block < longer ? block : longer);
        return block < count ? block * most : rows;
    }
    int64_t height(int64_t block) const { return begin(block + 1) - begin(block); }
    int64_t rows, most, count, each, longer;
};

// Two 16-bit numbers, bf16 or integers: k in the low half and k + 1 in the high one.
using Pair = uint32_t;
using PairBlock = BlockFunction<float, Pair, Pair>;

// Panels of int16 hold their numbers in blocks along k: the pairs of kInt16Block numbers or what is
// left of them, then a step of their scales (f32). See NOTE [ Packed right operands ].
inline constexpr int64_t kInt16Pairs = kInt16Block / 2;

// A register block on such panels: products(pairs, a, b, out) for each block along k.
inline void for_int16_blocks(int64_t depth, Strip<Pair> a, Strip<Pair> b, BlockOutput<float> out,
                             PairBlock products) {
    for (int64_t left = depth; left > 0;) {
        const int64_t pairs = left > kInt16Pairs ? kInt16Pairs : left - 1, steps = pairs + 1;
        products(pairs, a, b, out);
        a.at += steps * a.step;
        b.at += steps * b.step;
        out.ahead.skip(pairs);
        out.plus = out.c;
        out.plus_ld = out.ld;
        left -= steps;
    }
}

// Columns that a block of `rows` rows takes of `left`, in panels of kPanel. Few rows take several
// panels: the sums of one would be too few to hide an instruction's latency.
template <int64_t kPanel>
int64_t few_rows_width(int64_t rows, int64_t left) {
    if (rows <= 2 && left >= 4 * kPanel) return 4 * kPanel;
    if (rows <= 4 && left >= 2 * kPanel) return 2 * kPanel;
    return left < kPanel ? left : kPanel;
}

// True if this processor has the instruction, vdpbf16ps or vpdpwssd, and is faster with it than
// with the portable blocks. Both make the same bits; tests compare them.
bool bf16_by_instruction();
bool int16_by_instruction();
enum class PairInstructions { where_faster, where_present, never };
void use_pair_instructions(PairInstructions where);

// For `rows` rows (1..12) and `cols` columns (few_rows_width) of panels that are 12 and 32 pairs
// wide: only where the processor has the instruction.
PairBlock gemm_bf16_12x32_avx512(int64_t rows, int64_t cols);
PairBlock gemm_int16_12x32_avx512(int64_t rows, int64_t cols);

// Independent instructions of the kind on registers, `rounds` times 12; returns the flop done, 0
// without the instruction. The sum is kept alive.
double bf16_rounds_avx512(int64_t rounds, float* keep);
double int16_rounds_avx512(int64_t rounds, float* keep);

}  // namespace mc
