// The greatest value that a team's threads hold, and where it stands.
#pragma once

#include "kernels/cuda/team.h"

namespace mc::cuda {

// A maximum and where it is. NaN beats all, then the greater, then the earlier.
template <class T>
struct Best {
    T value;
    int64_t index;  // -1: none yet
};

template <class T>
__device__ inline bool beats(const Best<T>& a, const Best<T>& b) {
    if (a.index < 0 || b.index < 0) return b.index < 0;
    const bool a_nan = a.value != a.value, b_nan = b.value != b.value;
    if (a_nan != b_nan) return a_nan;
    if (!a_nan && a.value != b.value) return a.value > b.value;
    return a.index < b.index;
}

template <class T>
__device__ inline Best<T> warp_best(Best<T> best) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        const Best<T> other{__shfl_xor_sync(kAllLanes, best.value, distance),
                            __shfl_xor_sync(kAllLanes, best.index, distance)};
        if (beats(other, best)) best = other;
    }
    return best;
}

// The team's best, known to all its threads.
template <int kWarps, class T>
__device__ inline Best<T> team_best(Team<kWarps>, Best<T> best) {
    best = warp_best(best);
    if constexpr (kWarps > 1) {
        __shared__ T values[kWarps];
        __shared__ int64_t indices[kWarps];
        __syncthreads();  // what an earlier call left has been read
        if (threadIdx.x % 32 == 0) {
            values[threadIdx.x / 32] = best.value;
            indices[threadIdx.x / 32] = best.index;
        }
        __syncthreads();
        best = {values[0], indices[0]};
        for (int w = 1; w < kWarps; ++w) {
            const Best<T> other{values[w], indices[w]};
            if (beats(other, best)) best = other;
        }
    }
    return best;
}

struct Earlier {
    __device__ int64_t operator()(int64_t a, int64_t b) const { return a < b ? a : b; }
};

}  // namespace mc::cuda
