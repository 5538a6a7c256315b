// The threads that share a row, and what they add up together.
//
// Reductions are fixed trees (butterflies of shuffles, then the warps' parts in order): the same
// bits whatever the schedule, and every thread of the team gets them.
#pragma once

#include "kernels/cuda/device.h"

namespace mc::cuda {

inline constexpr unsigned kAllLanes = 0xffffffffu;

struct Add {
    template <class T>
    __device__ T operator()(T a, T b) const {
        return a + b;
    }
};

// NaN is passed over.
struct Greater {
    template <class T>
    __device__ T operator()(T a, T b) const {
        return b > a || a != a ? b : a;
    }
};

template <class T, class F>
__device__ inline T warp_reduce(T value, F f) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2)
        value = f(value, __shfl_xor_sync(kAllLanes, value, distance));
    return value;
}

// A warp (kWarps = 1; a block holds blockDim.y teams) or a block of kWarps warps.
template <int kWarps>
struct Team {
    static constexpr int kSize = 32 * kWarps;
    static constexpr int kTeams = kWarps == 1 ? 4 : 1;  // in a block

    static Launch shape(const char* op, int64_t rows) {
        return {grid_size(op, ceil_div(rows, kTeams)), dim3(kSize, kTeams)};
    }
    // Teams beyond the last row may leave: a warp alone, or the whole block.
    __device__ static int64_t row() {
        return static_cast<int64_t>(blockIdx.x) * kTeams + threadIdx.y;
    }
    __device__ static int64_t rank() { return threadIdx.x; }

    template <class T, class F>
    __device__ static T reduce(T value, F f) {
        value = warp_reduce(value, f);
        if constexpr (kWarps > 1) {
            __shared__ T part[kWarps];
            __syncthreads();  // what an earlier call left has been read
            if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = value;
            __syncthreads();
            value = part[0];
#pragma unroll
            for (int w = 1; w < kWarps; ++w) value = f(value, part[w]);
        }
        return value;
    }
    template <class T>
    __device__ static T sum(T value) {
        return reduce(value, Add());
    }
    template <class T>
    __device__ static T max(T value) {
        return reduce(value, Greater());
    }
    // The sum of what the threads before this one have.
    template <class T>
    __device__ static T sum_before(T value) {
        const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
        for (unsigned distance = 1; distance < 32; distance *= 2) {
            const T other = __shfl_up_sync(kAllLanes, value, distance);
            if (lane >= distance) value += other;
        }
        T before = __shfl_up_sync(kAllLanes, value, 1);
        if (lane == 0) before = 0;
        if constexpr (kWarps > 1) {
            __shared__ T part[kWarps];
            __syncthreads();  // what an earlier call left has been read
            if (lane == 31) part[warp] = value;
            __syncthreads();
            T warps = 0;
            for (unsigned w = 0; w < warp; ++w) warps += part[w];
            before += warps;
        }
        return before;
    }
};

// f(Team) with a warp a row while a row gives each lane at most 32 elements, else a block a row.
template <class F>
void with_team(int64_t cols, F&& f) {
    if (cols <= 1024)
        f(Team<1>());
    else
        f(Team<8>());
}

}  // namespace mc::cuda
