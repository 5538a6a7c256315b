// What device_cuda.cpp and device_cuda_layers.cpp share, and tests of the device need.
#pragma once

#include <doctest/doctest.h>

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

// While it lives, that one convolves.
struct UseConvolver {
    explicit UseConvolver(Convolver who) { REQUIRE(set_cuda_convolver(who)); }
    ~UseConvolver() { set_cuda_convolver(Convolver::chosen); }
    UseConvolver(const UseConvolver&) = delete;
    UseConvolver& operator=(const UseConvolver&) = delete;
};

}  // namespace mc::testing
