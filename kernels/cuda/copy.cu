// Moving and converting bytes. A strided copy walks the contiguous side; where the strided side is
// contiguous along another dimension (a transpose), tiles go through shared memory, so that both
// sides are read and written in whole lines.
#include "kernels/copy.h"

#include "kernels/convert.h"
#include "kernels/cuda/fill.h"
#include "kernels/cuda/map.h"
#include "kernels/cuda/strided.h"

namespace mc::cuda {

namespace {

constexpr int kThreads = 256, kTile = 32, kTileRows = 8;

// Copies as bits: a NaN's stay.
template <bool gather, class E>
__device__ inline void move(E* dense, E* strided) {
    if constexpr (gather)
        *dense = *strided;
    else
        *strided = *dense;
}

template <bool gather, class E, class Index>
__global__ void strided_kernel(E* dense, E* strided, LoopIndex<Index> loop, int64_t count) {
    for (int64_t i = global_thread(); i < count; i += all_threads()) {
        int64_t at, unused;
        loop.offsets(i, at, unused);
        move<gather>(dense + i, strided + at);
    }
}

// Matrices whose dense side is (rows, cols) at row stride dense_row and whose strided side has its
// columns `stride` apart and its rows side by side. `outer` finds a matrix on both sides.
struct Transpose {
    int64_t rows, cols, dense_row, stride, tiles_down, tiles_across;
};

template <bool gather, class E, class Index>
__global__ void transpose_kernel(E* dense, E* strided, LoopIndex<Index> outer, Transpose t) {
    __shared__ E tile[kTile][kTile + 1];  // tile[column][row]; the padding spreads the banks
    const int64_t across = blockIdx.x % t.tiles_across;
    const int64_t down = blockIdx.x / t.tiles_across % t.tiles_down;
    int64_t at_strided, at_dense;
    outer.offsets(blockIdx.x / t.tiles_across / t.tiles_down, at_strided, at_dense);
    strided += at_strided;
    dense += at_dense;
    const int64_t row0 = down * kTile, col0 = across * kTile;
    const int x = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y);
    for (int i = y; i < kTile; i += kTileRows) {
        if (gather && row0 + x < t.rows && col0 + i < t.cols)
            tile[i][x] = strided[row0 + x + (col0 + i) * t.stride];
        if (!gather && row0 + i < t.rows && col0 + x < t.cols)
            tile[x][i] = dense[(row0 + i) * t.dense_row + col0 + x];
    }
    __syncthreads();
    for (int i = y; i < kTile; i += kTileRows) {
        if (gather && row0 + i < t.rows && col0 + x < t.cols)
            dense[(row0 + i) * t.dense_row + col0 + x] = tile[x][i];
        if (!gather && row0 + x < t.rows && col0 + i < t.cols)
            strided[row0 + x + (col0 + i) * t.stride] = tile[i][x];
    }
}

template <class Dst, class Src>
struct Convert {
    __device__ Dst operator()(Src x) const { return convert<Dst>(x); }
};

// ---- Launchers ---------------------------------------------------------------------------------

// The dimension, not the last, along which the strided side is contiguous; -1: none worth a tile.
int transposed_dimension(const StridedLoop& loop) {
    const int last = loop.dims - 1;
    if (last == 0 || loop.stride_a[last] == 1 || loop.stride_a[last] == 0 || loop.size[last] < 8)
        return -1;
    for (int i = last - 1; i >= 0; --i)
        if (loop.stride_a[i] == 1 && loop.size[i] >= 8) return i;
    return -1;
}

template <bool gather, class E>
void transposes(const char* op, Context& context, E* dense, E* strided, const StridedLoop& loop,
                int row_dim) {
    const int last = loop.dims - 1;
    StridedLoop outer;  // everything but the two dimensions; stride_b walks the dense side
    int64_t distance = 1, dense_row = 0;
    for (int i = last; i >= 0; --i) {
        if (i == row_dim) {
            dense_row = distance;
        } else if (i != last) {
            outer.size[outer.dims] = loop.size[i];
            outer.stride_a[outer.dims] = loop.stride_a[i];
            outer.stride_b[outer.dims] = distance;
            ++outer.dims;
        }
        distance *= loop.size[i];
    }
    if (outer.dims == 0) {
        outer.dims = 1;
        outer.size[0] = 1;
    }
    const Transpose t{loop.size[row_dim],
                      loop.size[last],
                      dense_row,
                      loop.stride_a[last],
                      ceil_div(loop.size[row_dim], kTile),
                      ceil_div(loop.size[last], kTile)};
    const int64_t blocks = element_count(outer) * t.tiles_down * t.tiles_across;
    with_loop_index(outer, [&](auto index) {
        launch(op, context, {grid_size(op, blocks), dim3(kTile, kTileRows)},
               transpose_kernel<gather, E, std::remove_reference_t<decltype(index.size[0])>>, dense,
               strided, index, t);
    });
}

template <bool gather, class E>
void copy_elements(const char* op, Context& context, void* dense, void* strided,
                   const StridedLoop& loop) {
    E *d = static_cast<E*>(dense), *s = static_cast<E*>(strided);
    const int row_dim = transposed_dimension(loop);
    if (row_dim >= 0) return transposes<gather>(op, context, d, s, loop, row_dim);
    const int64_t count = element_count(loop);
    with_loop_index(loop, [&](auto index) {
        launch(op, context, {walking_blocks(count, kThreads), kThreads},
               strided_kernel<gather, E, std::remove_reference_t<decltype(index.size[0])>>, d, s,
               index, count);
    });
}

template <bool gather>
void strided_copy(const char* op, Context& context, void* dense, void* strided,
                  const StridedLoop& full_loop, size_t element_size) {
    if (element_count(full_loop) == 0) return;
    StridedLoop loop = full_loop;
    for (int i = 0; i < loop.dims; ++i) loop.stride_b[i] = loop.stride_a[i];  // collapse by a alone
    loop = collapse(loop);
    if (loop.dims == 1 && loop.stride_a[0] == 1) {
        MC_CUDA(op, cudaMemcpyAsync(gather ? dense : strided, gather ? strided : dense,
                                    static_cast<size_t>(loop.size[0]) * element_size,
                                    cudaMemcpyDeviceToDevice, stream_of(context)));
        return;
    }
    if (element_size == 1) return copy_elements<gather, uint8_t>(op, context, dense, strided, loop);
    if (element_size == 2)
        return copy_elements<gather, uint16_t>(op, context, dense, strided, loop);
    if (element_size == 4)
        return copy_elements<gather, uint32_t>(op, context, dense, strided, loop);
    copy_elements<gather, uint64_t>(op, context, dense, strided, loop);
}

void gather_strided(Context& context, void* dst, const void* src, const StridedLoop& loop,
                    size_t element_size) {
    strided_copy<true>("gather_strided", context, dst, const_cast<void*>(src), loop, element_size);
}

void scatter_strided(Context& context, void* dst, const void* src, const StridedLoop& loop,
                     size_t element_size) {
    strided_copy<false>("scatter_strided", context, const_cast<void*>(src), dst, loop,
                        element_size);
}

void cast(Context& context, void* dst, DType dst_dtype, const void* src, DType src_dtype,
          int64_t n) {
    with_type(dst_dtype, [&](auto dst_value) {
        with_type(src_dtype, [&](auto src_value) {
            using Dst = decltype(dst_value);
            using Src = decltype(src_value);
            map("cast", context, Convert<Dst, Src>{}, n, static_cast<Dst*>(dst),
                static_cast<const Src*>(src));
        });
    });
}

}  // namespace

void fill_copy(Backend& backend) {
    backend.copy.gather_strided = gather_strided;
    backend.copy.scatter_strided = scatter_strided;
    backend.copy.cast = cast;
}

}  // namespace mc::cuda
