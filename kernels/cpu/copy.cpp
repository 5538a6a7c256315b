// Moving and converting bytes. Nothing here computes, so there are no vector functions: runs go
// through memcpy, transposes through tiles, and the compiler vectorises the conversions.
#include "kernels/copy.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "kernels/backend.h"
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

template <class To, class From>
To bit_cast(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof(To));
    return to;
}

float widen(f16_bits h) {
    const uint32_t sign = uint32_t{h.bits & 0x8000u} << 16, rest = h.bits & 0x7FFFu;
    // The exponent moves by a product with a power of two, which also makes denormals normal.
    const float value = bit_cast<float>(rest << 13) * 0x1p112f;
    const uint32_t special = rest >= 0x7C00u ? 0x7F800000u : 0u;  // infinities and NaNs
    return bit_cast<float>(bit_cast<uint32_t>(value) | special | sign);
}

float widen(bf16_bits h) {
    return bit_cast<float>(uint32_t{h.bits} << 16);
}

// To nearest, ties to even.
f16_bits to_f16(float x) {
    const uint32_t bits = bit_cast<uint32_t>(x), sign = bits >> 16 & 0x8000u;
    const uint32_t size = bits & 0x7FFFFFFFu;
    // All cases are computed and one is chosen: the compiler makes vectors of that.
    const uint32_t normal = (size - 0x38000000u + 0xFFFu + (size >> 13 & 1u)) >> 13;
    // Adding 0.5 puts a denormal result's last bit at the sum's last bit.
    const uint32_t denormal = bit_cast<uint32_t>(bit_cast<float>(size) + 0.5f) - 0x3F000000u;
    const uint32_t nan = 0x7E00u | (size >> 13 & 0x3FFu);  // quiet
    uint32_t h = size < 0x38800000u ? denormal : normal;   // normal may carry into infinity
    h = size >= 0x47800000u ? 0x7C00u : h;                 // 65536 and beyond
    h = size > 0x7F800000u ? nan : h;
    return {static_cast<uint16_t>(h | sign)};
}

bf16_bits to_bf16(float x) {
    const uint32_t bits = bit_cast<uint32_t>(x);
    const uint32_t rounded = (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
    const bool nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
    return {static_cast<uint16_t>(nan ? (bits >> 16 | 0x40u) : rounded)};
}

// Rounding twice to nearest is not rounding once; rounding to odd first is harmless (Boldo and
// Melquiond 2008): a value between two neighbours becomes the one with the odd last bit.
float to_odd(double x) {
    const float nearest = static_cast<float>(x);
    const double back = nearest;
    if (back == x || x != x) return nearest;
    uint32_t bits = bit_cast<uint32_t>(nearest);
    if (std::fabs(back) > std::fabs(x)) --bits;  // to the one nearer to zero
    return bit_cast<float>(bits | 1u);
}

double to_odd(int64_t x) {
    const double nearest = static_cast<double>(x);
    // 2^63 does not fit back.
    const int64_t back = nearest < 0x1p63 ? static_cast<int64_t>(nearest) : x;
    if (back == x && nearest < 0x1p63) return nearest;
    uint64_t bits = bit_cast<uint64_t>(nearest);
    const bool beyond = nearest >= 0x1p63 || (x > 0 ? back > x : back < x);
    if (beyond) --bits;
    return bit_cast<double>(bits | 1u);
}

// What a float cannot be as an integer is defined here: NaN is 0, too large is the nearest limit.
template <class Int, class Float>
Int truncate(Float x) {
    constexpr Float kLow = static_cast<Float>(std::numeric_limits<Int>::min());  // a power of two
    if (x != x) return 0;
    if (x < kLow) return std::numeric_limits<Int>::min();
    if (x >= -kLow) return std::numeric_limits<Int>::max();
    return static_cast<Int>(x);
}

template <class T>
constexpr bool kHalf = std::is_same_v<T, f16_bits> || std::is_same_v<T, bf16_bits>;

template <class Dst, class Src>
Dst convert(Src x) {
    if constexpr (std::is_same_v<Dst, Src>) {
        return x;
    } else if constexpr (kHalf<Src>) {
        return convert<Dst>(widen(x));
    } else if constexpr (kHalf<Dst>) {
        float f;
        if constexpr (std::is_same_v<Src, double>)
            f = to_odd(x);
        else if constexpr (std::is_same_v<Src, int64_t>)
            f = to_odd(to_odd(x));
        else if constexpr (std::is_same_v<Src, int32_t>)
            f = to_odd(static_cast<double>(x));
        else
            f = static_cast<float>(x);
        if constexpr (std::is_same_v<Dst, f16_bits>)
            return to_f16(f);
        else
            return to_bf16(f);
    } else if constexpr (std::is_same_v<Dst, bool>) {
        return x != 0;
    } else if constexpr (std::is_integral_v<Dst> && std::is_floating_point_v<Src>) {
        return truncate<Dst>(x);
    } else {
        return static_cast<Dst>(x);
    }
}

template <class F>
void with_type(DType dtype, F&& f) {
    switch (dtype) {
        case DType::f32:
            return f(float());
        case DType::f64:
            return f(double());
        case DType::f16:
            return f(f16_bits());
        case DType::bf16:
            return f(bf16_bits());
        case DType::i64:
            return f(int64_t());
        case DType::i32:
            return f(int32_t());
        case DType::boolean:
            return f(bool());
    }
}

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
