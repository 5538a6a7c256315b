// The matrix product for use inside other kernels (convolution, attention): what the table's
// `matmul` runs. Called from inside a chunk of the pool it works on the calling thread alone; give
// it that thread's workspace then.
#pragma once

#include "kernels/matmul.h"

namespace mc {

void gemm(Context& context, const MatmulArgs<float>& args);
void gemm(Context& context, const MatmulArgs<double>& args);

// So many rows of C, with k along the rows of B, are dot products, whose sums are in another order
// than those of more rows. The latter are in one order, wherever a row is.
inline constexpr int64_t kMaxDotRows = 15;

// What the table's `pack_b_f32` runs.
void pack_b_f32(Context& context, void* dst, const float* b, int64_t ldb, bool trans_b, int64_t k,
                int64_t n);

}  // namespace mc
