// Layer norm and l2 normalisation: a warp or a block a row. Gradients of weight and bias take a
// second way through the rows, along columns, so that neither needs atomics. Group and batch norm:
// sums of rows (sample, channel) first, then in double of a set's rows, then all elements.
#include "kernels/norm.h"

#include "kernels/cuda/fill.h"
#include "kernels/cuda/math.h"
#include "kernels/cuda/partials.h"
#include "kernels/cuda/team.h"

namespace mc::cuda {

namespace {

template <class T>
using LayerNormArgs = typename NormKernels<T>::LayerNormArgs;
template <class T>
using LayerNormBackwardArgs = typename NormKernels<T>::LayerNormBackwardArgs;

template <class T, class Team>
__global__ void layer_norm_kernel(LayerNormArgs<T> a) {
    const int64_t row = Team::row();
    if (row >= a.rows) return;
    const int64_t first = row * a.cols;
    const T count = static_cast<T>(a.cols);
    // A thread reads again what it wrote itself: the sum with the residual lies in `sum`, or in y
    // until that is overwritten.
    T* kept = a.sum ? a.sum : a.y;
    T total = 0;
    for (int64_t c = Team::rank(); c < a.cols; c += Team::kSize) {
        T v = a.x[first + c];
        if (a.residual) v += a.residual[first + c];
        if (a.residual || a.sum) kept[first + c] = v;
        total += v;
    }
    const T mean = Team::sum(total) / count;
    const T* x = a.residual || a.sum ? kept : a.x;
    T squares = 0;
    for (int64_t c = Team::rank(); c < a.cols; c += Team::kSize) {
        const T centred = x[first + c] - mean;
        squares = multiply_add(centred, centred, squares);
    }
    const T variance = Team::sum(squares) / count;
    const T rstd = T{1} / sqrt_of(variance + static_cast<T>(a.eps));
    if (Team::rank() == 0) {
        if (a.mean) a.mean[row] = mean;
        if (a.rstd) a.rstd[row] = rstd;
    }
    for (int64_t c = Team::rank(); c < a.cols; c += Team::kSize) {
        T v = (x[first + c] - mean) * rstd;
        if (a.weight) v *= a.weight[c];
        if (a.bias) v += a.bias[c];
        a.y[first + c] = v;
    }
}

template <class T, class Team>
__global__ void layer_norm_backward_kernel(LayerNormBackwardArgs<T> a) {
    const int64_t row = Team::row();
    if (row >= a.rows) return;
    const int64_t first = row * a.cols;
    const T mean = a.mean[row], rstd = a.rstd[row];
    // With g = dy * weight: the means of g and of g * normal(x).
    T g_sum = 0, gx_sum = 0;
    for (int64_t c = Team::rank(); c < a.cols; c += Team::kSize) {
        const T g = a.weight ? a.dy[first + c] * a.weight[c] : a.dy[first + c];
        g_sum += g;
        gx_sum = multiply_add(g, (a.x[first + c] - mean) * rstd, gx_sum);
    }
    const T scale = T{1} / static_cast<T>(a.cols);
    const T mean_g = scale * Team::sum(g_sum), mean_gx = scale * Team::sum(gx_sum);
    for (int64_t c = Team::rank(); c < a.cols; c += Team::kSize) {
        const T g = a.weight ? a.dy[first + c] * a.weight[c] : a.dy[first + c];
        const T normal = (a.x[first + c] - mean) * rstd;
        a.dx[first + c] = rstd * multiply_add(-normal, mean_gx, g - mean_g);
    }
}

// partial (parts, 2, cols): what the rows of each part give weight and bias. A block has 32 columns
// and one part; its threads take every eighth row.
template <class T>
__global__ void parameter_partials_kernel(T* partial, LayerNormBackwardArgs<T> a,
                                          int64_t rows_per_part) {
    __shared__ T weights[kColumnThreads][32], biases[kColumnThreads][32];
    const int64_t col = static_cast<int64_t>(blockIdx.x) * 32 + threadIdx.x, part = blockIdx.y;
    const int64_t begin = part * rows_per_part;
    const int64_t end = begin + rows_per_part < a.rows ? begin + rows_per_part : a.rows;
    T weight = 0, bias = 0;
    if (col < a.cols) {
        for (int64_t row = begin + threadIdx.y; row < end; row += kColumnThreads) {
            const T dy = a.dy[row * a.cols + col];
            const T normal = (a.x[row * a.cols + col] - a.mean[row]) * a.rstd[row];
            weight = multiply_add(dy, normal, weight);
            bias += dy;
        }
    }
    weights[threadIdx.y][threadIdx.x] = weight;
    biases[threadIdx.y][threadIdx.x] = bias;
    __syncthreads();
    if (threadIdx.y != 0 || col >= a.cols) return;
    for (int i = 1; i < kColumnThreads; ++i) {
        weight += weights[i][threadIdx.x];
        bias += biases[i][threadIdx.x];
    }
    partial[2 * part * a.cols + col] = weight;
    partial[(2 * part + 1) * a.cols + col] = bias;
}

template <class T, class Team>
__global__ void l2_normalize_kernel(T* y, T* norm, const T* x, int64_t rows, int64_t cols, T eps) {
    const int64_t row = Team::row();
    if (row >= rows) return;
    const int64_t first = row * cols;
    T squares = 0;
    for (int64_t c = Team::rank(); c < cols; c += Team::kSize)
        squares = multiply_add(x[first + c], x[first + c], squares);
    const T length = sqrt_of(Team::sum(squares));
    if (Team::rank() == 0) norm[row] = length;
    const T divisor = length < eps ? eps : length;  // a NaN length stays one
    for (int64_t c = Team::rank(); c < cols; c += Team::kSize)
        y[first + c] = x[first + c] / divisor;
}

template <class T, class Team>
__global__ void l2_normalize_backward_kernel(T* dx, const T* dy, const T* y, const T* norm,
                                             int64_t rows, int64_t cols, T eps) {
    const int64_t row = Team::row();
    if (row >= rows) return;
    const int64_t first = row * cols;
    const bool constant = norm[row] < eps;  // the divisor was eps
    T along = 0;
    if (!constant) {
        for (int64_t c = Team::rank(); c < cols; c += Team::kSize)
            along = multiply_add(dy[first + c], y[first + c], along);
        along = Team::sum(along);
    }
    const T divisor = constant ? eps : norm[row];
    for (int64_t c = Team::rank(); c < cols; c += Team::kSize) {
        const T g = constant ? dy[first + c] : multiply_add(-y[first + c], along, dy[first + c]);
        dx[first + c] = g / divisor;
    }
}

// ---- Group and batch norm -----------------------------------------------------------------------

template <class T>
using ChannelNormArgs = typename NormKernels<T>::ChannelNormArgs;
template <class T>
using GroupNormArgs = typename NormKernels<T>::GroupNormArgs;
template <class T>
using BatchNormArgs = typename NormKernels<T>::BatchNormArgs;
template <class T>
using ChannelNormBackwardArgs = typename NormKernels<T>::ChannelNormBackwardArgs;

// Rows of `length` elements, each by blockDim.x lanes: a power of two that divides a warp, so that
// short rows leave few lanes idle and neighbouring lanes read neighbouring elements.
Launch row_shape(const char* op, int64_t rows, int64_t length) {
    unsigned lanes = 1;
    while (lanes < 32 && lanes < length) lanes *= 2;
    const unsigned rows_per_block = 256 / lanes;
    return {grid_size(op, ceil_div(rows, rows_per_block)), dim3(lanes, rows_per_block)};
}
__device__ inline int64_t row_of_lanes() {
    return static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
}
// The sum over a row's lanes; all lanes of the warp call it.
template <class T>
__device__ inline T lanes_sum(T value) {
    for (int distance = static_cast<int>(blockDim.x) / 2; distance > 0; distance /= 2)
        value += __shfl_xor_sync(kAllLanes, value, distance);
    return value;
}

// A block has 32 sets; kColumnThreads threads share one.
Launch set_shape(const char* op, int64_t sets) {
    return {grid_size(op, ceil_div(sets, 32)), dim3(32, kColumnThreads)};
}
// The sum of f(row) over the thread's set; all threads of the block call it.
template <class F>
__device__ inline double set_sum(const ChannelSets& sets, int64_t set, const F& f) {
    __shared__ double part[kColumnThreads][32];
    double total = 0;
    if (set < sets.count)
        for (int64_t i = threadIdx.y; i < sets.rows; i += kColumnThreads)
            total += f(sets.row_of(set, i));
    __syncthreads();  // what an earlier call left has been read
    part[threadIdx.y][threadIdx.x] = total;
    __syncthreads();
    total = part[0][threadIdx.x];
    for (int i = 1; i < kColumnThreads; ++i) total += part[i][threadIdx.x];
    return total;
}

// By row: the mean, and the sum of squared deviations from it.
template <class T>
__global__ void row_moments_kernel(double* mean, double* squares, const T* x, int64_t rows,
                                   int64_t length) {
    const int64_t row = row_of_lanes();
    const int64_t own = row < rows ? length : 0;  // others stay for the shuffles
    T total = 0;
    for (int64_t t = threadIdx.x; t < own; t += blockDim.x) total += x[row * length + t];
    const T centre = lanes_sum(total) / static_cast<T>(length);
    T deviations = 0;
    for (int64_t t = threadIdx.x; t < own; t += blockDim.x) {
        const T centred = x[row * length + t] - centre;
        deviations = multiply_add(centred, centred, deviations);
    }
    deviations = lanes_sum(deviations);
    if (row >= rows || threadIdx.x != 0) return;
    mean[row] = static_cast<double>(centre);
    squares[row] = static_cast<double>(deviations);
}

// The running statistics of batch norm; all null of group norm.
template <class T>
struct Running {
    T *mean, *var;
    int64_t* batches;
    double momentum;

    __device__ void take_in(T& running, double value) const {
        running = static_cast<T>((1 - momentum) * static_cast<double>(running) + momentum * value);
    }
};

// mean and rstd of each set from its rows' moments (squares null: rows of one element); the running
// statistics take them in.
template <class T, class M>
__global__ void set_moments_kernel(ChannelNormArgs<T> a, Running<T> running, ChannelSets sets,
                                   const M* row_mean, const double* row_squares) {
    const int64_t set = static_cast<int64_t>(blockIdx.x) * 32 + threadIdx.x;
    const double length = static_cast<double>(a.length), rows = static_cast<double>(sets.rows);
    const double mean =
        set_sum(sets, set, [=](int64_t row) { return static_cast<double>(row_mean[row]); }) / rows;
    const double squares = set_sum(sets, set, [=](int64_t row) {
        const double centred = static_cast<double>(row_mean[row]) - mean;
        return length * centred * centred + (row_squares ? row_squares[row] : 0.0);
    });
    if (threadIdx.y != 0 || set >= sets.count) return;
    a.mean[set] = static_cast<T>(mean);
    a.rstd[set] = static_cast<T>(1.0 / sqrt_of(squares / (rows * length) + a.eps));
    if (!running.mean) return;
    running.take_in(running.mean[set], mean);
    running.take_in(running.var[set], squares / (rows * length - 1));
    if (set == 0 && running.batches) ++*running.batches;
}

template <class T>
__global__ void use_running_kernel(BatchNormArgs<T> a) {
    const int64_t c = global_thread();
    if (c >= a.channels) return;
    a.mean[c] = a.running_mean[c];
    a.rstd[c] = static_cast<T>(1.0 / sqrt_of(static_cast<double>(a.running_var[c]) + a.eps));
}

template <class T>
__global__ void normalize_kernel(ChannelNormArgs<T> a, ChannelSets sets) {
    const int64_t row = row_of_lanes();
    if (row >= sets.all_rows()) return;
    const int64_t set = sets.set_of(row), channel = row % sets.channels;
    const T mean = a.mean[set];
    const T scale = a.weight ? a.rstd[set] * a.weight[channel] : a.rstd[set];
    const T shift = a.bias ? a.bias[channel] : T{0};
    for (int64_t t = threadIdx.x; t < a.length; t += blockDim.x) {
        const int64_t at = row * a.length + t;
        a.y[at] = multiply_add(a.x[at] - mean, scale, shift);
    }
}

// By row: the sums of dy and of dy * normal(x).
template <class T>
__global__ void row_gradients_kernel(double* g, double* gx, ChannelNormBackwardArgs<T> a,
                                     ChannelSets sets) {
    const int64_t row = row_of_lanes(), rows = sets.all_rows();
    const int64_t own = row < rows ? a.length : 0;  // others stay for the shuffles
    const int64_t set = row < rows ? sets.set_of(row) : 0;
    const T mean = a.mean[set], rstd = a.rstd[set];
    T total = 0, tilted = 0;
    for (int64_t t = threadIdx.x; t < own; t += blockDim.x) {
        const T dy = a.dy[row * a.length + t];
        total += dy;
        tilted = multiply_add(dy, (a.x[row * a.length + t] - mean) * rstd, tilted);
    }
    total = lanes_sum(total);
    tilted = lanes_sum(tilted);
    if (row >= rows || threadIdx.x != 0) return;
    g[row] = static_cast<double>(total);
    gx[row] = static_cast<double>(tilted);
}

// dweight, dbias (channels) += the sums over a channel's rows.
template <class T>
__global__ void channel_gradients_kernel(T* dweight, T* dbias, const double* g, const double* gx,
                                         ChannelSets channels) {
    const int64_t c = static_cast<int64_t>(blockIdx.x) * 32 + threadIdx.x;
    const double weight = set_sum(channels, c, [=](int64_t row) { return gx[row]; });
    const double bias = set_sum(channels, c, [=](int64_t row) { return g[row]; });
    if (threadIdx.y != 0 || c >= channels.count) return;
    if (dweight) dweight[c] += static_cast<T>(weight);
    if (dbias) dbias[c] += static_cast<T>(bias);
}

// By set, times `scale`: the sums of dy * weight and of dy * weight * normal(x).
template <class T>
__global__ void set_gradients_kernel(T* set_g, T* set_gx, const double* g, const double* gx,
                                     const T* weight, double scale, ChannelSets sets) {
    const int64_t set = static_cast<int64_t>(blockIdx.x) * 32 + threadIdx.x;
    const auto weighted = [=](const double* sums) {
        return scale * set_sum(sets, set, [=](int64_t row) {
                   const double w = weight ? static_cast<double>(weight[row % sets.channels]) : 1.0;
                   return w * sums[row];
               });
    };
    const double mean_g = weighted(g), mean_gx = weighted(gx);
    if (threadIdx.y != 0 || set >= sets.count) return;
    set_g[set] = static_cast<T>(mean_g);
    set_gx[set] = static_cast<T>(mean_gx);
}

// mean_g, mean_gx (sets): null where mean and rstd are constants.
template <class T>
__global__ void channel_norm_backward_kernel(ChannelNormBackwardArgs<T> a, const T* mean_g,
                                             const T* mean_gx, ChannelSets sets) {
    const int64_t row = row_of_lanes();
    if (row >= sets.all_rows()) return;
    const int64_t set = sets.set_of(row);
    const T mean = a.mean[set], rstd = a.rstd[set];
    const T weight = a.weight ? a.weight[row % sets.channels] : T{1};
    const T down = mean_g ? mean_g[set] : T{0}, tilt = mean_gx ? mean_gx[set] : T{0};
    for (int64_t t = threadIdx.x; t < a.length; t += blockDim.x) {
        const int64_t at = row * a.length + t;
        const T normal = (a.x[at] - mean) * rstd;
        a.dx[at] = rstd * multiply_add(-normal, tilt, a.dy[at] * weight - down);
    }
}

// ---- Launchers ---------------------------------------------------------------------------------

template <class T>
void layer_norm(Context& context, const LayerNormArgs<T>& a) {
    if (a.rows <= 0 || a.cols <= 0) return;
    with_team(a.cols, [&](auto team) {
        using Team = decltype(team);
        launch("layer_norm", context, Team::shape("layer_norm", a.rows), layer_norm_kernel<T, Team>,
               a);
    });
}

template <class T>
void layer_norm_backward(Context& context, const LayerNormBackwardArgs<T>& a) {
    if (a.rows <= 0 || a.cols <= 0) return;
    const char* op = "layer_norm_backward";
    if (a.dweight || a.dbias) {  // before dx, which may overwrite dy
        const RowParts parts(a.rows);
        const DeviceLoan<T> partial(op, context, parts.count * 2 * a.cols);
        const dim3 grid(grid_size(op, ceil_div(a.cols, 32)), static_cast<unsigned>(parts.count));
        launch(op, context, {grid, dim3(32, kColumnThreads)}, parameter_partials_kernel<T>,
               partial.data(), a, parts.rows);
        add_partials(op, context, a.dweight, a.dbias, partial.data(), parts.count, 2 * a.cols,
                     a.cols);
    }
    if (!a.dx) return;
    with_team(a.cols, [&](auto team) {
        using Team = decltype(team);
        launch(op, context, Team::shape(op, a.rows), layer_norm_backward_kernel<T, Team>, a);
    });
}

template <class T>
void l2_normalize(Context& context, T* y, T* norm, const T* x, int64_t rows, int64_t cols,
                  double eps) {
    if (rows <= 0) return;
    with_team(cols, [&](auto team) {
        using Team = decltype(team);
        launch("l2_normalize", context, Team::shape("l2_normalize", rows),
               l2_normalize_kernel<T, Team>, y, norm, x, rows, cols, static_cast<T>(eps));
    });
}

template <class T>
void l2_normalize_backward(Context& context, T* dx, const T* dy, const T* y, const T* norm,
                           int64_t rows, int64_t cols, double eps) {
    if (rows <= 0 || cols <= 0) return;
    with_team(cols, [&](auto team) {
        using Team = decltype(team);
        launch("l2_normalize_backward", context, Team::shape("l2_normalize_backward", rows),
               l2_normalize_backward_kernel<T, Team>, dx, dy, y, norm, rows, cols,
               static_cast<T>(eps));
    });
}

// mean and rstd by the statistics of x.
template <class T>
void set_moments(const char* op, Context& context, const ChannelNormArgs<T>& a,
                 const ChannelSets& sets, const Running<T>& running) {
    const int64_t rows = sets.all_rows();
    const Launch shape = set_shape(op, sets.count);
    if (a.length == 1) {
        launch(op, context, shape, set_moments_kernel<T, T>, a, running, sets, a.x, nullptr);
        return;
    }
    const DeviceLoan<double> mean(op, context, rows), squares(op, context, rows);
    launch(op, context, row_shape(op, rows, a.length), row_moments_kernel<T>, mean.data(),
           squares.data(), a.x, rows, a.length);
    launch(op, context, shape, set_moments_kernel<T, double>, a, running, sets, mean.data(),
           squares.data());
}

template <class T>
void normalize(const char* op, Context& context, const ChannelNormArgs<T>& a,
               const ChannelSets& sets) {
    launch(op, context, row_shape(op, sets.all_rows(), a.length), normalize_kernel<T>, a, sets);
}

template <class T>
void group_norm(Context& context, const GroupNormArgs<T>& a) {
    const ChannelSets sets = ChannelSets::of_groups(a.batch, a.channels, a.groups);
    if (sets.all_rows() * a.length == 0) return;
    set_moments<T>("group_norm", context, a, sets, {});
    normalize<T>("group_norm", context, a, sets);
}

template <class T>
void batch_norm(Context& context, const BatchNormArgs<T>& a) {
    const char* op = "batch_norm";
    const ChannelSets sets = ChannelSets::of_channels(a.batch, a.channels);
    if (sets.all_rows() * a.length == 0) return;
    if (a.training)
        set_moments<T>(op, context, a, sets,
                       {a.running_mean, a.running_var, a.batches, a.momentum});
    else
        launch(op, context, {grid_size(op, ceil_div(a.channels, 128)), 128}, use_running_kernel<T>,
               a);
    normalize<T>(op, context, a, sets);
}

template <class T>
void channel_norm_backward(const char* op, Context& context, const ChannelNormBackwardArgs<T>& a,
                           const ChannelSets& sets, bool constant) {
    const int64_t rows = sets.all_rows();
    if (rows * a.length == 0) return;
    const DeviceLoan<double> g(op, context, rows), gx(op, context, rows);
    launch(op, context, row_shape(op, rows, a.length), row_gradients_kernel<T>, g.data(), gx.data(),
           a, sets);
    if (a.dweight || a.dbias)
        launch(op, context, set_shape(op, a.channels), channel_gradients_kernel<T>, a.dweight,
               a.dbias, g.data(), gx.data(), ChannelSets::of_channels(a.batch, a.channels));
    if (!a.dx) return;
    const DeviceLoan<T> set_g(op, context, constant ? 0 : sets.count),
        set_gx(op, context, constant ? 0 : sets.count);
    if (!constant)
        launch(op, context, set_shape(op, sets.count), set_gradients_kernel<T>, set_g.data(),
               set_gx.data(), g.data(), gx.data(), a.weight,
               1.0 / static_cast<double>(sets.rows * a.length), sets);
    launch(op, context, row_shape(op, rows, a.length), channel_norm_backward_kernel<T>, a,
           set_g.data(), set_gx.data(), sets);
}

template <class T>
void group_norm_backward(Context& context, const ChannelNormBackwardArgs<T>& a, int64_t groups) {
    channel_norm_backward<T>("group_norm_backward", context, a,
                             ChannelSets::of_groups(a.batch, a.channels, groups), false);
}

template <class T>
void batch_norm_backward(Context& context, const ChannelNormBackwardArgs<T>& a, bool training) {
    channel_norm_backward<T>("batch_norm_backward", context, a,
                             ChannelSets::of_channels(a.batch, a.channels), !training);
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

}  // namespace

void fill_norm(Backend& backend) {
    fill_table(backend.f32);
    fill_table(backend.f64);
}

}  // namespace mc::cuda
