// Uniform and normal draws: a Philox block a thread and step.
#include "kernels/random.h"

#include "kernels/cuda/fill.h"
#include "kernels/cuda/math.h"
#include "kernels/cuda/philox.h"

namespace mc::cuda {

namespace {

constexpr int kThreads = 256;

template <class T>
__global__ void uniform_kernel(T* dst, T low, T range, RandomStream random, int64_t count) {
    const int64_t blocks = ceil_div(count, 4);
    for (int64_t block = global_thread(); block < blocks; block += all_threads()) {
        const Draws draws = draws_of(random, static_cast<uint64_t>(block));
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const int64_t i = 4 * block + j;
            if (i >= count) continue;
            const T u = static_cast<T>(draws.word[j] >> 8) * static_cast<T>(1.0 / 16777216.0);
            dst[i] = low + range * u;
        }
    }
}

// Box-Muller in double for both dtypes, as on the CPU: the f32 draws are the f64 ones, rounded.
template <class T>
__global__ void normal_kernel(T* dst, double mean, double deviation, RandomStream random,
                              int64_t count) {
    const int64_t blocks = ceil_div(count, 2);
    for (int64_t block = global_thread(); block < blocks; block += all_threads()) {
        const Draws draws = draws_of(random, static_cast<uint64_t>(block));
#pragma unroll
        for (int j = 0; j < 2; ++j) {
            const int64_t i = 2 * block + j;
            if (i >= count) continue;
            const double u1 = 1 - (draws.word[2 * j] >> 8) * (1.0 / 16777216.0);
            const double u2 = (draws.word[2 * j + 1] >> 8) * (1.0 / 16777216.0);
            const double z =
                sqrt_of(-2 * log_of(u1)) * cos_of(6.283185307179586476925286766559 * u2);
            dst[i] = static_cast<T>(mean + deviation * z);
        }
    }
}

template <class T>
void uniform(Context& context, T* dst, T low, T high, RandomStream random, int64_t n) {
    if (n <= 0) return;
    launch("uniform", context, {walking_blocks(n, 4 * kThreads), kThreads}, uniform_kernel<T>, dst,
           low, high - low, random, n);
}

template <class T>
void normal(Context& context, T* dst, T mean, T std_dev, RandomStream random, int64_t n) {
    if (n <= 0) return;
    launch("normal", context, {walking_blocks(n, 2 * kThreads), kThreads}, normal_kernel<T>, dst,
           static_cast<double>(mean), static_cast<double>(std_dev), random, n);
}

template <class T>
void fill_table(RandomKernels<T>& table) {
    table.uniform = uniform<T>;
    table.normal = normal<T>;
}

}  // namespace

void fill_random(Backend& backend) {
    fill_table(backend.f32);
    fill_table(backend.f64);
}

}  // namespace mc::cuda
