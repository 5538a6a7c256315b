// Softmax over rows and the losses on top of it: a warp or a block a row. The row's later passes
// find it in the first-level cache.
#include "kernels/softmax.h"

#include "kernels/cuda/fill.h"
#include "kernels/cuda/map.h"
#include "kernels/cuda/math.h"
#include "kernels/cuda/team.h"

namespace mc::cuda {

namespace {

// The log-sum-exp of a row in two parts: the large one cancels first wherever it is used. `masked`:
// every element is -inf; then shift = 0 and log_sum = -inf.
template <class T>
struct LogSum {
    T shift, sum, log_sum;
    bool masked;
};

template <class T, class Team>
__device__ LogSum<T> log_sum_exp(const T* x, int64_t cols, Team) {
    T max = -kInf<T>;
    for (int64_t c = Team::rank(); c < cols; c += Team::kSize) max = Greater()(max, x[c]);
    max = Team::max(max);
    // Nothing seen: exp(-inf - 0) = 0 for all. A NaN, wherever it is, reaches the sum.
    const T shift = max == -kInf<T> ? T{0} : max;
    T sum = 0;
    for (int64_t c = Team::rank(); c < cols; c += Team::kSize) sum += exp_of(x[c] - shift);
    sum = Team::sum(sum);
    return {shift, sum, log_of(sum), sum == T{0}};
}

template <class T, class Team>
__global__ void softmax_kernel(T* y, const T* x, int64_t rows, int64_t cols) {
    const int64_t row = Team::row();
    if (row >= rows) return;
    y += row * cols;
    x += row * cols;
    const LogSum<T> l = log_sum_exp(x, cols, Team());
    const T scale = l.masked ? T{0} : T{1} / l.sum;
    for (int64_t c = Team::rank(); c < cols; c += Team::kSize)
        y[c] = exp_of(x[c] - l.shift) * scale;
}

template <class T, class Team>
__global__ void log_softmax_kernel(T* y, const T* x, int64_t rows, int64_t cols) {
    const int64_t row = Team::row();
    if (row >= rows) return;
    y += row * cols;
    x += row * cols;
    const LogSum<T> l = log_sum_exp(x, cols, Team());
    for (int64_t c = Team::rank(); c < cols; c += Team::kSize)
        y[c] = l.masked ? -kInf<T> : (x[c] - l.shift) - l.log_sum;
}

template <class T, class Team>
__global__ void softmax_backward_kernel(T* dx, const T* dy, const T* y, int64_t rows,
                                        int64_t cols) {
    const int64_t row = Team::row();
    if (row >= rows) return;
    const int64_t first = row * cols;
    T along = 0;
    for (int64_t c = Team::rank(); c < cols; c += Team::kSize)
        along = multiply_add(dy[first + c], y[first + c], along);
    along = Team::sum(along);
    for (int64_t c = Team::rank(); c < cols; c += Team::kSize)
        dx[first + c] = y[first + c] * (dy[first + c] - along);
}

template <class T, class Team>
__global__ void log_softmax_backward_kernel(T* dx, const T* dy, const T* y, int64_t rows,
                                            int64_t cols) {
    const int64_t row = Team::row();
    if (row >= rows) return;
    const int64_t first = row * cols;
    T total = 0;
    for (int64_t c = Team::rank(); c < cols; c += Team::kSize) total += dy[first + c];
    total = Team::sum(total);
    for (int64_t c = Team::rank(); c < cols; c += Team::kSize)
        dx[first + c] = multiply_add(-exp_of(y[first + c]), total, dy[first + c]);
}

template <class T>
using CrossEntropyArgs = typename SoftmaxKernels<T>::CrossEntropyArgs;
template <class T>
using CrossEntropyBackwardArgs = typename SoftmaxKernels<T>::CrossEntropyBackwardArgs;

template <class T, class Team>
__global__ void cross_entropy_kernel(CrossEntropyArgs<T> a) {
    const int64_t row = Team::row();
    if (row >= a.rows) return;
    const int64_t label = a.label[row];
    if (label == a.ignore) {  // the whole team
        if (Team::rank() == 0) a.loss[row] = a.lse[row] = T{0};
        return;
    }
    const T* x = a.x + row * a.cols;
    const LogSum<T> l = log_sum_exp(x, a.cols, Team());
    // Without smoothing nothing is multiplied by 0: 0 * inf is NaN.
    T below = 0;
    if (a.smoothing != 0) {
        for (int64_t c = Team::rank(); c < a.cols; c += Team::kSize) below += l.shift - x[c];
        below = Team::sum(below);
    }
    if (Team::rank() != 0) return;
    // The large parts cancel first: shift - x, not lse - x.
    T loss = (l.shift - x[label]) + l.log_sum;
    if (a.smoothing != 0) {
        const T mean = below / static_cast<T>(a.cols) + l.log_sum;
        loss = static_cast<T>(1 - a.smoothing) * loss + static_cast<T>(a.smoothing) * mean;
    }
    a.loss[row] = loss;
    a.lse[row] = l.shift + l.log_sum;
}

template <class T, class Team>
__global__ void cross_entropy_backward_kernel(CrossEntropyBackwardArgs<T> a) {
    const int64_t row = Team::row();
    if (row >= a.rows) return;
    const int64_t label = a.label[row], first = row * a.cols;
    const bool ignored = label == a.ignore;
    const T scale = a.scale[row], lse = a.lse[row];
    const T even = static_cast<T>(a.smoothing / static_cast<double>(a.cols));
    const T target = scale * static_cast<T>(1 - a.smoothing);
    for (int64_t c = Team::rank(); c < a.cols; c += Team::kSize) {
        const T v = scale * (exp_of(a.x[first + c] - lse) - even);
        a.dx[first + c] = ignored ? T{0} : (c == label ? v - target : v);
    }
}

template <class T>
struct SmoothL1 {
    T beta;
    __device__ T operator()(T a, T b) const {
        const T size = size_of_value(a - b);
        return size < beta ? T(0.5) * (size * size) / beta : size - beta * T(0.5);
    }
};

// Comparisons, so that a NaN stays one and 0 (where beta is 0) has slope 0.
template <class T>
struct SmoothL1Gradient {
    T beta;
    __device__ T operator()(T grad, T a, T b) const {
        const T d = a - b;
        const T sign = d > T{0} ? T{1} : (d < T{0} ? T{-1} : d);
        return grad * (size_of_value(d) < beta ? d / beta : sign);
    }
};

// ---- Launchers ---------------------------------------------------------------------------------

template <class T>
void softmax(Context& context, T* y, const T* x, int64_t rows, int64_t cols) {
    if (rows <= 0 || cols <= 0) return;
    with_team(cols, [&](auto team) {
        using Team = decltype(team);
        launch("softmax", context, Team::shape("softmax", rows), softmax_kernel<T, Team>, y, x,
               rows, cols);
    });
}

template <class T>
void log_softmax(Context& context, T* y, const T* x, int64_t rows, int64_t cols) {
    if (rows <= 0 || cols <= 0) return;
    with_team(cols, [&](auto team) {
        using Team = decltype(team);
        launch("log_softmax", context, Team::shape("log_softmax", rows),
               log_softmax_kernel<T, Team>, y, x, rows, cols);
    });
}

template <class T>
void softmax_backward(Context& context, T* dx, const T* dy, const T* y, int64_t rows,
                      int64_t cols) {
    if (rows <= 0 || cols <= 0) return;
    with_team(cols, [&](auto team) {
        using Team = decltype(team);
        launch("softmax_backward", context, Team::shape("softmax_backward", rows),
               softmax_backward_kernel<T, Team>, dx, dy, y, rows, cols);
    });
}

template <class T>
void log_softmax_backward(Context& context, T* dx, const T* dy, const T* y, int64_t rows,
                          int64_t cols) {
    if (rows <= 0 || cols <= 0) return;
    with_team(cols, [&](auto team) {
        using Team = decltype(team);
        launch("log_softmax_backward", context, Team::shape("log_softmax_backward", rows),
               log_softmax_backward_kernel<T, Team>, dx, dy, y, rows, cols);
    });
}

template <class T>
void cross_entropy(Context& context, const CrossEntropyArgs<T>& a) {
    if (a.rows <= 0) return;
    with_team(a.cols, [&](auto team) {
        using Team = decltype(team);
        launch("cross_entropy", context, Team::shape("cross_entropy", a.rows),
               cross_entropy_kernel<T, Team>, a);
    });
}

template <class T>
void cross_entropy_backward(Context& context, const CrossEntropyBackwardArgs<T>& a) {
    if (a.rows <= 0 || a.cols <= 0) return;
    with_team(a.cols, [&](auto team) {
        using Team = decltype(team);
        launch("cross_entropy_backward", context, Team::shape("cross_entropy_backward", a.rows),
               cross_entropy_backward_kernel<T, Team>, a);
    });
}

template <class T>
void smooth_l1(Context& context, T* dst, const T* a, const T* b, T beta, int64_t n) {
    map("smooth_l1", context, SmoothL1<T>{beta}, n, dst, a, b);
}

template <class T>
void smooth_l1_backward(Context& context, T* dst, const T* grad, const T* a, const T* b, T beta,
                        int64_t n) {
    map("smooth_l1_backward", context, SmoothL1Gradient<T>{beta}, n, dst, grad, a, b);
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

}  // namespace

void fill_softmax(Backend& backend) {
    fill_table(backend.f32);
    fill_table(backend.f64);
}

}  // namespace mc::cuda
