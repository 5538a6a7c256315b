// A family's kernels on every instruction set of this machine, without the rest of the table.
#pragma once

#include "tests/kernels/kernel_test_util.h"

namespace mc::testing {

// f(table, context) for every instruction set, with one thread and with three.
template <class T, class F>
void for_each_table(void (*fill)(Backend&), F&& f) {
    for_each_target([&] {
        Backend b;
        fill(b);
        for (int threads : {1, 3}) {
            TestContext context(threads);
            f(b.table<T>(), context.context);
            if (device_under_test().type != DeviceType::cpu) break;  // has no threads to count
        }
    });
}

// run(context, out) fills `out` (n); the bits must be the same for 1, 2 and 5 threads (on CUDA: in
// each of three runs).
template <class T, class F>
void check_thread_counts(int64_t n, F&& run) {
    std::vector<T> first(static_cast<size_t>(n));
    TestContext alone(1);
    run(alone.context, first.data());
    for (int threads : {2, 5}) {
        std::vector<T> other(static_cast<size_t>(n));
        TestContext several(threads);
        run(several.context, other.data());
        CHECK(std::memcmp(first.data(), other.data(), first.size() * sizeof(T)) == 0);
    }
}

// Sizes around the vector widths: 0 .. 2 N + 1 for 16 lanes, and some that need several chunks.
inline std::vector<int64_t> vector_sizes() {
    std::vector<int64_t> sizes;
    for (int64_t n = 0; n <= 33; ++n) sizes.push_back(n);
    for (int64_t n : {63, 64, 65, 100, 257, 1023}) sizes.push_back(n);
    return sizes;
}

template <class T>
std::vector<double> as_double(const GuardedBuffer<T>& b) {
    return std::vector<double>(b.data(), b.data() + b.size());
}

// One bound for all elements of CHECK_NEAR.
inline std::vector<double> within(double bound) {
    return {bound};
}

// The gradient of scalar() for the entries of v, by central differences of fourth order.
template <class F>
std::vector<double> differences(std::vector<double>& v, F&& scalar) {
    std::vector<double> gradient;
    constexpr double h = 2e-4;
    for (double& entry : v) {
        const double before = entry;
        const auto at = [&](double x) {
            entry = x;
            return scalar();
        };
        const double near = at(before + h) - at(before - h);
        const double far = at(before + 2 * h) - at(before - 2 * h);
        entry = before;
        gradient.push_back((8 * near - far) / (12 * h));
    }
    return gradient;
}

inline constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
inline constexpr double kInf = std::numeric_limits<double>::infinity();

}  // namespace mc::testing
