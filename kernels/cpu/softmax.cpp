// Softmax over rows and the losses on top of it. A row is read from memory once; its later passes
// find it in cache.
#include "kernels/softmax.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/backend.h"
#include "kernels/cpu/chunking.h"
#include "kernels/cpu/fill.h"
#include "kernels/cpu/simd_targets.h"
#include "kernels/cpu/thread_pool.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/softmax.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mc {
namespace HWY_NAMESPACE {
namespace {

template <class T>
constexpr T kInf = std::numeric_limits<T>::infinity();

// The largest element, -inf if there is none; with a NaN among them anything (the exponentials' sum
// shows it). Meanwhile what lies kFetchAhead further on is fetched.
template <class T>
T row_max(const T* x, int64_t cols) {
    const Tag<T> d;
    constexpr int64_t N = lanes_of<T>();
    auto m0 = hn::Set(d, -kInf<T>), m1 = m0;
    int64_t i = 0;
    for (; i + 2 * N <= cols; i += 2 * N) {
        hwy::Prefetch(x + i + kFetchAhead<T>);
        hwy::Prefetch(x + i + N + kFetchAhead<T>);
        m0 = hn::Max(hn::LoadU(d, x + i), m0);
        m1 = hn::Max(hn::LoadU(d, x + i + N), m1);
    }
    T m = hn::GetLane(hn::MaxOfLanes(d, hn::Max(m0, m1)));
    for (; i < cols; ++i) m = x[i] > m ? x[i] : m;
    return m;
}

// y = exp(x - shift), their sum returned. y may be null.
template <class T>
T exp_row(T* y, const T* x, T shift, int64_t cols) {
    const Tag<T> d;
    constexpr int64_t N = lanes_of<T>();
    const auto shift_v = hn::Set(d, shift);
    auto s0 = hn::Zero(d), s1 = hn::Zero(d);
    int64_t i = 0;
    for (; i + 2 * N <= cols; i += 2 * N) {
        const auto u = vexp(d, hn::Sub(hn::LoadU(d, x + i), shift_v));
        const auto v = vexp(d, hn::Sub(hn::LoadU(d, x + i + N), shift_v));
        if (y) {
            hn::StoreU(u, d, y + i);
            hn::StoreU(v, d, y + i + N);
        }
        s0 = hn::Add(s0, u);
        s1 = hn::Add(s1, v);
    }
    for (; i < cols; i += N) {
        const size_t n = static_cast<size_t>(std::min(cols - i, N));
        const auto u = vexp(d, hn::Sub(load_n(d, x + i, n), shift_v));
        if (y) store_n(u, d, y + i, n);
        s0 = hn::Add(s0, hn::IfThenElseZero(hn::FirstN(d, n), u));
    }
    return hn::GetLane(hn::SumOfLanes(d, hn::Add(s0, s1)));
}

// True if every element is -inf, given that none is greater.
template <class T>
bool all_masked(const T* x, T max, int64_t cols) {
    return max == -kInf<T> && std::none_of(x, x + cols, [](T v) { return std::isnan(v); });
}

template <class T>
void softmax_row(T* y, const T* x, int64_t cols) {
    const T max = row_max(x, cols);
    if (all_masked(x, max, cols)) {
        std::fill_n(y, cols, T{0});
        return;
    }
    const auto scale = hn::Set(Tag<T>(), T{1} / exp_row(y, x, max, cols));
    map_vectors(
        y, cols, [scale](auto v) HWY_ATTR { return hn::Mul(v, scale); }, y);
}

template <class T>
void softmax(Context& context, T* y, const T* x, int64_t rows, int64_t cols) {
    context.pool->for_ranges(rows, rows_per_chunk(cols), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) softmax_row(y + r * cols, x + r * cols, cols);
    });
}

template <class T>
void softmax_backward_row(T* dx, const T* dy, const T* y, int64_t cols) {
    const auto along =
        hn::Set(Tag<T>(), sum_vectors<T>(
                              cols, [](auto g, auto v) HWY_ATTR { return hn::Mul(g, v); }, dy, y));
    map_vectors(
        dx, cols, [along](auto g, auto v) HWY_ATTR { return hn::Mul(v, hn::Sub(g, along)); }, dy,
        y);
}

template <class T>
void softmax_backward(Context& context, T* dx, const T* dy, const T* y, int64_t rows,
                      int64_t cols) {
    context.pool->for_ranges(rows, rows_per_chunk(cols), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r)
            softmax_backward_row(dx + r * cols, dy + r * cols, y + r * cols, cols);
    });
}

// max and log(sum(exp(x - max))): the log-sum-exp in two parts.
template <class T>
struct LogSum {
    T max, log_sum;
};
template <class T>
LogSum<T> log_sum_exp(const T* x, int64_t cols) {
    const T max = row_max(x, cols);
    if (all_masked(x, max, cols)) return {max, 0};
    return {max, std::log(exp_row<T>(nullptr, x, max, cols))};
}

template <class T>
void log_softmax_row(T* y, const T* x, int64_t cols) {
    const LogSum<T> lse = log_sum_exp(x, cols);
    if (all_masked(x, lse.max, cols)) {  // exp of this is the zeros of softmax
        std::fill_n(y, cols, -kInf<T>);
        return;
    }
    const auto max = hn::Set(Tag<T>(), lse.max), log_sum = hn::Set(Tag<T>(), lse.log_sum);
    map_vectors(
        y, cols, [max, log_sum](auto v) HWY_ATTR { return hn::Sub(hn::Sub(v, max), log_sum); }, x);
}

template <class T>
void log_softmax(Context& context, T* y, const T* x, int64_t rows, int64_t cols) {
    context.pool->for_ranges(rows, rows_per_chunk(cols), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) log_softmax_row(y + r * cols, x + r * cols, cols);
    });
}

template <class T>
void log_softmax_backward_row(T* dx, const T* dy, const T* y, int64_t cols) {
    const Tag<T> d;
    const auto total = hn::Set(d, sum_vectors<T>(
                                      cols, [](auto g) HWY_ATTR { return g; }, dy));
    map_vectors(
        dx, cols,
        [d, total](auto g, auto v) HWY_ATTR { return hn::NegMulAdd(vexp(d, v), total, g); }, dy, y);
}

template <class T>
void log_softmax_backward(Context& context, T* dx, const T* dy, const T* y, int64_t rows,
                          int64_t cols) {
    context.pool->for_ranges(rows, rows_per_chunk(cols), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r)
            log_softmax_backward_row(dx + r * cols, dy + r * cols, y + r * cols, cols);
    });
}

template <class T>
using CrossEntropyArgs = typename SoftmaxKernels<T>::CrossEntropyArgs;
template <class T>
using CrossEntropyBackwardArgs = typename SoftmaxKernels<T>::CrossEntropyBackwardArgs;

template <class T>
void cross_entropy_row(const CrossEntropyArgs<T>& a, int64_t row) {
    if (a.label[row] == a.ignore) {
        a.loss[row] = 0;
        a.lse[row] = 0;
        return;
    }
    const T* x = a.x + row * a.cols;
    const LogSum<T> lse = log_sum_exp(x, a.cols);
    a.lse[row] = lse.max + lse.log_sum;
    // The large parts cancel first: max - x, not lse - x.
    T loss = (lse.max - x[a.label[row]]) + lse.log_sum;
    if (a.smoothing != 0) {
        const auto max = hn::Set(Tag<T>(), lse.max);
        const T below = sum_vectors<T>(
            a.cols, [max](auto v) HWY_ATTR { return hn::Sub(max, v); }, x);
        const T mean = below / static_cast<T>(a.cols) + lse.log_sum;
        loss = static_cast<T>(1 - a.smoothing) * loss + static_cast<T>(a.smoothing) * mean;
    }
    a.loss[row] = loss;
}

template <class T>
void cross_entropy(Context& context, const CrossEntropyArgs<T>& a) {
    context.pool->for_ranges(a.rows, rows_per_chunk(a.cols), [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) cross_entropy_row<T>(a, row);
    });
}

template <class T>
void cross_entropy_backward_row(const CrossEntropyBackwardArgs<T>& a, int64_t row) {
    T* dx = a.dx + row * a.cols;
    if (a.label[row] == a.ignore) {
        std::fill_n(dx, a.cols, T{0});
        return;
    }
    const Tag<T> d;
    const T scale = a.scale[row];
    const auto scale_v = hn::Set(d, scale), lse = hn::Set(d, a.lse[row]);
    const auto even = hn::Set(d, static_cast<T>(a.smoothing / static_cast<double>(a.cols)));
    map_vectors(
        dx, a.cols,
        [d, scale_v, lse, even](auto v)
            HWY_ATTR { return hn::Mul(scale_v, hn::Sub(vexp(d, hn::Sub(v, lse)), even)); },
        a.x + row * a.cols);
    dx[a.label[row]] -= scale * static_cast<T>(1 - a.smoothing);
}

template <class T>
void cross_entropy_backward(Context& context, const CrossEntropyBackwardArgs<T>& a) {
    context.pool->for_ranges(a.rows, rows_per_chunk(a.cols), [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) cross_entropy_backward_row<T>(a, row);
    });
}

template <class T>
void smooth_l1_range(T* dst, const T* a, const T* b, T beta, int64_t n) {
    const Tag<T> d;
    const auto beta_v = hn::Set(d, beta), half = hn::Set(d, T{0.5});
    const auto half_beta = hn::Set(d, beta * T{0.5});
    map_vectors(
        dst, n,
        [=](auto u, auto v) HWY_ATTR {
            const auto size = hn::Abs(hn::Sub(u, v));
            const auto square = hn::Div(hn::Mul(half, hn::Mul(size, size)), beta_v);
            return hn::IfThenElse(hn::Lt(size, beta_v), square, hn::Sub(size, half_beta));
        },
        a, b);
}

template <class T>
void smooth_l1(Context& context, T* dst, const T* a, const T* b, T beta, int64_t n) {
    context.pool->for_ranges(n, kChunkElements, [&](int64_t begin, int64_t end) {
        smooth_l1_range(dst + begin, a + begin, b + begin, beta, end - begin);
    });
}

template <class T>
void smooth_l1_backward_range(T* dst, const T* grad, const T* a, const T* b, T beta, int64_t n) {
    const Tag<T> d;
    const auto beta_v = hn::Set(d, beta), one = hn::Set(d, T{1}), zero = hn::Zero(d);
    map_vectors(
        dst, n,
        [=](auto g, auto u, auto v) HWY_ATTR {
            const auto diff = hn::Sub(u, v);
            // Comparisons, so that a NaN stays one and 0 (where beta is 0) has slope 0.
            const auto sign = hn::IfThenElse(
                hn::Gt(diff, zero), one, hn::IfThenElse(hn::Lt(diff, zero), hn::Neg(one), diff));
            const auto slope =
                hn::IfThenElse(hn::Lt(hn::Abs(diff), beta_v), hn::Div(diff, beta_v), sign);
            return hn::Mul(g, slope);
        },
        grad, a, b);
}

template <class T>
void smooth_l1_backward(Context& context, T* dst, const T* grad, const T* a, const T* b, T beta,
                        int64_t n) {
    context.pool->for_ranges(n, kChunkElements, [&](int64_t begin, int64_t end) {
        smooth_l1_backward_range(dst + begin, grad + begin, a + begin, b + begin, beta,
                                 end - begin);
    });
}

template <class T>
void fill_table(SoftmaxKernels<T>& table) {
    table.softmax = softmax<T>;
    table.softmax_backward = softmax_backward<T>;
    table.log_softmax = log_softmax<T>;
    table.log_softmax_backward = log_softmax_backward<T>;
    table.cross_entropy = cross_entropy<T>;
    table.cross_entropy_backward = cross_entropy_backward<T>;
    table.smooth_l1 = smooth_l1<T>;
    table.smooth_l1_backward = smooth_l1_backward<T>;
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
void fill_softmax(Backend& b) {
    HWY_DYNAMIC_DISPATCH(fill)(b);
}
}  // namespace mc
#endif
