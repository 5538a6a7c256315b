// Layer norm and l2 normalisation: a warp or a block a row. Gradients of weight and bias take a
// second way through the rows, along columns, so that neither needs atomics.
#include "kernels/norm.h"

#include "kernels/cuda/fill.h"
#include "kernels/cuda/math.h"
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

constexpr int kColumnThreads = 8;  // that share a column's rows

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

// dweight, dbias (cols) += the partials in order.
template <class T>
__global__ void add_partials_kernel(T* dweight, T* dbias, const T* partial, int64_t parts,
                                    int64_t cols) {
    const int64_t col = global_thread();
    if (col >= cols) return;
    double weight = 0, bias = 0;
    for (int64_t part = 0; part < parts; ++part) {
        weight += static_cast<double>(partial[2 * part * cols + col]);
        bias += static_cast<double>(partial[(2 * part + 1) * cols + col]);
    }
    if (dweight) dweight[col] += static_cast<T>(weight);
    if (dbias) dbias[col] += static_cast<T>(bias);
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
        // At least 64 rows a part, and at most 256 parts.
        int64_t rows_per_part = ceil_div(a.rows, 256);
        if (rows_per_part < 64) rows_per_part = 64;
        const int64_t parts = ceil_div(a.rows, rows_per_part);
        const DeviceLoan<T> partial(op, context, parts * 2 * a.cols);
        const dim3 grid(grid_size(op, ceil_div(a.cols, 32)), static_cast<unsigned>(parts));
        launch(op, context, {grid, dim3(32, kColumnThreads)}, parameter_partials_kernel<T>,
               partial.data(), a, rows_per_part);
        launch(op, context, {grid_size(op, ceil_div(a.cols, 128)), 128}, add_partials_kernel<T>,
               a.dweight, a.dbias, partial.data(), parts, a.cols);
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

template <class T>
void fill_table(NormKernels<T>& table) {
    table.layer_norm = layer_norm<T>;
    table.layer_norm_backward = layer_norm_backward<T>;
    table.l2_normalize = l2_normalize<T>;
    table.l2_normalize_backward = l2_normalize_backward<T>;
}

}  // namespace

void fill_norm(Backend& backend) {
    fill_table(backend.f32);
    fill_table(backend.f64);
}

}  // namespace mc::cuda
