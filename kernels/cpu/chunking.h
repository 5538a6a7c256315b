// How the kernels cut their work. Chunk sizes depend on the problem alone, never on the number of
// threads, so results do not either. A problem below one chunk runs on the caller.
#pragma once

#include <algorithm>
#include <cstdint>

namespace mc {

// Elements in a chunk: 64 KB of f32, some microseconds of work, well above what waking a thread
// costs.
inline constexpr int64_t kChunkElements = 16384;

// Rows in a chunk of a (rows, cols) problem.
inline int64_t rows_per_chunk(int64_t cols) {
    return std::max<int64_t>(1, kChunkElements / std::max<int64_t>(1, cols));
}

inline int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

inline int64_t round_up(int64_t a, int64_t b) {
    return ceil_div(a, b) * b;
}

}  // namespace mc
