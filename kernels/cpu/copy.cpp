// Moving and converting bytes. Nothing here computes, so there are no vector functions: runs go
// through memcpy, transposes through tiles, and the compiler vectorises the conversions.
#include "kernels/copy.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "kernels/backend.h"
#include "kernels/convert.h"
#include "kernels/cpu/chunking.h"
#include "kernels/cpu/fill.h"
#include "kernels/cpu/strided.h"
#include "kernels/cpu/thread_pool.h"

namespace mc {
namespace {

// ---- Strided copies ----------------------------------------------------------------------------

// An element of some size, whatever it holds.
using Bits8 [[gnu::may_alias]] = uint8_t;
using Bits16 [[gnu::may_alias]] = uint16_t;
using Bits32 [[gnu::may_alias]] = uint32_t;
using Bits64 [[gnu::may_alias]] = uint64_t;

constexpr int64_t kTile = 16;  // 16 elements of 4 bytes: a cache line on either side

// Copies between a dense array and a strided one; gather reads the strided one.
template <bool gather, class E>
struct StridedCopy {
    using Dense = std::conditional_t<gather, E, const E>;
    using Strided = std::conditional_t<gather, const E, E>;

    static void move(Dense& dense, Strided& strided) {
        if constexpr (gather)
            dense = strided;
        else
            strided = dense;
    }

    static void row(Dense* dense, Strided* strided, int64_t stride, int64_t n) {
        if (stride == 1) {
            if constexpr (gather)
                std::memcpy(dense, strided, static_cast<size_t>(n) * sizeof(E));
            else
                std::memcpy(strided, dense, static_cast<size_t>(n) * sizeof(E));
        } else if (gather && stride == 0) {
            if constexpr (gather) std::fill_n(dense, n, *strided);
        } else {
            for (int64_t i = 0; i < n; ++i) move(dense[i], strided[i * stride]);
        }
    }

    // A matrix whose columns lie dense in one array and whose rows do in the other:
    // dense[r * dense_row + c] <-> strided[r + c * stride]. By tiles that use every cache line they
    // touch; full tiles have constant sizes, which the compiler unrolls.
    static void transpose(Dense* dense, int64_t dense_row, Strided* strided, int64_t stride,
                          int64_t rows, int64_t cols) {
        for (int64_t c = 0; c < cols; c += kTile) {
            const int64_t width = std::min(kTile, cols - c);
            for (int64_t r = 0; r < rows; r += kTile) {
                const int64_t height = std::min(kTile, rows - r);
                Dense* to = dense + r * dense_row + c;
                Strided* from = strided + r + c * stride;
                if (width == kTile && height == kTile)
                    transpose_tile(to, dense_row, from, stride);
                else
                    for (int64_t i = 0; i < height; ++i)
                        for (int64_t j = 0; j < width; ++j)
                            move(to[i * dense_row + j], from[i + j * stride]);
            }
        }
    }

    static void transpose_tile(Dense* dense, int64_t dense_row, Strided* strided, int64_t stride) {
        E tile[kTile][kTile];  // in the order of the source
        if constexpr (gather) {
            for (int64_t j = 0; j < kTile; ++j)
                std::memcpy(tile[j], strided + j * stride, sizeof(tile[j]));
            for (int64_t i = 0; i < kTile; ++i) {
                E row[kTile];
                for (int64_t j = 0; j < kTile; ++j) row[j] = tile[j][i];
                std::memcpy(dense + i * dense_row, row, sizeof(row));
            }
        } else {
            for (int64_t i = 0; i < kTile; ++i)
                std::memcpy(tile[i], dense + i * dense_row, sizeof(tile[i]));
            for (int64_t j = 0; j < kTile; ++j) {
                E row[kTile];
                for (int64_t i = 0; i < kTile; ++i) row[i] = tile[i][j];
                std::memcpy(strided + j * stride, row, sizeof(row));
            }
        }
    }

    static void run(ThreadPool& pool, Dense* dense, Strided* strided, const StridedLoop& loop) {
        const int last = loop.dims - 1;
        const int64_t n = loop.size[last], stride = loop.stride_a[last];
        if (last == 0) {
            pool.for_ranges(n, kChunkElements, [&](int64_t begin, int64_t end) {
                row(dense + begin, strided + begin * stride, stride, end - begin);
            });
            return;
        }
        // A transpose: another dimension is the dense one of the strided array.
        int dense_dim = -1;
        for (int i = last - 1; i >= 0 && dense_dim < 0; --i)
            if (loop.stride_a[i] == 1 && loop.size[i] >= 4) dense_dim = i;
        if (stride != 1 && stride != 0 && n >= 4 && dense_dim >= 0)
            return run_transposes(pool, dense, strided, loop, dense_dim);
        const int64_t rows = element_count(loop) / n;
        pool.for_ranges(rows, rows_per_chunk(n), [&](int64_t begin, int64_t end) {
            RowCursor cursor(loop, begin);
            for (int64_t r = begin; r < end; ++r, cursor.next())
                row(dense + r * n, strided + cursor.a(), stride, n);
        });
    }

    static void run_transposes(ThreadPool& pool, Dense* dense, Strided* strided,
                               const StridedLoop& loop, int dense_dim) {
        const int last = loop.dims - 1;
        // Distances in the dense array.
        int64_t distance[kMaxDims];
        distance[last] = 1;
        for (int i = last - 1; i >= 0; --i) distance[i] = distance[i + 1] * loop.size[i + 1];
        // The loop over matrices: everything but the two dimensions, plus the bands of rows the
        // matrices are cut into; stride_b walks the dense array.
        constexpr int64_t kBand = 64;
        const int64_t rows = loop.size[dense_dim], cols = loop.size[last];
        const int64_t bands = ceil_div(rows, kBand);
        StridedLoop outer;
        for (int i = 0; i < last; ++i) {
            if (i == dense_dim) continue;
            outer.size[outer.dims] = loop.size[i];
            outer.stride_a[outer.dims] = loop.stride_a[i];
            outer.stride_b[outer.dims] = distance[i];
            ++outer.dims;
        }
        outer.size[outer.dims] = bands;
        outer.stride_a[outer.dims] = kBand;
        outer.stride_b[outer.dims] = kBand * distance[dense_dim];
        ++outer.dims;
        outer.size[outer.dims++] = 1;  // the cursor's row: one band
        pool.for_ranges(element_count(outer), rows_per_chunk(kBand * cols),
                        [&](int64_t begin, int64_t end) {
                            RowCursor cursor(outer, begin);
                            for (int64_t task = begin; task < end; ++task, cursor.next())
                                transpose(dense + cursor.b(), distance[dense_dim],
                                          strided + cursor.a(), loop.stride_a[last],
                                          std::min(kBand, rows - task % bands * kBand), cols);
                        });
    }
};

template <bool gather, class DensePointer, class StridedPointer>
void strided_copy(Context& context, DensePointer dense, StridedPointer strided,
                  const StridedLoop& full_loop, size_t element_size) {
    if (element_count(full_loop) == 0) return;
    StridedLoop loop = full_loop;
    for (int i = 0; i < loop.dims; ++i) loop.stride_b[i] = loop.stride_a[i];  // collapse by a alone
    loop = collapse(loop);
    const auto run = [&](auto element) {
        using Copy = StridedCopy<gather, decltype(element)>;
        Copy::run(*context.pool, static_cast<typename Copy::Dense*>(dense),
                  static_cast<typename Copy::Strided*>(strided), loop);
    };
    if (element_size == 1) return run(Bits8());
    if (element_size == 2) return run(Bits16());
    if (element_size == 4) return run(Bits32());
    run(Bits64());
}

void gather_strided(Context& context, void* dst, const void* src, const StridedLoop& loop,
                    size_t element_size) {
    strided_copy<true>(context, dst, src, loop, element_size);
}

void scatter_strided(Context& context, void* dst, const void* src, const StridedLoop& loop,
                     size_t element_size) {
    strided_copy<false>(context, src, dst, loop, element_size);
}

// ---- Conversions -------------------------------------------------------------------------------

void cast(Context& context, void* dst, DType dst_dtype, const void* src, DType src_dtype,
          int64_t n) {
    with_type(dst_dtype, [&](auto dst_value) {
        with_type(src_dtype, [&](auto src_value) {
            using Dst = decltype(dst_value);
            using Src = decltype(src_value);
            Dst* to = static_cast<Dst*>(dst);
            const Src* from = static_cast<const Src*>(src);
            context.pool->for_ranges(n, kChunkElements, [&](int64_t begin, int64_t end) {
                for (int64_t i = begin; i < end; ++i) to[i] = convert<Dst>(from[i]);
            });
        });
    });
}

}  // namespace

void fill_copy(Backend& b) {
    b.copy.gather_strided = gather_strided;
    b.copy.scatter_strided = scatter_strided;
    b.copy.cast = cast;
}

}  // namespace mc
