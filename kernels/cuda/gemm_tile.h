// The tiled product that matmul.cu and conv.cu are made of: C (m, n) = A (m, k) B (n, k)^T for any
// operands that can be asked for an element.
//
// A block of 256 threads owns a tile of C and each thread a kRows x kCols part of it in registers.
// It walks k in slices of kDepth: while a slice is multiplied from shared memory, the next is on
// its way to registers, and two buffers make one barrier a slice enough. An element of C is one sum
// in the order of k, whatever the tile; where k is long and C too small to fill the card (the
// gradient of a weight), it is cut into parts of one length that a second kernel adds in order. How
// many depends on the problem alone.
//
// An operand is a function object: operator()(batch, i, k) gives element (i, k), i being the row of
// A or the column of B, and along_k tells whether neighbours in k are neighbours in memory (then
// the threads of a warp are laid along k when they load, else along i). The store is one too:
// operator()(batch, row, col, sum).
#pragma once

#include "kernels/cuda/math.h"
#include "kernels/cuda/shared_kernels.h"

namespace mc::cuda {

template <class T>
struct MatrixOperand {
    const T* data;
    int64_t stride_i, stride_k, stride_batch;
    bool along_k;
    __device__ T operator()(int64_t batch, int64_t i, int64_t k) const {
        return data[batch * stride_batch + i * stride_i + k * stride_k];
    }
};

// A tile of size x size; each of 256 threads has side x side of it.
template <int size, int side, int depth>
struct TileShape {
    static constexpr int kSize = size, kSide = side, kDepth = depth;
    static constexpr int kAcross = size / side;  // threads along a side
    static constexpr int kThreads = kAcross * kAcross;
    static constexpr int kLoads = size * depth / kThreads;  // a thread's elements of a slice
    static constexpr int kPadding = 4;  // keeps 16 bytes aligned and spreads the banks
    // Where a thread keeps element i of its part: runs of 4 neighbours, so that a warp reads shared
    // memory in wide pieces without conflicts.
    static constexpr int kRun = side < 4 ? side : 4;
    __device__ static int place(int thread, int i) {
        return i / kRun * (size / (side / kRun)) + thread * kRun + i % kRun;
    }
    static_assert(kThreads == 256 && size * depth % kThreads == 0 && size % depth == 0);
};

struct ProductSize {
    int64_t m, n, k, tiles_n, tiles;  // tiles: of one problem of the batch
};

template <class Shape, class T, class Operand>
__device__ inline void load_slice(T (&loaded)[Shape::kLoads], const Operand& operand, int64_t batch,
                                  int64_t first, int64_t count, int64_t k0, int64_t k) {
    const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
    for (int l = 0; l < Shape::kLoads; ++l) {
        const int e = l * Shape::kThreads + thread;
        const int64_t i = first + (operand.along_k ? e / Shape::kDepth : e % Shape::kSize);
        const int64_t at = k0 + (operand.along_k ? e % Shape::kDepth : e / Shape::kSize);
        loaded[l] = i < count && at < k ? operand(batch, i, at) : T{0};
    }
}

template <class Shape, class T>
__device__ inline void store_slice(T (*slice)[Shape::kSize + Shape::kPadding],
                                   const T (&loaded)[Shape::kLoads], bool along_k) {
    const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
    for (int l = 0; l < Shape::kLoads; ++l) {
        const int e = l * Shape::kThreads + thread;
        const int i = along_k ? e / Shape::kDepth : e % Shape::kSize;
        const int at = along_k ? e % Shape::kDepth : e / Shape::kSize;
        slice[at][i] = loaded[l];
    }
}

template <class Shape, class T, class A, class B, class Store>
__global__ void __launch_bounds__(Shape::kThreads)
    product_kernel(ProductSize size, A a, B b, Store store) {
    constexpr int kSide = Shape::kSide;
    __shared__ T slices_a[2][Shape::kDepth][Shape::kSize + Shape::kPadding];
    __shared__ T slices_b[2][Shape::kDepth][Shape::kSize + Shape::kPadding];
    const int64_t batch = blockIdx.x / size.tiles, tile = blockIdx.x % size.tiles;
    const int64_t row0 = tile / size.tiles_n * Shape::kSize;
    const int64_t col0 = tile % size.tiles_n * Shape::kSize;
    const int ty = static_cast<int>(threadIdx.x) / Shape::kAcross;
    const int tx = static_cast<int>(threadIdx.x) % Shape::kAcross;
    T sums[kSide][kSide] = {};
    T next_a[Shape::kLoads], next_b[Shape::kLoads];
    load_slice<Shape>(next_a, a, batch, row0, size.m, 0, size.k);
    load_slice<Shape>(next_b, b, batch, col0, size.n, 0, size.k);
    int buffer = 0;
    for (int64_t k0 = 0; k0 < size.k; k0 += Shape::kDepth) {
        store_slice<Shape>(slices_a[buffer], next_a, a.along_k);
        store_slice<Shape>(slices_b[buffer], next_b, b.along_k);
        __syncthreads();
        if (k0 + Shape::kDepth < size.k) {
            load_slice<Shape>(next_a, a, batch, row0, size.m, k0 + Shape::kDepth, size.k);
            load_slice<Shape>(next_b, b, batch, col0, size.n, k0 + Shape::kDepth, size.k);
        }
#pragma unroll
        for (int k = 0; k < Shape::kDepth; ++k) {
            T row[kSide], col[kSide];
#pragma unroll
            for (int i = 0; i < kSide; ++i) {
                row[i] = slices_a[buffer][k][Shape::place(ty, i)];
                col[i] = slices_b[buffer][k][Shape::place(tx, i)];
            }
#pragma unroll
            for (int i = 0; i < kSide; ++i)
#pragma unroll
                for (int j = 0; j < kSide; ++j)
                    sums[i][j] = multiply_add(row[i], col[j], sums[i][j]);
        }
        buffer ^= 1;
    }
#pragma unroll
    for (int i = 0; i < kSide; ++i) {
        const int64_t row = row0 + Shape::place(ty, i);
#pragma unroll
        for (int j = 0; j < kSide; ++j) {
            const int64_t col = col0 + Shape::place(tx, j);
            if (row < size.m && col < size.n) store(batch, row, col, sums[i][j]);
        }
    }
}

inline int64_t tile_count(int64_t m, int64_t n, int64_t batch, int64_t size) {
    return ceil_div(m, size) * ceil_div(n, size) * batch;
}

inline constexpr int64_t kProcessors = 132;  // of a large card

// The largest tile that still gives each of them its block. f64 has half the
// registers and no tile of 128.
template <class T>
Tile fitting_tile(int64_t m, int64_t n, int64_t batch) {
    if (sizeof(T) == 4 && tile_count(m, n, batch, 128) >= kProcessors) return Tile::of_128;
    return tile_count(m, n, batch, 64) >= kProcessors ? Tile::of_64 : Tile::of_32;
}

// How many parts a sum along k is cut into.
inline int64_t part_count(int64_t m, int64_t n, int64_t k, int64_t batch) {
    constexpr int64_t kBlocks = 2 * kProcessors, kShortest = 256, kLong = 1024;
    const int64_t tiles = tile_count(m, n, batch, 64);
    if (k < kLong || 2 * tiles > kProcessors) return 1;
    const int64_t wanted = ceil_div(kBlocks, tiles), most = k / kShortest;
    return wanted < most ? wanted : most;
}

// An operand of a product whose batch is (batch, parts), each with `length` of the k.
template <class Operand>
struct PartOf {
    Operand operand;
    int64_t parts, length, k;
    bool along_k = operand.along_k;
    __device__ auto operator()(int64_t batch, int64_t i, int64_t at) const {
        using T = decltype(operand(batch, i, at));
        at += batch % parts * length;
        return at < k ? operand(batch / parts, i, at) : T{};
    }
};

template <class T>
struct PartStore {  // sums (batch, parts, m, n)
    T* sums;
    int64_t m, n;
    __device__ void operator()(int64_t batch, int64_t row, int64_t col, T sum) const {
        sums[(batch * m + row) * n + col] = sum;
    }
};

template <class T, class Store>
__global__ void add_parts_kernel(Store store, const T* sums, int64_t parts, int64_t batch,
                                 int64_t m, int64_t n) {
    const int64_t one = m * n;
    for (int64_t i = global_thread(); i < batch * one; i += all_threads()) {
        const int64_t b = i / one, at = i % one;
        T sum = 0;
        for (int64_t p = 0; p < parts; ++p) sum += sums[(b * parts + p) * one + at];
        store(b, at / n, at % n, sum);
    }
}

template <class Shape, class T, class A, class B, class Store>
void launch_product(const char* op, Context& context, int64_t m, int64_t n, int64_t k,
                    int64_t batch, const A& a, const B& b, const Store& store) {
    const int64_t tiles_n = ceil_div(n, Shape::kSize);
    const int64_t tiles = ceil_div(m, Shape::kSize) * tiles_n;
    launch(op, context, {grid_size(op, tiles * batch), Shape::kThreads},
           product_kernel<Shape, T, A, B, Store>, ProductSize{m, n, k, tiles_n, tiles}, a, b,
           store);
}

template <class T, class A, class B, class Store>
void product(const char* op, Context& context, int64_t m, int64_t n, int64_t k, int64_t batch,
             const A& a, const B& b, const Store& store, Tile tile = Tile::fitting) {
    if (m <= 0 || n <= 0 || batch <= 0) return;
    if (tile == Tile::fitting) {
        const int64_t parts = part_count(m, n, k, batch);
        if (parts > 1) {
            const int64_t length = ceil_div(k, parts);
            const DeviceLoan<T> sums(op, context, batch * parts * m * n);
            launch_product<TileShape<64, 4, 16>, T>(
                op, context, m, n, length, batch * parts, PartOf<A>{a, parts, length, k},
                PartOf<B>{b, parts, length, k}, PartStore<T>{sums.data(), m, n});
            launch(op, context, {walking_blocks(batch * m * n, 256), 256},
                   add_parts_kernel<T, Store>, store, sums.data(), parts, batch, m, n);
            return;
        }
        tile = fitting_tile<T>(m, n, batch);
    }
    const auto run = [&](auto shape) {
        launch_product<decltype(shape), T>(op, context, m, n, k, batch, a, b, store);
    };
    if constexpr (sizeof(T) == 4)
        if (tile == Tile::of_128) return run(TileShape<128, 8, 8>());
    if (tile == Tile::of_32) return run(TileShape<32, 2, 32>());
    run(TileShape<64, 4, 16>());
}

}  // namespace mc::cuda
