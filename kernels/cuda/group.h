// Many arrays in one launch: a block takes one chunk of one of them. The group is an argument of
// the kernel, so nothing is uploaded.
#pragma once

#include "kernels/cuda/device.h"

namespace mc::cuda {

// Items and how their chunks follow each other in the grid.
template <class Item, int capacity>
struct Group {
    Item item[capacity];
    int32_t end[capacity];  // chunks of items 0 .. i
    int32_t count = 0;

    // False if the group is full.
    bool add(const Item& x, int64_t n, int64_t chunk_size) {
        if (count == capacity) return false;
        item[count] = x;
        end[count] = static_cast<int32_t>(chunks() + ceil_div(n > 0 ? n : 0, chunk_size));
        ++count;
        return true;
    }
    int64_t chunks() const { return count > 0 ? end[count - 1] : 0; }

    __device__ int32_t begin(int i) const { return i > 0 ? end[i - 1] : 0; }
    // The item that a chunk belongs to.
    __device__ int find(int32_t chunk) const {
        int low = 0, high = count - 1;
        while (low < high) {
            const int middle = (low + high) / 2;
            if (end[middle] <= chunk)
                low = middle + 1;
            else
                high = middle;
        }
        return low;
    }
};

// What every CUDA driver takes as arguments of a kernel.
inline constexpr size_t kMaxArgumentBytes = 4096;

}  // namespace mc::cuda
