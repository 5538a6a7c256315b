// Layer norm and l2 normalisation of rows. A row is read from memory once: its later passes find it
// in the first-level cache.
#include "kernels/norm.h"

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
#define HWY_TARGET_INCLUDE "kernels/cpu/norm.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mc {
namespace HWY_NAMESPACE {
namespace {

// Rows whose sums go into one partial gradient of weight and bias; at most 256 partials.
int64_t rows_per_partial(int64_t rows, int64_t cols) {
    return std::max({rows_per_chunk(cols), int64_t{16}, ceil_div(rows, 256)});
}

template <class T>
using LayerNormArgs = typename NormKernels<T>::LayerNormArgs;
template <class T>
using LayerNormBackwardArgs = typename NormKernels<T>::LayerNormBackwardArgs;

template <class T>
void layer_norm_row(const LayerNormArgs<T>& a, int64_t row) {
    const Tag<T> d;
    const int64_t cols = a.cols;
    const T* x = a.x + row * cols;
    T* y = a.y + row * cols;
    if (a.residual) {
        // Without a place for the sum, y holds it until it is overwritten.
        T* sum = a.sum ? a.sum + row * cols : y;
        map_vectors(
            sum, cols, [](auto u, auto v) HWY_ATTR { return hn::Add(u, v); }, x,
            a.residual + row * cols);
        x = sum;
    } else if (a.sum) {
        std::memcpy(a.sum + row * cols, x, static_cast<size_t>(cols) * sizeof(T));
    }
    const T mean = sum_vectors<T>(
                       cols, [](auto v) HWY_ATTR { return v; }, x) /
                   static_cast<T>(cols);
    const auto mean_v = hn::Set(d, mean);
    const T variance = sum_vectors<T>(
                           cols,
                           [mean_v](auto v) HWY_ATTR {
                               const auto centred = hn::Sub(v, mean_v);
                               return hn::Mul(centred, centred);
                           },
                           x) /
                       static_cast<T>(cols);
    const T rstd = T{1} / std::sqrt(variance + static_cast<T>(a.eps));
    const auto rstd_v = hn::Set(d, rstd);
    if (a.mean) a.mean[row] = mean;
    if (a.rstd) a.rstd[row] = rstd;
    const auto normal = [mean_v, rstd_v](auto v)
                            HWY_ATTR { return hn::Mul(hn::Sub(v, mean_v), rstd_v); };
    if (a.weight && a.bias) {
        map_vectors(
            y, cols,
            [normal](auto v, auto w, auto b) HWY_ATTR { return hn::MulAdd(normal(v), w, b); }, x,
            a.weight, a.bias);
    } else if (a.weight) {
        map_vectors(
            y, cols, [normal](auto v, auto w) HWY_ATTR { return hn::Mul(normal(v), w); }, x,
            a.weight);
    } else if (a.bias) {
        map_vectors(
            y, cols, [normal](auto v, auto b) HWY_ATTR { return hn::Add(normal(v), b); }, x,
            a.bias);
    } else {
        map_vectors(y, cols, normal, x);
    }
}

template <class T>
void layer_norm(Context& context, const LayerNormArgs<T>& a) {
    if (a.cols == 0) return;
    context.pool->for_ranges(a.rows, rows_per_chunk(a.cols), [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) layer_norm_row<T>(a, row);
    });
}

// One row: the gradients of weight and bias are added to `dweight` and `dbias` (cols, null:
// skipped), then dx is written.
template <class T, bool weighted>
void layer_norm_backward_row(const LayerNormBackwardArgs<T>& a, int64_t row, T* dweight, T* dbias) {
    const Tag<T> d;
    constexpr int64_t N = lanes_of<T>();
    const int64_t cols = a.cols;
    const T* dy = a.dy + row * cols;
    const T* x = a.x + row * cols;
    const auto mean = hn::Set(d, a.mean[row]), rstd = hn::Set(d, a.rstd[row]);
    const auto normal = [mean, rstd](auto v) HWY_ATTR { return hn::Mul(hn::Sub(v, mean), rstd); };
    if (dweight) {
        map_vectors(
            dweight, cols,
            [normal](auto sum, auto g, auto v) HWY_ATTR { return hn::MulAdd(g, normal(v), sum); },
            dweight, dy, x);
    }
    if (dbias) {
        map_vectors(
            dbias, cols, [](auto sum, auto g) HWY_ATTR { return hn::Add(sum, g); }, dbias, dy);
    }
    if (!a.dx) return;
    // With g = dy * weight: sum of g and sum of g * normal(x).
    auto g0 = hn::Zero(d), g1 = hn::Zero(d), gx0 = hn::Zero(d), gx1 = hn::Zero(d);
    const T* weight = weighted ? a.weight : dy;
    const auto times_weight = [](auto g, auto w) HWY_ATTR {
        if constexpr (weighted) return hn::Mul(g, w);
        (void)w;
        return g;
    };
    int64_t i = 0;
    for (; i + 2 * N <= cols; i += 2 * N) {
        const auto u = times_weight(hn::LoadU(d, dy + i), hn::LoadU(d, weight + i));
        const auto v = times_weight(hn::LoadU(d, dy + i + N), hn::LoadU(d, weight + i + N));
        g0 = hn::Add(g0, u);
        g1 = hn::Add(g1, v);
        gx0 = hn::MulAdd(u, normal(hn::LoadU(d, x + i)), gx0);
        gx1 = hn::MulAdd(v, normal(hn::LoadU(d, x + i + N)), gx1);
    }
    for (; i < cols; i += N) {
        const size_t n = static_cast<size_t>(std::min(cols - i, N));
        const auto u = times_weight(load_n(d, dy + i, n), load_n(d, weight + i, n));
        g0 = hn::Add(g0, u);
        gx0 = hn::MulAdd(u, hn::IfThenElseZero(hn::FirstN(d, n), normal(load_n(d, x + i, n))), gx0);
    }
    const T scale = T{1} / static_cast<T>(cols);
    const auto mean_g = hn::Set(d, scale * hn::GetLane(hn::SumOfLanes(d, hn::Add(g0, g1))));
    const auto mean_gx = hn::Set(d, scale * hn::GetLane(hn::SumOfLanes(d, hn::Add(gx0, gx1))));
    map_vectors(
        a.dx + row * cols, cols,
        [=](auto g, auto v, auto w) HWY_ATTR {
            const auto centred = hn::Sub(times_weight(g, w), mean_g);
            return hn::Mul(rstd, hn::NegMulAdd(normal(v), mean_gx, centred));
        },
        dy, x, weight);
}

template <class T>
void layer_norm_backward_rows(const LayerNormBackwardArgs<T>& a, int64_t begin, int64_t end,
                              T* dweight, T* dbias) {
    if (dweight) std::fill_n(dweight, a.cols, T{0});
    if (dbias) std::fill_n(dbias, a.cols, T{0});
    for (int64_t row = begin; row < end; ++row) {
        if (a.weight)
            layer_norm_backward_row<T, true>(a, row, dweight, dbias);
        else
            layer_norm_backward_row<T, false>(a, row, dweight, dbias);
    }
}

// dst[c] += the sum over p of partial[p * stride + c], in the order of p, c in [begin, end).
template <class T>
void add_partials(T* dst, const T* partial, int64_t partials, int64_t stride, int64_t begin,
                  int64_t end) {
    constexpr int64_t kBlock = 256;
    double sum[kBlock];
    for (int64_t c = begin; c < end; c += kBlock) {
        const int64_t n = std::min(end - c, kBlock);
        std::fill_n(sum, n, 0.0);
        for (int64_t p = 0; p < partials; ++p)
            for (int64_t i = 0; i < n; ++i)
                sum[i] += static_cast<double>(partial[p * stride + c + i]);
        for (int64_t i = 0; i < n; ++i) dst[c + i] += static_cast<T>(sum[i]);
    }
}

template <class T>
void layer_norm_backward(Context& context, const LayerNormBackwardArgs<T>& a) {
    if (a.cols == 0 || a.rows == 0) return;
    const int64_t grain = rows_per_partial(a.rows, a.cols);
    const int64_t partials = ceil_div(a.rows, grain);
    const int64_t cols = a.cols, stride = 2 * cols;
    const bool sums = a.dweight || a.dbias;
    Loan<T> partial(*context.workspace, sums ? partials * stride : 0);  // (partials, 2, cols)
    context.pool->for_ranges(a.rows, grain, [&](int64_t begin, int64_t end) {
        T* mine = partial.data() + begin / grain * stride;
        layer_norm_backward_rows<T>(a, begin, end, a.dweight ? mine : nullptr,
                                    a.dbias ? mine + cols : nullptr);
    });
    if (!sums) return;
    context.pool->for_ranges(
        cols, std::max<int64_t>(64, kChunkElements / partials), [&](int64_t begin, int64_t end) {
            if (a.dweight) add_partials(a.dweight, partial.data(), partials, stride, begin, end);
            if (a.dbias) add_partials(a.dbias, partial.data() + cols, partials, stride, begin, end);
        });
}

template <class T>
void l2_normalize_row(T* y, T* norm, const T* x, int64_t cols, double eps) {
    const Tag<T> d;
    const T length = std::sqrt(sum_vectors<T>(
        cols, [](auto v) HWY_ATTR { return hn::Mul(v, v); }, x));
    *norm = length;
    // Written so that a NaN length stays one.
    const T divisor = length < static_cast<T>(eps) ? static_cast<T>(eps) : length;
    const auto divisor_v = hn::Set(d, divisor);
    map_vectors(
        y, cols, [divisor_v](auto v) HWY_ATTR { return hn::Div(v, divisor_v); }, x);
}

template <class T>
void l2_normalize(Context& context, T* y, T* norm, const T* x, int64_t rows, int64_t cols,
                  double eps) {
    context.pool->for_ranges(rows, rows_per_chunk(cols), [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row)
            l2_normalize_row(y + row * cols, norm + row, x + row * cols, cols, eps);
    });
}

template <class T>
void l2_normalize_backward_row(T* dx, const T* dy, const T* y, T norm, int64_t cols, double eps) {
    const Tag<T> d;
    if (norm < static_cast<T>(eps)) {  // the divisor was the constant eps
        const auto divisor = hn::Set(d, static_cast<T>(eps));
        map_vectors(
            dx, cols, [divisor](auto g) HWY_ATTR { return hn::Div(g, divisor); }, dy);
        return;
    }
    const auto along =
        hn::Set(d, sum_vectors<T>(
                       cols, [](auto g, auto v) HWY_ATTR { return hn::Mul(g, v); }, dy, y));
    const auto divisor = hn::Set(d, norm);
    map_vectors(
        dx, cols,
        [along, divisor](auto g, auto v)
            HWY_ATTR { return hn::Div(hn::NegMulAdd(v, along, g), divisor); },
        dy, y);
}

template <class T>
void l2_normalize_backward(Context& context, T* dx, const T* dy, const T* y, const T* norm,
                           int64_t rows, int64_t cols, double eps) {
    context.pool->for_ranges(rows, rows_per_chunk(cols), [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row)
            l2_normalize_backward_row(dx + row * cols, dy + row * cols, y + row * cols, norm[row],
                                      cols, eps);
    });
}

template <class T>
void fill_table(NormKernels<T>& table) {
    table.layer_norm = layer_norm<T>;
    table.layer_norm_backward = layer_norm_backward<T>;
    table.l2_normalize = l2_normalize<T>;
    table.l2_normalize_backward = l2_normalize_backward<T>;
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
void fill_norm(Backend& b) {
    HWY_DYNAMIC_DISPATCH(fill)(b);
}
}  // namespace mc
#endif
