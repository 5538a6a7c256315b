// Sums, running sums, maxima and searches. Sums accumulate in double for both dtypes (memory is
// what bounds them), over a fixed partition whose parts are added in order.
#include "kernels/reduce.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/backend.h"
#include "kernels/cpu/chunking.h"
#include "kernels/cpu/fill.h"
#include "kernels/cpu/simd_targets.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/cpu/workspace.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/reduce.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mc {
namespace HWY_NAMESPACE {
namespace {

constexpr int64_t kColumns = 1024;  // columns summed together when the axis is not the last
constexpr int64_t kMaxParts = 64;   // of a sum, but rows of a part are 16 at least

// The sum of n neighbours in double: 4 vectors of partial sums.
template <class T>
double sum_row(const T* src, int64_t n) {
    constexpr int64_t kParts = 16;
    double part[kParts] = {};
    int64_t i = 0;
    for (; i + kParts <= n; i += kParts)
        for (int64_t j = 0; j < kParts; ++j) part[j] += static_cast<double>(src[i + j]);
    for (; i < n; ++i) part[i % kParts] += static_cast<double>(src[i]);
    for (int64_t width = kParts / 2; width > 0; width /= 2)
        for (int64_t j = 0; j < width; ++j) part[j] += part[j + width];
    return part[0];
}

// sum (cols) = the sum over n rows of src (n, cols) with row stride `inner`; cols <= kColumns.
template <class T>
void sum_columns(double* sum, const T* src, int64_t n, int64_t cols, int64_t inner) {
    if (inner == 1) {
        *sum = sum_row(src, n);
        return;
    }
    std::fill_n(sum, cols, 0.0);
    for (int64_t r = 0; r < n; ++r)
        for (int64_t c = 0; c < cols; ++c) sum[c] += static_cast<double>(src[r * inner + c]);
}

// dst (outer, inner) = factor times the sums over n rows of src (outer, n, inner), each by one
// thread: `cols` of them at a time, several such blocks in a chunk.
template <class T, class Source>
void sum_in_blocks(Context& context, T* dst, const Source* src, double factor, int64_t outer,
                   int64_t n, int64_t inner, int64_t cols) {
    const int64_t blocks = ceil_div(inner, cols);
    context.pool->for_ranges(outer * blocks, rows_per_chunk(n * cols),
                             [&](int64_t begin, int64_t end) {
                                 double total[kColumns];
                                 for (int64_t block = begin; block < end; ++block) {
                                     const int64_t o = block / blocks, c = block % blocks * cols;
                                     const int64_t width = std::min(cols, inner - c);
                                     sum_columns(total, src + o * n * inner + c, n, width, inner);
                                     for (int64_t i = 0; i < width; ++i)
                                         dst[o * inner + c + i] = static_cast<T>(total[i] * factor);
                                 }
                             });
}

template <class T>
void sum(Context& context, T* dst, const T* src, T scale, int64_t outer, int64_t n, int64_t inner) {
    if (outer == 0 || inner == 0) return;
    const int64_t cols = std::min(inner, kColumns);
    const int64_t rows = std::max({int64_t{16}, kChunkElements / cols, ceil_div(n, kMaxParts)});
    const int64_t parts = std::max<int64_t>(1, ceil_div(n, rows));
    const double factor = static_cast<double>(scale);
    if (parts == 1) return sum_in_blocks(context, dst, src, factor, outer, n, inner, cols);
    const int64_t column_blocks = ceil_div(inner, cols);
    Loan<double> partial(*context.workspace, outer * parts * inner);  // (outer, parts, inner)
    context.pool->for_chunks(outer * parts * column_blocks, [&](int64_t task) {
        const int64_t c = task % column_blocks * cols, block = task / column_blocks;
        const int64_t o = block / parts, r = block % parts * rows;
        sum_columns(partial.data() + block * inner + c, src + (o * n + r) * inner + c,
                    std::min(rows, n - r), std::min(cols, inner - c), inner);
    });
    sum_in_blocks(context, dst, partial.data(), factor, outer, parts, inner,
                  std::min(inner, kColumns / 8));
}

template <class T>
void cumsum(Context& context, T* dst, const T* src, int64_t outer, int64_t n, int64_t inner,
            bool reverse) {
    if (outer == 0 || n == 0 || inner == 0) return;
    const int64_t cols = std::min(inner, kColumns), column_blocks = ceil_div(inner, cols);
    context.pool->for_ranges(
        outer * column_blocks, rows_per_chunk(n * cols), [&](int64_t begin, int64_t end) {
            double total[kColumns];
            for (int64_t task = begin; task < end; ++task) {
                const int64_t c = task % column_blocks * cols, width = std::min(cols, inner - c);
                const int64_t first = task / column_blocks * n * inner + c;
                std::fill_n(total, width, 0.0);
                for (int64_t r = 0; r < n; ++r) {
                    const int64_t at = first + (reverse ? n - 1 - r : r) * inner;
                    for (int64_t i = 0; i < width; ++i) {
                        total[i] += static_cast<double>(src[at + i]);
                        dst[at + i] = static_cast<T>(total[i]);
                    }
                }
            }
        });
}

// a goes before b in descending order; NaN goes before everything.
template <class T>
bool above(T a, T b) {
    return a > b || (std::isnan(a) && !std::isnan(b));
}

// The maximum of n >= 1 neighbours and its first position.
template <class T>
int64_t max_row(T* dst, const T* src, int64_t n) {
    const Tag<T> d;
    constexpr int64_t N = lanes_of<T>();
    auto m0 = hn::Set(d, -std::numeric_limits<T>::infinity()), m1 = m0;
    auto nan = hn::Zero(d);  // the sum of all x - x: NaN if one is NaN or infinite
    int64_t i = 0;
    for (; i + 2 * N <= n; i += 2 * N) {
        const auto u = hn::LoadU(d, src + i), v = hn::LoadU(d, src + i + N);
        m0 = hn::IfThenElse(hn::Gt(u, m0), u, m0);
        m1 = hn::IfThenElse(hn::Gt(v, m1), v, m1);
        nan = hn::Add(nan, hn::Add(hn::Sub(u, u), hn::Sub(v, v)));
    }
    T best = hn::GetLane(hn::MaxOfLanes(d, hn::Max(m0, m1)));
    bool suspicious = hn::GetLane(hn::SumOfLanes(d, nan)) != T{0};
    for (; i < n; ++i) {
        best = src[i] > best ? src[i] : best;
        suspicious |= src[i] != src[i];
    }
    if (suspicious) {
        for (int64_t j = 0; j < n; ++j) {
            if (src[j] != src[j]) {
                *dst = src[j];
                return j;
            }
        }
    }
    *dst = best;
    return std::find(src, src + n, best) - src;
}

// A maximum of cols columns over n rows of src (row stride inner).
template <class T>
void max_columns(T* dst, int64_t* index, const T* src, int64_t n, int64_t cols, int64_t inner) {
    if (inner == 1) {
        const int64_t first = max_row(dst, src, n);
        if (index) *index = first;
        return;
    }
    std::copy_n(src, cols, dst);
    if (index) std::fill_n(index, cols, int64_t{0});
    for (int64_t r = 1; r < n; ++r) {
        for (int64_t c = 0; c < cols; ++c) {
            const T value = src[r * inner + c], best = dst[c];
            // Greater, or the first NaN.
            const bool wins = (value > best) | ((value != value) & (best == best));
            dst[c] = wins ? value : best;
            if (index) index[c] = wins ? r : index[c];
        }
    }
}

template <class T>
void max(Context& context, T* dst, int64_t* index, const T* src, int64_t outer, int64_t n,
         int64_t inner) {
    if (inner == 0) return;
    const int64_t cols = std::min(inner, kColumns);
    const int64_t column_blocks = ceil_div(inner, cols);
    context.pool->for_ranges(
        outer * column_blocks, rows_per_chunk(n * cols), [&](int64_t begin, int64_t end) {
            for (int64_t task = begin; task < end; ++task) {
                const int64_t o = task / column_blocks, c = task % column_blocks * cols;
                max_columns(dst + o * inner + c, index ? index + o * inner + c : nullptr,
                            src + o * n * inner + c, n, std::min(cols, inner - c), inner);
            }
        });
}

template <class T>
double sum_of_squares_row(const T* src, int64_t n) {
    constexpr int64_t kParts = 16;
    double part[kParts] = {};
    int64_t i = 0;
    for (; i + kParts <= n; i += kParts) {
        for (int64_t j = 0; j < kParts; ++j) {
            const double v = static_cast<double>(src[i + j]);
            part[j] += v * v;
        }
    }
    for (; i < n; ++i)
        part[i % kParts] += static_cast<double>(src[i]) * static_cast<double>(src[i]);
    for (int64_t width = kParts / 2; width > 0; width /= 2)
        for (int64_t j = 0; j < width; ++j) part[j] += part[j + width];
    return part[0];
}

template <class T>
void sum_of_squares(Context& context, double* dst, const typename ReduceKernels<T>::Array* arrays,
                    int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
        const auto& [src, n] = arrays[i];
        const int64_t parts = ceil_div(n, kChunkElements);
        Loan<double> partial(*context.workspace, parts);
        context.pool->for_ranges(n, kChunkElements, [&, src = src](int64_t begin, int64_t end) {
            partial[begin / kChunkElements] = sum_of_squares_row(src + begin, end - begin);
        });
        double total = 0;
        for (int64_t part = 0; part < parts; ++part) total += partial[part];
        dst[i] = total;
    }
}

// The first index in [begin, end) whose element is not finite, or -1.
template <class T>
int64_t first_non_finite(const T* src, int64_t begin, int64_t end) {
    constexpr int64_t kBlock = 256;
    for (int64_t i = begin; i < end; i += kBlock) {
        const int64_t n = std::min(end - i, kBlock);
        // x - x is 0 for every finite x and NaN for the others; the sum keeps the NaN.
        const T zero = sum_vectors<T>(
            n, [](auto v) HWY_ATTR { return hn::Sub(v, v); }, src + i);
        if (zero == T{0}) continue;
        for (int64_t j = i; j < i + n; ++j)
            if (!std::isfinite(src[j])) return j;
    }
    return -1;
}

template <class T>
void find_non_finite(Context& context, int64_t* dst, const T* src, int64_t n) {
    const int64_t parts = ceil_div(n, kChunkElements);
    Loan<int64_t> first(*context.workspace, parts);
    context.pool->for_ranges(n, kChunkElements, [&](int64_t begin, int64_t end) {
        first[begin / kChunkElements] = first_non_finite(src, begin, end);
    });
    *dst = -1;
    for (int64_t part = 0; part < parts && *dst < 0; ++part) *dst = first[part];
}

// The k best so far stand in `index` as a heap whose root is the worst of them.
template <class T>
void top_k_row(int64_t* index, const T* src, int64_t n, int64_t k) {
    const auto before = [src](int64_t i, int64_t j) {
        return above(src[i], src[j]) || (!above(src[j], src[i]) && i < j);
    };
    for (int64_t i = 0; i < k; ++i) index[i] = i;
    std::make_heap(index, index + k, before);
    for (int64_t i = k; i < n; ++i) {
        if (src[i] <= src[index[0]] || !before(i, index[0])) continue;
        std::pop_heap(index, index + k, before);
        index[k - 1] = i;
        std::push_heap(index, index + k, before);
    }
    std::sort_heap(index, index + k, before);
}

template <class T>
void top_k(Context& context, int64_t* index, const T* src, int64_t rows, int64_t n, int64_t k) {
    k = std::min(k, n);
    if (k <= 0) return;
    context.pool->for_ranges(rows, rows_per_chunk(n), [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) top_k_row(index + row * k, src + row * n, n, k);
    });
}

template <class T>
void fill_table(ReduceKernels<T>& table) {
    table.sum = sum<T>;
    table.max = max<T>;
    table.sum_of_squares = sum_of_squares<T>;
    table.find_non_finite = find_non_finite<T>;
    table.top_k = top_k<T>;
    table.cumsum = cumsum<T>;
}

void fill(Backend& b) {
    fill_table(b.f32);
    fill_table(b.f64);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace mc
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mc {
HWY_EXPORT(fill);
void fill_reduce(Backend& b) {
    HWY_DYNAMIC_DISPATCH(fill)(b);
}
}  // namespace mc
#endif
