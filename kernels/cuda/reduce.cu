// Sums, maxima and searches. Sums accumulate in double for both dtypes (memory is what bounds
// them), over a fixed partition: long sums are cut into parts, and a second pass adds the parts.
#include "kernels/reduce.h"

#include "kernels/cuda/best.h"
#include "kernels/cuda/fill.h"
#include "kernels/cuda/group.h"
#include "kernels/cuda/math.h"
#include "kernels/cuda/shared_kernels.h"

namespace mc::cuda {

namespace {

constexpr int64_t kPartElements = 8192;  // of a row that one team adds up
constexpr int kColumnThreads = 8;        // that share a column
constexpr int64_t kPartRows = 512;       // of a column that one block adds up

// dst (rows, parts) = factor * the sum of src over each part of each row of src (rows, n).
template <class Dst, class Src, class Team>
__global__ void sum_rows_kernel(Dst* dst, const Src* src, double factor, int64_t rows, int64_t n,
                                int64_t parts, int64_t part_size) {
    const int64_t task = Team::row();
    if (task >= rows * parts) return;
    const int64_t begin = task % parts * part_size;
    const int64_t end = begin + part_size < n ? begin + part_size : n;
    src += task / parts * n;
    double sum = 0;
    for (int64_t i = begin + Team::rank(); i < end; i += Team::kSize)
        sum += static_cast<double>(src[i]);
    sum = Team::sum(sum);
    if (Team::rank() == 0) dst[task] = static_cast<Dst>(sum * factor);
}

// dst (outer, parts, inner) = factor * the sum over the rows of each part of src (outer, n, inner).
// A block has 32 columns and one part; its threads take every eighth row.
template <class Dst, class Src>
__global__ void sum_columns_kernel(Dst* dst, const Src* src, double factor, int64_t n,
                                   int64_t inner, int64_t parts, int64_t part_rows,
                                   int64_t column_blocks) {
    __shared__ double sums[kColumnThreads][32];
    const int64_t task = blockIdx.x / column_blocks;  // (outer, parts)
    const int64_t col = blockIdx.x % column_blocks * 32 + threadIdx.x;
    const int64_t begin = task % parts * part_rows;
    const int64_t end = begin + part_rows < n ? begin + part_rows : n;
    double sum = 0;
    if (col < inner) {
        const Src* from = src + task / parts * n * inner + col;
        for (int64_t r = begin + threadIdx.y; r < end; r += kColumnThreads)
            sum += static_cast<double>(from[r * inner]);
    }
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y != 0 || col >= inner) return;
    for (int i = 1; i < kColumnThreads; ++i) sum += sums[i][threadIdx.x];
    dst[task * inner + col] = static_cast<Dst>(sum * factor);
}

template <class T>
using Array = typename ReduceKernels<T>::Array;
template <class T>
using ArrayGroup = Group<Array<T>, 192>;
static_assert(sizeof(ArrayGroup<double>) + 2 * sizeof(void*) <= kMaxArgumentBytes);

// partial (chunks of the group) = the sum of squares of each; a block a chunk.
template <class T>
__global__ void squares_kernel(double* partial, ArrayGroup<T> group) {
    const int32_t chunk = static_cast<int32_t>(blockIdx.x);
    const int at = group.find(chunk);
    const Array<T> array = group.item[at];
    const int64_t begin = (chunk - group.begin(at)) * kPartElements;
    const int64_t end = begin + kPartElements < array.n ? begin + kPartElements : array.n;
    double sum = 0;
    for (int64_t i = begin + threadIdx.x; i < end; i += Team<8>::kSize) {
        const double v = static_cast<double>(array.data[i]);
        sum += v * v;
    }
    sum = Team<8>::sum(sum);
    if (threadIdx.x == 0) partial[chunk] = sum;
}

// dst (items of the group) = the sum of each one's chunks; a block an item.
template <class T>
__global__ void sum_of_chunks_kernel(double* dst, const double* partial, ArrayGroup<T> group) {
    const int at = static_cast<int>(blockIdx.x);
    double sum = 0;
    for (int32_t i = group.begin(at) + static_cast<int32_t>(threadIdx.x); i < group.end[at];
         i += Team<8>::kSize)
        sum += partial[i];
    sum = Team<8>::sum(sum);
    if (threadIdx.x == 0) dst[at] = sum;
}

template <class T, class Team>
__global__ void max_rows_kernel(T* dst, int64_t* index, const T* src, int64_t rows, int64_t n) {
    const int64_t row = Team::row();
    if (row >= rows) return;
    Best<T> best{T{0}, -1};
    for (int64_t i = Team::rank(); i < n; i += Team::kSize) {
        const Best<T> here{src[row * n + i], i};
        if (beats(here, best)) best = here;
    }
    best = team_best(Team(), best);
    if (Team::rank() != 0) return;
    dst[row] = best.value;
    if (index) index[row] = best.index;
}

// A thread a column.
template <class T>
__global__ void max_columns_kernel(T* dst, int64_t* index, const T* src, int64_t columns, int64_t n,
                                   int64_t inner) {
    for (int64_t i = global_thread(); i < columns; i += all_threads()) {
        const T* from = src + i / inner * n * inner + i % inner;
        Best<T> best{from[0], 0};
        for (int64_t r = 1; r < n; ++r) {
            const Best<T> here{from[r * inner], r};
            if (beats(here, best)) best = here;
        }
        dst[i] = best.value;
        if (index) index[i] = best.index;
    }
}

// partial (blocks) = the first index of src (n) in the block's share that is not finite, or n.
template <class T>
__global__ void first_non_finite_kernel(int64_t* partial, const T* src, int64_t n) {
    int64_t first = n;
    for (int64_t i = global_thread(); i < n && first == n; i += all_threads())
        if (src[i] - src[i] != T{0}) first = i;  // 0 for every finite x, NaN for the others
    first = Team<8>::reduce(first, Earlier());
    if (threadIdx.x == 0) partial[blockIdx.x] = first;
}

__global__ void first_of_partials_kernel(int64_t* dst, const int64_t* partial, int64_t parts,
                                         int64_t n) {
    int64_t first = n;
    for (int64_t i = threadIdx.x; i < parts; i += blockDim.x)
        first = partial[i] < first ? partial[i] : first;
    first = Team<8>::reduce(first, Earlier());
    if (threadIdx.x == 0) *dst = first < n ? first : -1;
}

// A block a row: a bitonic network over the positions in shared memory (Batcher 1968), padded to a
// power of two with positions that come last.
template <class T>
__global__ void sort_top_k_kernel(int64_t* index, const T* src, int64_t n, int64_t k, int size) {
    T* values = dynamic_shared<T>();
    int* positions = reinterpret_cast<int*>(values + size);
    const int64_t row = blockIdx.x;
    for (int i = static_cast<int>(threadIdx.x); i < size; i += static_cast<int>(blockDim.x)) {
        values[i] = i < n ? src[row * n + i] : T{0};
        positions[i] = i < n ? i : -1;
    }
    for (int run = 2; run <= size; run *= 2) {
        for (int distance = run / 2; distance > 0; distance /= 2) {
            __syncthreads();
            for (int p = static_cast<int>(threadIdx.x); p < size / 2;
                 p += static_cast<int>(blockDim.x)) {
                const int i = 2 * p - (p & (distance - 1)), j = i + distance;
                const Best<T> a{values[i], positions[i]}, b{values[j], positions[j]};
                const bool descending = (i & run) == 0;
                if (beats(b, a) != descending) continue;
                values[i] = b.value;
                values[j] = a.value;
                positions[i] = static_cast<int>(b.index);
                positions[j] = static_cast<int>(a.index);
            }
        }
    }
    __syncthreads();
    for (int64_t i = threadIdx.x; i < k; i += blockDim.x) index[row * k + i] = positions[i];
}

// A block a row too long for shared memory: k times the best of what comes after the last.
template <class T>
__global__ void select_top_k_kernel(int64_t* index, const T* src, int64_t n, int64_t k) {
    const int64_t row = blockIdx.x;
    Best<T> last{T{0}, -1};
    for (int64_t round = 0; round < k; ++round) {
        Best<T> best{T{0}, -1};
        for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
            const Best<T> here{src[row * n + i], i};
            if ((round == 0 || beats(last, here)) && beats(here, best)) best = here;
        }
        last = team_best(Team<8>(), best);
        if (threadIdx.x == 0) index[row * k + round] = last.index;
    }
}

// A row's running sum, a tile of the team's size after the other.
template <class T, class Team>
__global__ void cumsum_rows_kernel(T* dst, const T* src, int64_t rows, int64_t n, bool reverse) {
    const int64_t row = Team::row();
    if (row >= rows) return;
    double carry = 0;
    for (int64_t first = 0; first < n; first += Team::kSize) {
        const int64_t i = first + Team::rank();
        const int64_t at = row * n + (reverse ? n - 1 - i : i);
        const double value = i < n ? static_cast<double>(src[at]) : 0.0;
        const double before = Team::sum_before(value);
        if (i < n) dst[at] = static_cast<T>(carry + before + value);
        carry += Team::sum(value);
    }
}

// A thread a column.
template <class T>
__global__ void cumsum_columns_kernel(T* dst, const T* src, int64_t columns, int64_t n,
                                      int64_t inner, bool reverse) {
    for (int64_t c = global_thread(); c < columns; c += all_threads()) {
        const int64_t first = c / inner * n * inner + c % inner;
        double total = 0;
        for (int64_t r = 0; r < n; ++r) {
            const int64_t at = first + (reverse ? n - 1 - r : r) * inner;
            total += static_cast<double>(src[at]);
            dst[at] = static_cast<T>(total);
        }
    }
}

// ---- Launchers ---------------------------------------------------------------------------------

template <class Dst, class Src>
void sum_rows(const char* op, Context& context, Dst* dst, const Src* src, double factor,
              int64_t rows, int64_t n) {
    const int64_t parts = ceil_div(n, kPartElements) > 1 ? ceil_div(n, kPartElements) : 1;
    if (parts > 1) {
        const DeviceLoan<double> partial(op, context, rows * parts);
        launch(op, context, Team<8>::shape(op, rows * parts), sum_rows_kernel<double, Src, Team<8>>,
               partial.data(), src, 1.0, rows, n, parts, kPartElements);
        sum_rows(op, context, dst, static_cast<const double*>(partial.data()), factor, rows, parts);
        return;
    }
    with_team(n, [&](auto team) {
        using Team = decltype(team);
        launch(op, context, Team::shape(op, rows), sum_rows_kernel<Dst, Src, Team>, dst, src,
               factor, rows, n, int64_t{1}, n);
    });
}

template <class Dst, class Src>
void sum_columns(Context& context, Dst* dst, const Src* src, double factor, int64_t outer,
                 int64_t n, int64_t inner) {
    const int64_t parts = ceil_div(n, kPartRows) > 1 ? ceil_div(n, kPartRows) : 1;
    const int64_t column_blocks = ceil_div(inner, 32);
    const dim3 block(32, kColumnThreads);
    const Launch shape{grid_size("sum", outer * parts * column_blocks), block};
    if (parts == 1) {
        launch("sum", context, shape, sum_columns_kernel<Dst, Src>, dst, src, factor, n, inner,
               parts, n, column_blocks);
        return;
    }
    const DeviceLoan<double> partial("sum", context, outer * parts * inner);
    launch("sum", context, shape, sum_columns_kernel<double, Src>, partial.data(), src, 1.0, n,
           inner, parts, kPartRows, column_blocks);
    sum_columns(context, dst, static_cast<const double*>(partial.data()), factor, outer, parts,
                inner);
}

}  // namespace

template <class T>
void sum(Context& context, T* dst, const T* src, T scale, int64_t outer, int64_t n, int64_t inner) {
    if (outer <= 0 || inner <= 0) return;
    const double factor = static_cast<double>(scale);
    if (inner == 1)
        sum_rows("sum", context, dst, src, factor, outer, n);
    else
        sum_columns(context, dst, src, factor, outer, n, inner);
}
template void sum(Context&, float*, const float*, float, int64_t, int64_t, int64_t);
template void sum(Context&, double*, const double*, double, int64_t, int64_t, int64_t);

namespace {

template <class T>
void max(Context& context, T* dst, int64_t* index, const T* src, int64_t outer, int64_t n,
         int64_t inner) {
    if (outer <= 0 || inner <= 0) return;
    if (inner == 1)
        with_team(n, [&](auto team) {
            using Team = decltype(team);
            launch("max", context, Team::shape("max", outer), max_rows_kernel<T, Team>, dst, index,
                   src, outer, n);
        });
    else
        launch("max", context, {walking_blocks(outer * inner, 256), 256}, max_columns_kernel<T>,
               dst, index, src, outer * inner, n, inner);
}

template <class T>
void sum_of_squares(Context& context, double* dst, const Array<T>* arrays, int64_t count) {
    const char* op = "sum_of_squares";
    for (int64_t next = 0; next < count;) {
        const int64_t first = next;
        ArrayGroup<T> group{};
        while (next < count && group.add(arrays[next], arrays[next].n, kPartElements)) ++next;
        const DeviceLoan<double> partial(op, context, group.chunks());
        if (group.chunks() > 0)
            launch(op, context, {grid_size(op, group.chunks()), Team<8>::kSize}, squares_kernel<T>,
                   partial.data(), group);
        launch(op, context, {static_cast<unsigned>(group.count), Team<8>::kSize},
               sum_of_chunks_kernel<T>, dst + first, partial.data(), group);
    }
}

template <class T>
void find_non_finite(Context& context, int64_t* dst, const T* src, int64_t n) {
    const int64_t blocks = n > 0 ? walking_blocks(n, 256) : 0;
    const DeviceLoan<int64_t> partial("find_non_finite", context, blocks);
    if (blocks > 0)
        launch("find_non_finite", context, {static_cast<unsigned>(blocks), 256},
               first_non_finite_kernel<T>, partial.data(), src, n);
    launch("find_non_finite", context, {1, 256}, first_of_partials_kernel, dst, partial.data(),
           blocks, n);
}

template <class T>
void top_k(Context& context, int64_t* index, const T* src, int64_t rows, int64_t n, int64_t k) {
    constexpr int64_t kSorted = 2048;  // longest row that is sorted: 24 KiB of f64 and positions
    k = k < n ? k : n;
    if (rows <= 0 || k <= 0) return;
    if (n > kSorted) {
        launch("top_k", context, {grid_size("top_k", rows), 256}, select_top_k_kernel<T>, index,
               src, n, k);
        return;
    }
    int size = 2;
    while (size < n) size *= 2;
    const size_t bytes = static_cast<size_t>(size) * (sizeof(T) + sizeof(int));
    launch("top_k", context, {grid_size("top_k", rows), 256, bytes}, sort_top_k_kernel<T>, index,
           src, n, k, size);
}

template <class T>
void cumsum(Context& context, T* dst, const T* src, int64_t outer, int64_t n, int64_t inner,
            bool reverse) {
    if (outer <= 0 || n <= 0 || inner <= 0) return;
    if (inner == 1)
        with_team(n, [&](auto team) {
            using Team = decltype(team);
            launch("cumsum", context, Team::shape("cumsum", outer), cumsum_rows_kernel<T, Team>,
                   dst, src, outer, n, reverse);
        });
    else
        launch("cumsum", context, {walking_blocks(outer * inner, 256), 256},
               cumsum_columns_kernel<T>, dst, src, outer * inner, n, inner, reverse);
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

}  // namespace

void fill_reduce(Backend& backend) {
    fill_table(backend.f32);
    fill_table(backend.f64);
}

}  // namespace mc::cuda
