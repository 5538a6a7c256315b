// How the kernels cut their work. Chunk sizes depend on the problem alone, never on the number of
// threads, so results do not either. A problem below one chunk runs on the caller.
#pragma once

#include <algorithm>
#include <cstdint>

namespace mc {

constexpr int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

constexpr int64_t round_up(int64_t a, int64_t b) {
    return ceil_div(a, b) * b;
}

// Elements in a chunk: 64 KB of f32, some microseconds of work, well above what waking a thread
// costs.
inline constexpr int64_t kChunkElements = 16384;

// Rows in a chunk of a (rows, cols) problem.
inline int64_t rows_per_chunk(int64_t cols) {
    return std::max<int64_t>(1, kChunkElements / std::max<int64_t>(1, cols));
}

// No more than these, but in an even number of chunks, as long as one another: of two threads each
// has half the rows, as in a matrix product before and after.
inline int64_t even_rows_per_chunk(int64_t rows, int64_t cols) {
    const int64_t chunks = ceil_div(rows, rows_per_chunk(cols));
    return chunks > 1 ? ceil_div(rows, round_up(chunks, 2)) : rows;
}

}  // namespace mc
