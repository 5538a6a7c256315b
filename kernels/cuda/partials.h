// Sums over rows that are made in parts, a block a part, and put together in order: no atomics.
#pragma once

#include "kernels/cuda/device.h"

namespace mc::cuda {

inline constexpr int kColumnThreads = 8;  // of a block that share a column's rows

// How rows are cut: at least 64 a part, and at most 256 parts.
struct RowParts {
    explicit RowParts(int64_t rows)
        : rows(ceil_div(rows, 256) < 64 ? 64 : ceil_div(rows, 256)),
          count(ceil_div(rows, this->rows)) {}
    int64_t rows, count;
};

// first (cols) += the sums of the first `cols` columns of partial (parts, stride), in order;
// second, those of the next ones. Null: left out.
template <class T>
__global__ void add_partials_kernel(T* first, T* second, const T* partial, int64_t parts,
                                    int64_t stride, int64_t cols) {
    const int64_t col = global_thread();
    if (col >= cols) return;
    for (T* dst : {first, second}) {
        if (dst) {
            double sum = 0;
            for (int64_t part = 0; part < parts; ++part)
                sum += static_cast<double>(partial[part * stride + col]);
            dst[col] += static_cast<T>(sum);
        }
        partial += cols;
    }
}

template <class T>
void add_partials(const char* op, Context& context, T* first, T* second, const T* partial,
                  int64_t parts, int64_t stride, int64_t cols) {
    launch(op, context, {grid_size(op, ceil_div(cols, 128)), 128}, add_partials_kernel<T>, first,
           second, partial, parts, stride, cols);
}

}  // namespace mc::cuda
