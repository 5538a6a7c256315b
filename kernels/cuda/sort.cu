// The order of rows, and a stable radix sort of positions by a small key (least significant digit
// first). Blocks own runs of neighbours and threads runs within them, so that a digit's elements
// keep their order: what comes before an element is counted, never raced for.
#include "kernels/sort.h"

#include <utility>

#include "kernels/cuda/fill.h"
#include "kernels/cuda/shared_kernels.h"

namespace mc::cuda {

namespace {

constexpr int kBits = 4, kDigits = 1 << kBits, kThreads = 128, kItems = 8;
constexpr int64_t kBlockItems = int64_t{kThreads} * kItems;

__global__ void first_keys_kernel(uint32_t* key, uint32_t* position, const int64_t* from, int64_t n,
                                  uint32_t keys) {
    for (int64_t i = global_thread(); i < n; i += all_threads()) {
        key[i] = from[i] < 0 ? keys : static_cast<uint32_t>(from[i]);
        position[i] = static_cast<uint32_t>(i);
    }
}

__device__ inline int digit_of(uint32_t key, int shift) {
    return static_cast<int>(key >> shift & (kDigits - 1));
}

// counts [digit][thread] of the block's own items; returns the thread's first item.
__device__ inline int64_t count_digits(uint32_t (*counts)[kThreads], const uint32_t* key, int64_t n,
                                       int shift) {
    const int64_t first = blockIdx.x * kBlockItems + threadIdx.x * int64_t{kItems};
    for (int d = 0; d < kDigits; ++d) counts[d][threadIdx.x] = 0;
    for (int64_t i = first; i < first + kItems && i < n; ++i)
        ++counts[digit_of(key[i], shift)][threadIdx.x];
    return first;
}

// totals (kDigits, blocks) = the block's number of items of each digit.
__global__ void digit_totals_kernel(uint32_t* totals, const uint32_t* key, int64_t n, int shift) {
    __shared__ uint32_t counts[kDigits][kThreads];
    count_digits(counts, key, n, shift);
    __syncthreads();
    if (threadIdx.x >= kDigits) return;
    uint32_t total = 0;
    for (int t = 0; t < kThreads; ++t) total += counts[threadIdx.x][t];
    totals[static_cast<int64_t>(threadIdx.x) * gridDim.x + blockIdx.x] = total;
}

// One block of 1024: value (count) becomes the sum of what comes before it.
__global__ void scan_kernel(uint32_t* value, int64_t count) {
    __shared__ uint32_t warp_sums[32];
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    uint32_t before = 0;
    for (int64_t first = 0; first < count; first += blockDim.x) {
        const int64_t i = first + threadIdx.x;
        const uint32_t own = i < count ? value[i] : 0;
        uint32_t sum = own;  // of the warp's lanes up to this one
        for (unsigned distance = 1; distance < 32; distance *= 2) {
            const uint32_t other = __shfl_up_sync(0xffffffffu, sum, distance);
            if (lane >= distance) sum += other;
        }
        if (lane == 31) warp_sums[warp] = sum;
        __syncthreads();
        uint32_t warps_before = 0, all = 0;
        for (unsigned w = 0; w < blockDim.x / 32; ++w) {
            if (w < warp) warps_before += warp_sums[w];
            all += warp_sums[w];
        }
        if (i < count) value[i] = before + warps_before + sum - own;
        before += all;
        __syncthreads();
    }
}

// Each item to its place: the block's start for the digit, and what comes before it in the block.
__global__ void place_kernel(uint32_t* new_key, uint32_t* new_position, const uint32_t* key,
                             const uint32_t* position, const uint32_t* starts, int64_t n,
                             int shift) {
    __shared__ uint32_t counts[kDigits][kThreads];
    const int64_t first = count_digits(counts, key, n, shift);
    __syncthreads();
    if (threadIdx.x < kDigits) {
        uint32_t next = starts[static_cast<int64_t>(threadIdx.x) * gridDim.x + blockIdx.x];
        for (int t = 0; t < kThreads; ++t) {
            const uint32_t count = counts[threadIdx.x][t];
            counts[threadIdx.x][t] = next;
            next += count;
        }
    }
    __syncthreads();
    for (int64_t i = first; i < first + kItems && i < n; ++i) {
        const uint32_t to = counts[digit_of(key[i], shift)][threadIdx.x]++;
        new_key[to] = key[i];
        new_position[to] = position[i];
    }
}

}  // namespace

void sort_positions(const char* op, Context& context, uint32_t* sorted, uint32_t* order,
                    const int64_t* key, int64_t n, int64_t keys) {
    if (n <= 0) return;
    if (n >= int64_t{1} << 31 || keys >= int64_t{1} << 31)
        throw Error(std::string("[") + op + "] size: " + std::to_string(n) + " ids of " +
                    std::to_string(keys) + " rows are beyond 2^31; cut the problem into parts");
    int passes = 1;
    while (keys >> (passes * kBits)) ++passes;
    const int64_t blocks = ceil_div(n, kBlockItems);
    const DeviceLoan<uint32_t> other(op, context, 2 * n), starts(op, context, kDigits * blocks);
    // The last pass must end in the caller's arrays.
    uint32_t *from_key = passes % 2 ? other.data() : sorted,
             *from_position = passes % 2 ? other.data() + n : order;
    uint32_t *to_key = passes % 2 ? sorted : other.data(),
             *to_position = passes % 2 ? order : other.data() + n;
    launch(op, context, {walking_blocks(n, 256), 256}, first_keys_kernel, from_key, from_position,
           key, n, static_cast<uint32_t>(keys));
    const unsigned grid = grid_size(op, blocks);
    for (int pass = 0; pass < passes; ++pass) {
        const int shift = pass * kBits;
        launch(op, context, {grid, kThreads}, digit_totals_kernel, starts.data(), from_key, n,
               shift);
        launch(op, context, {1, 1024}, scan_kernel, starts.data(), kDigits * blocks);
        launch(op, context, {grid, kThreads}, place_kernel, to_key, to_position, from_key,
               from_position, starts.data(), n, shift);
        std::swap(from_key, to_key);
        std::swap(from_position, to_position);
    }
}

namespace {

// The place of element i in the ascending order of row (n): how many come before it, ties by
// position, NaN last. Counted, not sorted: the rows are short (a motion's tokens), every thread of
// a warp reads the same element at the same time, and nobody waits for anybody.
template <class T>
__device__ int64_t rank_in_row(const T* row, int64_t n, int64_t i) {
    const T own = row[i];
    const bool nan = own != own;
    int64_t before = 0;
    for (int64_t j = 0; j < n; ++j) {
        const T other = row[j];
        const bool equal = nan ? other != other : other == own;
        before += other < own || (nan && other == other) || (equal && j < i);
    }
    return before;
}

template <class T>
__global__ void argsort_kernel(int64_t* order, int64_t* rank, const T* src, int64_t count,
                               int64_t n) {
    for (int64_t at = global_thread(); at < count; at += all_threads()) {
        const int64_t row = at / n * n, place = rank_in_row(src + row, n, at - row);
        if (rank) rank[at] = place;
        if (order) order[row + place] = at - row;
    }
}

template <class T>
__global__ void mask_lowest_kernel(bool* masked, int64_t* id, const T* src, const int64_t* lowest,
                                   int64_t mask_id, int64_t count, int64_t n) {
    for (int64_t at = global_thread(); at < count; at += all_threads()) {
        const int64_t row = at / n;
        masked[at] = rank_in_row(src + row * n, n, at - row * n) < lowest[row];
        if (masked[at]) id[at] = mask_id;
    }
}

constexpr int kRankThreads = 128;

template <class T>
void argsort(Context& context, int64_t* order, int64_t* rank, const T* src, int64_t rows,
             int64_t n) {
    if (rows <= 0 || n <= 0) return;
    launch("argsort", context, {walking_blocks(rows * n, kRankThreads), kRankThreads},
           argsort_kernel<T>, order, rank, src, rows * n, n);
}

template <class T>
void mask_lowest(Context& context, bool* masked, int64_t* id, const T* src, const int64_t* count,
                 int64_t mask_id, int64_t rows, int64_t n) {
    if (rows <= 0 || n <= 0) return;
    launch("mask_lowest", context, {walking_blocks(rows * n, kRankThreads), kRankThreads},
           mask_lowest_kernel<T>, masked, id, src, count, mask_id, rows * n, n);
}

template <class T>
void fill_table(SortKernels<T>& table) {
    table.argsort = argsort<T>;
    table.mask_lowest = mask_lowest<T>;
}

}  // namespace

void fill_sort(Backend& backend) {
    fill_table(backend.f32);
    fill_table(backend.f64);
}

}  // namespace mc::cuda
