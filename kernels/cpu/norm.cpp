// Layer norm and l2 normalisation of rows, group and batch norm of channels. A row is read from
// memory once: its later passes find it in the first-level cache. What rows say of a set of
// channels is put together in double.
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
#include "kernels/cpu/partials-inl.h"
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
    const int64_t grain = even_rows_per_chunk(a.rows, a.cols);
    context.pool->for_ranges(a.rows, grain, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
            fetch_beyond(a.x + row * a.cols, a.cols);
            if (a.residual) fetch_beyond(a.residual + row * a.cols, a.cols);
            layer_norm_row<T>(a, row);
        }
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

// ---- Group and batch norm -----------------------------------------------------------------------

// Sets that are summed side by side, so that neighbouring rows are read together.
constexpr int64_t kSetBlock = 64;

// f(i, row) for every row of the sets begin + i, i < count <= kSetBlock; a set's rows in order.
template <class F>
void for_rows_of(const ChannelSets& sets, int64_t begin, int64_t count, F f) {
    for (int64_t r = 0; r < sets.rows; ++r)
        for (int64_t i = 0; i < count; ++i) f(i, sets.row_of(begin + i, r));
}

// take(set, mean, sum of squared deviations) for every set, from the means of its rows and from the
// sums within them; null where a row is one element.
template <class M, class Take>
void set_moments(Context& context, const ChannelSets& sets, const M* row_mean,
                 const double* row_squares, int64_t length, Take take) {
    context.pool->for_ranges(sets.count, kSetBlock, [&](int64_t begin, int64_t end) HWY_ATTR {
        double mean[kSetBlock] = {}, squares[kSetBlock] = {};
        const int64_t count = end - begin;
        for_rows_of(sets, begin, count,
                    [&](int64_t i, int64_t row) { mean[i] += static_cast<double>(row_mean[row]); });
        for (int64_t i = 0; i < count; ++i) mean[i] /= static_cast<double>(sets.rows);
        for_rows_of(sets, begin, count, [&](int64_t i, int64_t row) {
            const double centred = static_cast<double>(row_mean[row]) - mean[i];
            squares[i] += static_cast<double>(length) * centred * centred;
            if (row_squares) squares[i] += row_squares[row];
        });
        for (int64_t i = 0; i < count; ++i) take(begin + i, mean[i], squares[i]);
    });
}

template <class T, class Take>
void set_moments_of(Context& context, const ChannelSets& sets, const T* x, int64_t length,
                    Take take) {
    if (length == 1)
        return set_moments(context, sets, x, static_cast<const double*>(nullptr), length, take);
    const int64_t rows = sets.all_rows();
    Loan<double> mean(*context.workspace, rows), squares(*context.workspace, rows);
    context.pool->for_ranges(
        rows, rows_per_chunk(length), [&](int64_t begin, int64_t end) HWY_ATTR {
            for (int64_t row = begin; row < end; ++row) {
                const T* in = x + row * length;
                const T centre = sum_vectors<T>(
                                     length, [](auto v) HWY_ATTR { return v; }, in) /
                                 static_cast<T>(length);
                const auto centre_v = hn::Set(Tag<T>(), centre);
                mean[row] = static_cast<double>(centre);
                squares[row] = static_cast<double>(sum_vectors<T>(
                    length,
                    [centre_v](auto v) HWY_ATTR {
                        const auto centred = hn::Sub(v, centre_v);
                        return hn::Mul(centred, centred);
                    },
                    in));
            }
        });
    set_moments(context, sets, mean.data(), squares.data(), length, take);
}

// f(row, set, channel) for the rows of one period.
template <class F>
void for_period(Context& context, const ChannelSets& sets, F f) {
    context.pool->for_ranges(sets.count, rows_per_chunk(sets.width),
                             [&](int64_t begin, int64_t end) {
                                 for (int64_t set = begin; set < end; ++set) {
                                     const int64_t first = set * sets.width;
                                     const int64_t channel = first % sets.channels;
                                     for (int64_t i = 0; i < sets.width; ++i)
                                         f(first + i, set, channel + i);
                                 }
                             });
}

// f(element, n, k): n elements from there on, whose rows have the factors k, or k, k + 1, ... where
// a row is one element. Factors are by row, up to the period.
template <class F>
void for_spans(Context& context, const ChannelSets& sets, int64_t length, F f) {
    const int64_t period = sets.period();
    context.pool->for_ranges(
        sets.all_rows(), rows_per_chunk(length), [&](int64_t begin, int64_t end) {
            for (int64_t row = begin; row < end;) {
                const int64_t k = row % period;
                const int64_t rows = length == 1 ? std::min(end - row, period - k) : 1;
                f(row * length, rows * length, k);
                row += rows;
            }
        });
}

// y = (x - mean) * scale + shift, the factors by row as for_spans has them.
template <class T>
void normalize(Context& context, const typename NormKernels<T>::ChannelNormArgs& a,
               const ChannelSets& sets) {
    Workspace& workspace = *context.workspace;
    Loan<T> centre(workspace, sets.period()), scale(workspace, sets.period()),
        shift(workspace, sets.period());
    for_period(context, sets, [&](int64_t row, int64_t set, int64_t channel) {
        centre[row] = a.mean[set];
        scale[row] = a.weight ? a.rstd[set] * a.weight[channel] : a.rstd[set];
        shift[row] = a.bias ? a.bias[channel] : T{0};
    });
    for_spans(context, sets, a.length, [&](int64_t at, int64_t n, int64_t k) HWY_ATTR {
        const auto factors = [](auto v, auto c, auto s, auto b)
                                 HWY_ATTR { return hn::MulAdd(hn::Sub(v, c), s, b); };
        if (a.length == 1)
            return map_vectors(a.y + at, n, factors, a.x + at, centre.data() + k, scale.data() + k,
                               shift.data() + k);
        const Tag<T> d;
        const auto c = hn::Set(d, centre[k]), s = hn::Set(d, scale[k]), b = hn::Set(d, shift[k]);
        map_vectors(
            a.y + at, n, [=](auto v) HWY_ATTR { return factors(v, c, s, b); }, a.x + at);
    });
}

template <class T>
void group_norm(Context& context, const typename NormKernels<T>::GroupNormArgs& a) {
    const ChannelSets sets = ChannelSets::of_groups(a.batch, a.channels, a.groups);
    const int64_t set_size = sets.rows * a.length;
    if (sets.all_rows() * a.length == 0) return;
    set_moments_of(context, sets, a.x, a.length, [&](int64_t set, double mean, double squares) {
        a.mean[set] = static_cast<T>(mean);
        a.rstd[set] =
            static_cast<T>(1 / std::sqrt(squares / static_cast<double>(set_size) + a.eps));
    });
    normalize<T>(context, a, sets);
}

template <class T>
void batch_norm(Context& context, const typename NormKernels<T>::BatchNormArgs& a) {
    const ChannelSets sets = ChannelSets::of_channels(a.batch, a.channels);
    if (sets.all_rows() * a.length == 0) return;
    const double n = static_cast<double>(a.batch * a.length);
    if (a.training) {
        set_moments_of(context, sets, a.x, a.length, [&](int64_t c, double mean, double squares) {
            a.mean[c] = static_cast<T>(mean);
            a.rstd[c] = static_cast<T>(1 / std::sqrt(squares / n + a.eps));
            const auto take_in = [&](T& running, double value) {
                running = static_cast<T>((1 - a.momentum) * static_cast<double>(running) +
                                         a.momentum * value);
            };
            take_in(a.running_mean[c], mean);
            take_in(a.running_var[c], squares / (n - 1));
        });
        if (a.batches) ++*a.batches;
    } else {
        for (int64_t c = 0; c < a.channels; ++c) {
            a.mean[c] = a.running_mean[c];
            a.rstd[c] =
                static_cast<T>(1 / std::sqrt(static_cast<double>(a.running_var[c]) + a.eps));
        }
    }
    normalize<T>(context, a, sets);
}

// With g = dy * weight and n elements a set: dx = rstd (g - sum(g)/n - normal(x) sum(g
// normal(x))/n), the sums over the element's set; without them where mean and rstd are constants.
template <class T>
void channel_norm_backward(Context& context,
                           const typename NormKernels<T>::ChannelNormBackwardArgs& a,
                           const ChannelSets& sets, bool constant) {
    const int64_t rows = sets.all_rows(), period = sets.period(), length = a.length;
    if (rows * length == 0) return;
    Workspace& workspace = *context.workspace;
    // By row: the sums of dy and of dy * normal(x).
    Loan<double> g(workspace, rows), gx(workspace, rows);
    Loan<T> centre(workspace, period), scale(workspace, period), shift(workspace, period),
        slope(workspace, period);
    for_period(context, sets, [&](int64_t row, int64_t set, int64_t) {
        centre[row] = a.mean[set];
        scale[row] = a.rstd[set];
    });
    for_spans(context, sets, length, [&](int64_t at, int64_t n, int64_t k) HWY_ATTR {
        const T *dy = a.dy + at, *x = a.x + at;
        if (length == 1) {
            for (int64_t i = 0; i < n; ++i) {
                g[at + i] = static_cast<double>(dy[i]);
                gx[at + i] = static_cast<double>(dy[i] * ((x[i] - centre[k + i]) * scale[k + i]));
            }
            return;
        }
        const Tag<T> d;
        const auto c = hn::Set(d, centre[k]), s = hn::Set(d, scale[k]);
        g[at / length] = static_cast<double>(sum_vectors<T>(
            n, [](auto v) HWY_ATTR { return v; }, dy));
        gx[at / length] = static_cast<double>(sum_vectors<T>(
            n, [c, s](auto u, auto v) HWY_ATTR { return hn::Mul(u, hn::Mul(hn::Sub(v, c), s)); },
            dy, x));
    });
    if (a.dweight || a.dbias) {
        const ChannelSets channels = ChannelSets::of_channels(rows / a.channels, a.channels);
        context.pool->for_ranges(a.channels, kSetBlock, [&](int64_t begin, int64_t end) HWY_ATTR {
            double weight[kSetBlock] = {}, bias[kSetBlock] = {};
            for_rows_of(channels, begin, end - begin, [&](int64_t i, int64_t row) {
                weight[i] += gx[row];
                bias[i] += g[row];
            });
            for (int64_t c = begin; c < end; ++c) {
                if (a.dweight) a.dweight[c] += static_cast<T>(weight[c - begin]);
                if (a.dbias) a.dbias[c] += static_cast<T>(bias[c - begin]);
            }
        });
    }
    if (!a.dx) return;
    // dx = dy * scale - shift - (x - centre) * slope, the factors by row.
    context.pool->for_ranges(sets.count, kSetBlock, [&](int64_t begin, int64_t end) HWY_ATTR {
        double mean_g[kSetBlock] = {}, mean_gx[kSetBlock] = {};
        if (!constant)
            for_rows_of(sets, begin, end - begin, [&](int64_t i, int64_t row) {
                const double w =
                    a.weight ? static_cast<double>(a.weight[row % sets.channels]) : 1.0;
                mean_g[i] += w * g[row];
                mean_gx[i] += w * gx[row];
            });
        for (int64_t set = begin; set < end; ++set) {
            const double factor =
                static_cast<double>(a.rstd[set]) / static_cast<double>(sets.rows * length);
            const T down = static_cast<T>(factor * mean_g[set - begin]);
            const T tilt = a.rstd[set] * static_cast<T>(factor * mean_gx[set - begin]);
            const int64_t first = set * sets.width, channel = first % sets.channels;
            for (int64_t i = 0; i < sets.width; ++i) {
                scale[first + i] = a.weight ? a.rstd[set] * a.weight[channel + i] : a.rstd[set];
                shift[first + i] = down;
                slope[first + i] = tilt;
            }
        }
    });
    for_spans(context, sets, length, [&](int64_t at, int64_t n, int64_t k) HWY_ATTR {
        const auto gradient = [](auto u, auto v, auto c, auto s, auto b, auto t) HWY_ATTR {
            return hn::NegMulAdd(hn::Sub(v, c), t, hn::Sub(hn::Mul(u, s), b));
        };
        if (length == 1)
            return map_vectors(a.dx + at, n, gradient, a.dy + at, a.x + at, centre.data() + k,
                               scale.data() + k, shift.data() + k, slope.data() + k);
        const Tag<T> d;
        const auto c = hn::Set(d, centre[k]), s = hn::Set(d, scale[k]), b = hn::Set(d, shift[k]),
                   t = hn::Set(d, slope[k]);
        map_vectors(
            a.dx + at, n, [=](auto u, auto v) HWY_ATTR { return gradient(u, v, c, s, b, t); },
            a.dy + at, a.x + at);
    });
}

template <class T>
void group_norm_backward(Context& context,
                         const typename NormKernels<T>::ChannelNormBackwardArgs& a,
                         int64_t groups) {
    channel_norm_backward<T>(context, a, ChannelSets::of_groups(a.batch, a.channels, groups),
                             false);
}

template <class T>
void batch_norm_backward(Context& context,
                         const typename NormKernels<T>::ChannelNormBackwardArgs& a, bool training) {
    channel_norm_backward<T>(context, a, ChannelSets::of_channels(a.batch, a.channels), !training);
}

template <class T>
void fill_table(NormKernels<T>& table) {
    table.layer_norm = layer_norm<T>;
    table.layer_norm_backward = layer_norm_backward<T>;
    table.l2_normalize = l2_normalize<T>;
    table.l2_normalize_backward = l2_normalize_backward<T>;
    table.group_norm = group_norm<T>;
    table.group_norm_backward = group_norm_backward<T>;
    table.batch_norm = batch_norm<T>;
    table.batch_norm_backward = batch_norm_backward<T>;
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
