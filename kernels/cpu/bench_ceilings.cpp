#include "kernels/cpu/bench_ceilings.h"

#include "kernels/cpu/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/bench_ceilings.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace mc {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// `rounds` times 12 independent chains; returns the flop done. The sum is kept alive.
double fma_rounds(int64_t rounds, float* keep) {
    const hn::ScalableTag<float> d;
    const auto a = hn::Set(d, 0.9999f), b = hn::Set(d, 1e-5f);
    hn::Vec<decltype(d)> x[12];
    for (int i = 0; i < 12; ++i) x[i] = hn::Set(d, static_cast<float>(i));
    for (int64_t r = 0; r < rounds; ++r)
#pragma GCC unroll 12
        for (int i = 0; i < 12; ++i) x[i] = hn::MulAdd(x[i], a, b);
    auto sum = x[0];
    for (int i = 1; i < 12; ++i) sum = hn::Add(sum, x[i]);
    *keep = hn::GetLane(hn::SumOfLanes(d, sum));
    return static_cast<double>(rounds) * 12 * 2 * static_cast<double>(hn::Lanes(d));
}

const char* name_of_target() {
    return hwy::TargetName(HWY_TARGET);
}

}  // namespace HWY_NAMESPACE
}  // namespace mc
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/cpu/gemm_block.h"
#include "kernels/cpu/thread_pool.h"

namespace mc {

HWY_EXPORT(fma_rounds);
HWY_EXPORT(name_of_target);

namespace {

double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

// Flop per second of rounds(count, keep) on all threads of the pool.
template <class Rounds>
double best_rate(Context& context, const Rounds& rounds) {
    const int64_t threads = context.pool->size();
    std::vector<float> keep(static_cast<size_t>(threads));
    double best = 0;
    // Short trials: on a busy machine some of them go undisturbed.
    for (int trial = 0; trial < 200; ++trial) {
        std::vector<double> flop(static_cast<size_t>(threads));
        const double start = now();
        context.pool->for_chunks(threads, [&](int64_t i) {
            flop[static_cast<size_t>(i)] = rounds(200000, &keep[static_cast<size_t>(i)]);
        });
        const double time = now() - start;
        double total = 0;
        for (double f : flop) total += f;
        best = std::max(best, total / time);
    }
    return best;
}

}  // namespace

double measure_fma_f32(Context& context) {
    return best_rate(context, [](int64_t rounds, float* keep) {
        return HWY_DYNAMIC_DISPATCH(fma_rounds)(rounds, keep);
    });
}

double measure_fma_bf16(Context& context) {
    return bf16_by_instruction() ? best_rate(context, bf16_rounds_avx512)
                                 : measure_fma_f32(context);
}

double measure_int16(Context& context) {
    return int16_by_instruction() ? best_rate(context, int16_rounds_avx512)
                                  : measure_fma_f32(context);
}

int64_t beyond_caches() {
    return std::clamp<int64_t>(sysconf(_SC_LEVEL3_CACHE_SIZE), int64_t{48} << 20,
                               int64_t{512} << 20);
}

double measure_copy(Context& context) {
    // Slice after slice of the arrays, each slice's best of several rounds: a slice takes well
    // below a millisecond, so that on a busy machine some go undisturbed.
    constexpr size_t kSlice = size_t{2} << 20;
    constexpr int kRounds = 20;
    const size_t bytes = static_cast<size_t>(beyond_caches());
    std::vector<char> from(bytes, 1), to(bytes, 2);
    const int64_t threads = context.pool->size();
    const size_t part = kSlice / static_cast<size_t>(threads);
    std::vector<double> best(bytes / kSlice, std::numeric_limits<double>::infinity());
    for (int round = 0; round < kRounds; ++round)
        for (size_t slice = 0; slice < best.size(); ++slice) {
            const double start = now();
            context.pool->for_chunks(threads, [&](int64_t i) {
                const size_t at = slice * kSlice + static_cast<size_t>(i) * part;
                std::memcpy(to.data() + at, from.data() + at, part);
            });
            best[slice] = std::min(best[slice], now() - start);
        }
    double total = 0;
    for (double time : best) total += time;
    return 2.0 * static_cast<double>(part) * static_cast<double>(threads) *
           static_cast<double>(best.size()) / total;
}

const char* target_name() {
    return HWY_DYNAMIC_DISPATCH(name_of_target)();
}

}  // namespace mc
#endif
