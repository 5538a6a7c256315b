// Uniform and normal draws on the CPU. A chunk begins at a multiple of a Philox block, so who draws
// it does not matter.
#include "kernels/random.h"

#include <algorithm>
#include <cmath>

#include "kernels/backend.h"
#include "kernels/cpu/chunking.h"
#include "kernels/cpu/fill.h"
#include "kernels/cpu/simd_targets.h"
#include "kernels/cpu/thread_pool.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/random.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/philox-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mc {
namespace HWY_NAMESPACE {
namespace {

template <class T>
void uniform_range(T* dst, T low, T high, const RandomStream& random, int64_t begin, int64_t end) {
    PhiloxWords words(random);
    const T range = high - low;
    for (int64_t i = begin; i < end; i += PhiloxWords::kWords) {
        const int64_t n = std::min(end - i, PhiloxWords::kWords);
        words.draw(static_cast<uint64_t>(i / 4), ceil_div(n, 4));
        for (int64_t j = 0; j < n; ++j) {
            const T u = static_cast<T>(static_cast<int32_t>(words.word[j] >> 8)) *
                        static_cast<T>(1.0 / 16777216.0);
            dst[i + j] = low + range * u;
        }
    }
}

template <class T>
void uniform(Context& context, T* dst, T low, T high, RandomStream random, int64_t n) {
    context.pool->for_ranges(n, kChunkElements, [&](int64_t begin, int64_t end) {
        uniform_range(dst, low, high, random, begin, end);
    });
}

// Box-Muller in double for both dtypes: drawing normals is rare (initial weights, noise) and this
// way the f32 draws are the f64 ones, rounded.
template <class T>
void normal_range(T* dst, T mean, T std_dev, const RandomStream& random, int64_t begin,
                  int64_t end) {
    PhiloxWords words(random);
    constexpr double kTwoPi = 6.283185307179586476925286766559;
    for (int64_t i = begin; i < end; i += PhiloxWords::kWords / 2) {
        const int64_t n = std::min(end - i, PhiloxWords::kWords / 2);
        words.draw(static_cast<uint64_t>(i / 2), ceil_div(n, 2));
        for (int64_t j = 0; j < n; ++j) {
            const double u1 = 1 - uniform_from_bits(words.word[2 * j]);
            const double u2 = uniform_from_bits(words.word[2 * j + 1]);
            const double z = std::sqrt(-2 * std::log(u1)) * std::cos(kTwoPi * u2);
            dst[i + j] =
                static_cast<T>(static_cast<double>(mean) + static_cast<double>(std_dev) * z);
        }
    }
}

template <class T>
void normal(Context& context, T* dst, T mean, T std_dev, RandomStream random, int64_t n) {
    context.pool->for_ranges(n, kChunkElements / 4, [&](int64_t begin, int64_t end) {
        normal_range(dst, mean, std_dev, random, begin, end);
    });
}

template <class T>
void fill_table(RandomKernels<T>& table) {
    table.uniform = uniform<T>;
    table.normal = normal<T>;
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
void fill_random(Backend& b) {
    HWY_DYNAMIC_DISPATCH(fill)(b);
}
}  // namespace mc
#endif
