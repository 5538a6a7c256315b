// Rows of tables: embedding, its gradient, and the searches and sums of vector quantisation.
#pragma once

#include "kernels/kernel.h"

namespace mc {

template <class T>
struct EmbeddingKernels {
    // dst[r, :] = table[id[r], :]; a negative id gives zeros. Ids beyond the table are checked by
    // the caller.
    Kernel<T*, const T*, const int64_t*, int64_t, int64_t> gather_rows{
        "gather_rows"};  // (dst, table, id, rows, cols)
    // table[id[r], :] += src[r, :], in increasing r for each table row (deterministic); negative
    // ids skipped.
    Kernel<T*, const T*, const int64_t*, int64_t, int64_t, int64_t> scatter_add_rows{
        "scatter_add_rows"};  // (table, src, id, rows, cols, table rows)
    // id[r] = argmin_c |x[r] - code[c]|^2, first minimum, computed as |x|^2 - 2 x.c + |c|^2 in T;
    // distance (rows, codes) is filled too if not null.
    Kernel<int64_t*, T*, const T*, const T*, int64_t, int64_t, int64_t> nearest_code{
        "nearest_code"};  // (id, distance, x, code, rows, codes, cols)
};

}  // namespace mc
