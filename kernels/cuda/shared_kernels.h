// Kernels of one family that other families build on. T is float or double.
#pragma once

#include "kernels/cuda/device.h"

namespace mc::cuda {

// The shapes of a block's tile of C; `fitting` chooses by the problem, and leaves it to cuBLASLt
// where that is there.
enum class Tile : uint8_t { fitting, of_32, of_64, of_128 };

// kernels/matmul.h's product (matmul.cu).
template <class T>
void gemm(Context& context, const MatmulArgs<T>& args, Tile tile = Tile::fitting);

// kernels/reduce.h's sum (reduce.cu).
template <class T>
void sum(Context& context, T* dst, const T* src, T scale, int64_t outer, int64_t n, int64_t inner);

// Sorts the positions 0 .. n - 1 by key (n), which is in [0, keys): order (n) lists them, equal
// keys in increasing position; sorted (n) are the keys in that order. A negative key comes last, as
// `keys`. n < 2^31 (sort.cu).
void sort_positions(const char* op, Context& context, uint32_t* sorted, uint32_t* order,
                    const int64_t* key, int64_t n, int64_t keys);

}  // namespace mc::cuda
