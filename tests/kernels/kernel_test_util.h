// What kernel tests share: buffers with guard zones and any alignment, error bounds, a pool of each
// size, every instruction set of this machine.
#pragma once

#include <doctest/doctest.h>

#include "kernels/cpu/simd_targets.h"
// After the choice of targets:
#include <hwy/targets.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/cpu/workspace.h"
#include "tests/kernels/device_under_test.h"

namespace mc::testing {

// n elements `shift` elements past a 64-byte boundary, between guard zones. The destructor checks
// the guards; a new buffer and its guards are full of NaN (floats), so that what a kernel forgets
// or reads too far shows.
template <class T>
class GuardedBuffer {
  public:
    explicit GuardedBuffer(int64_t n, int64_t shift = 0)
        : n_(static_cast<size_t>(n)),
          bytes_((2 * kGuard + static_cast<size_t>(shift) + n_) * sizeof(T) + 64, kPattern) {
        const auto base = reinterpret_cast<uintptr_t>(bytes_.data()) + kGuard * sizeof(T);
        data_ =
            reinterpret_cast<T*>((base + 63) / 64 * 64 + static_cast<size_t>(shift) * sizeof(T));
        if constexpr (std::is_floating_point_v<T>) fill(std::numeric_limits<T>::quiet_NaN());
    }
    GuardedBuffer(const GuardedBuffer&) = delete;
    GuardedBuffer& operator=(const GuardedBuffer&) = delete;
    ~GuardedBuffer() { CHECK_MESSAGE(intact(), "a kernel wrote outside its buffer"); }

    T* data() { return data_; }
    const T* data() const { return data_; }
    int64_t size() const { return static_cast<int64_t>(n_); }
    T& operator[](int64_t i) { return data_[i]; }
    const T& operator[](int64_t i) const { return data_[i]; }
    void fill(T value) {
        for (size_t i = 0; i < n_; ++i) data_[i] = value;
    }
    std::vector<T> copy() const { return std::vector<T>(data_, data_ + n_); }

    bool intact() const {
        const auto* begin = reinterpret_cast<const unsigned char*>(data_);
        const auto* end = reinterpret_cast<const unsigned char*>(data_ + n_);
        for (const unsigned char& byte : bytes_)
            if ((&byte < begin || &byte >= end) && byte != kPattern) return false;
        return true;
    }

  private:
    static constexpr size_t kGuard = 64;
    static constexpr unsigned char kPattern = 0xFF;
    size_t n_;
    std::vector<unsigned char> bytes_;
    T* data_;
};

// Uniform in [low, high), the same on every machine.
template <class T>
void fill_random(T* p, int64_t n, uint64_t seed, double low = -1, double high = 1) {
    std::mt19937_64 engine(seed);
    for (int64_t i = 0; i < n; ++i)
        p[i] = static_cast<T>(low + (high - low) * static_cast<double>(engine() >> 11) * 0x1p-53);
}
template <class T>
void fill_random(GuardedBuffer<T>& b, uint64_t seed, double low = -1, double high = 1) {
    fill_random(b.data(), b.size(), seed, low, high);
}

// Compares with a reference in double: |got - want| <= bound[i] (one bound for all, or one each).
// NaN must meet NaN. Reports how many differ, and the worst.
template <class T>
bool all_near(const T* got, const double* want, int64_t n, const double* bound, bool one_bound,
              std::string* report) {
    int64_t bad = 0, worst = -1;
    double worst_excess = -1;
    for (int64_t i = 0; i < n; ++i) {
        const double g = static_cast<double>(got[i]), w = want[i], b = bound[one_bound ? 0 : i];
        const bool same = (std::isnan(g) && std::isnan(w)) || g == w;
        if (same || std::fabs(g - w) <= b) continue;
        ++bad;
        const double excess =
            std::isfinite(g - w) ? std::fabs(g - w) : std::numeric_limits<double>::infinity();
        if (excess > worst_excess) {
            worst_excess = excess;
            worst = i;
        }
    }
    if (bad == 0) return true;
    *report = std::to_string(bad) + " of " + std::to_string(n) + " differ; worst at " +
              std::to_string(worst) + ": got " + std::to_string(static_cast<double>(got[worst])) +
              ", want " + std::to_string(want[worst]) + ", |difference| " +
              std::to_string(worst_excess) + " > " + std::to_string(bound[one_bound ? 0 : worst]);
    return false;
}

#define CHECK_NEAR(got, want, bound)                                                       \
    do {                                                                                   \
        std::string mc_report;                                                             \
        const std::vector<double>& mc_want = (want);                                       \
        const std::vector<double>& mc_bound = (bound);                                     \
        CHECK_MESSAGE(::mc::testing::all_near(                                             \
                          (got), mc_want.data(), static_cast<int64_t>(mc_want.size()),     \
                          mc_bound.data(), mc_bound.size() != mc_want.size(), &mc_report), \
                      mc_report);                                                          \
    } while (false)

template <class T>
constexpr double epsilon() {
    return static_cast<double>(std::numeric_limits<T>::epsilon());
}

// A context with a pool of its own.
struct TestContext {
    explicit TestContext(int threads) : pool(threads) {
        context.pool = &pool;
        context.workspace = &workspace;
    }
    ThreadPool pool;
    Workspace workspace;
    Context context;
    operator Context&() { return context; }
};

// f() once for every instruction set that is compiled in and runs here; the last call is the usual
// one. Once alone where the CPU is not the device under test.
template <class F>
void for_each_target(F&& f) {
    if (device_under_test().type != DeviceType::cpu) return f();
    for (int64_t left = hwy::SupportedTargets() & HWY_TARGETS; left != 0; left &= left - 1) {
        hwy::SetSupportedTargetsForTest(left & -left);
        hwy::GetChosenTarget().Update(left & -left);
        f();
    }
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().DeInit();
}

}  // namespace mc::testing
