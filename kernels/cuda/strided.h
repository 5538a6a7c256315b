// An n-d loop on the device: element i of the contiguous side to the offsets of the strided sides.
#pragma once

#include "kernels/cpu/strided.h"
#include "kernels/cuda/device.h"

namespace mc::cuda {

// The divisions are in 32 bits where the loop is small enough: a fifth of the cost.
template <class Index>
struct LoopIndex {
    int dims = 0;
    Index size[kMaxDims] = {};
    int64_t stride_a[kMaxDims] = {}, stride_b[kMaxDims] = {};

    explicit LoopIndex(const StridedLoop& loop) : dims(loop.dims) {
        for (int i = 0; i < dims; ++i) {
            size[i] = static_cast<Index>(loop.size[i]);
            stride_a[i] = loop.stride_a[i];
            stride_b[i] = loop.stride_b[i];
        }
    }
    __device__ void offsets(int64_t element, int64_t& a, int64_t& b) const {
        Index rest = static_cast<Index>(element);
        a = b = 0;
        for (int i = dims - 1; i > 0; --i) {
            const Index quotient = rest / size[i];
            const int64_t at = static_cast<int64_t>(rest - quotient * size[i]);
            a += at * stride_a[i];
            b += at * stride_b[i];
            rest = quotient;
        }
        a += static_cast<int64_t>(rest) * stride_a[0];
        b += static_cast<int64_t>(rest) * stride_b[0];
    }
};

// f(LoopIndex) with the index type that the loop needs.
template <class F>
void with_loop_index(const StridedLoop& loop, F&& f) {
    if (element_count(loop) < (int64_t{1} << 31))
        f(LoopIndex<uint32_t>(loop));
    else
        f(LoopIndex<uint64_t>(loop));
}

}  // namespace mc::cuda
