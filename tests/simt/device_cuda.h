// What device_cuda.cpp and device_cuda_layers.cpp share.
#pragma once

#include "kernels/cuda.h"
#include "tests/simt/staging.h"

namespace mc::testing {

template <class T>
const KernelTable<T>& cuda_table() {
    return cuda_backend().table<T>();
}
inline Context& context() {
    return cuda_default_context();
}

// Elements from the first to behind the last of a matrix (rows, cols) at row stride ld.
inline int64_t extent(int64_t rows, int64_t cols, int64_t ld) {
    return rows > 0 && cols > 0 ? (rows - 1) * ld + cols : 0;
}

}  // namespace mc::testing
