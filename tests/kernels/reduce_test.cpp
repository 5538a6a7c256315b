#include "kernels/reduce.h"

#include <algorithm>
#include <memory>

#include "tests/kernels/table_test_util.h"

namespace mc::testing {
namespace {

struct Shape {
    int64_t outer, n, inner;
};

std::vector<Shape> shapes() {
    std::vector<Shape> result;
    for (int64_t n : vector_sizes())
        for (int64_t inner : {1, 3, 17}) result.push_back({2, n, inner});
    result.push_back({1, 50001, 1});    // several parts of one sum
    result.push_back({1, 900, 65});     // several parts of columns
    result.push_back({3, 40, 2500});    // several blocks of columns
    result.push_back({2, 3000, 1500});  // both
    result.push_back({5000, 5, 1});     // many short sums
    result.push_back({0, 3, 2});
    result.push_back({2, 3, 0});
    return result;
}

TEST_CASE_TEMPLATE("sum over any axis", T, float, double) {
    for_each_table<T>(reduce_kernels, [&](KernelTable<T>& table, Context& context) {
        for (const auto& [outer, n, inner] : shapes()) {
            GuardedBuffer<T> src(outer * n * inner, 1), dst(outer * inner, 1);
            fill_random(src, 1);
            if (src.size() > 9) src[7] = T(1000);
            std::vector<double> want(static_cast<size_t>(outer * inner));
            for (int64_t o = 0; o < outer; ++o)
                for (int64_t r = 0; r < n; ++r)
                    for (int64_t i = 0; i < inner; ++i)
                        want[static_cast<size_t>(o * inner + i)] +=
                            0.5 * static_cast<double>(src[(o * n + r) * inner + i]);
            table.sum(context, dst.data(), src.data(), T(0.5), outer, n, inner);
            // Accumulated in double: f32 rounds once.
            const double size = 1000 + std::sqrt(static_cast<double>(n));
            CHECK_NEAR(dst.data(), want, within((sizeof(T) == 4 ? 1 : 10) * size * epsilon<T>()));
        }
    });
}

TEST_CASE_TEMPLATE("max over any axis, first position", T, float, double) {
    for_each_table<T>(reduce_kernels, [&](KernelTable<T>& table, Context& context) {
        for (const auto& [outer, n, inner] : shapes()) {
            if (n == 0) continue;
            GuardedBuffer<T> src(outer * n * inner, 1), dst(outer * inner, 1);
            GuardedBuffer<int64_t> index(outer * inner, 1);
            fill_random(src, 1);
            for (int64_t i = 0; i < src.size(); ++i)
                src[i] = static_cast<T>(std::floor(8 * static_cast<double>(src[i])));  // many ties
            table.max(context, dst.data(), index.data(), src.data(), outer, n, inner);
            int64_t wrong = 0;
            for (int64_t o = 0; o < outer; ++o) {
                for (int64_t i = 0; i < inner; ++i) {
                    int64_t best = 0;
                    for (int64_t r = 1; r < n; ++r)
                        if (src[(o * n + r) * inner + i] > src[(o * n + best) * inner + i])
                            best = r;
                    wrong += index[o * inner + i] != best ||
                             dst[o * inner + i] != src[(o * n + best) * inner + i];
                }
            }
            CHECK(wrong == 0);
            dst.fill(0);
            table.max(context, dst.data(), nullptr, src.data(), outer, n, inner);
        }
    });
}

TEST_CASE_TEMPLATE("max: NaN wins, the first of several", T, float, double) {
    for_each_table<T>(reduce_kernels, [&](KernelTable<T>& table, Context& context) {
        const T nan = std::numeric_limits<T>::quiet_NaN(), inf = std::numeric_limits<T>::infinity();
        T dst;
        int64_t index;
        for (int64_t n : {6, 40, 300})  // NaN in a vector and in what is left of one
            for (int64_t inner : {1, 3})
                for (int64_t at : {int64_t{0}, int64_t{2}, n / 2, n - 3}) {
                    GuardedBuffer<T> src(n * inner, 1), best(inner, 1);
                    GuardedBuffer<int64_t> place(inner);
                    src.fill(1);
                    for (int64_t i = 0; i < inner; ++i) {
                        src[at * inner + i] = src[(at + 2) * inner + i] = nan;
                        src[(at + 1) * inner + i] = inf;
                    }
                    table.max(context, best.data(), place.data(), src.data(), 1, n, inner);
                    for (int64_t i = 0; i < inner; ++i) {
                        CHECK(std::isnan(best[i]));
                        CHECK(place[i] == at);
                    }
                }
        const T low[2] = {-inf, -inf};
        table.max(context, &dst, &index, low, 1, 2, 1);
        CHECK(dst == -inf);
        CHECK(index == 0);
    });
}

TEST_CASE_TEMPLATE("sum_of_squares of a group", T, float, double) {
    for_each_table<T>(reduce_kernels, [&](KernelTable<T>& table, Context& context) {
        // More than one launch's worth on CUDA, among them empty ones and some of several chunks.
        std::vector<int64_t> sizes = {0, 1, 15, 16, 17, 0, 33, 16384, 16385, 70001};
        sizes.resize(250, 3);
        sizes.back() = 0;
        std::vector<std::unique_ptr<GuardedBuffer<T>>> sources;
        std::vector<typename ReduceKernels<T>::Array> arrays;
        std::vector<double> want, got(sizes.size(), -1), bound;
        for (int64_t n : sizes) {
            sources.push_back(std::make_unique<GuardedBuffer<T>>(n, 1));
            const GuardedBuffer<T>& src = *sources.back();
            fill_random(*sources.back(), arrays.size());
            arrays.push_back({src.data(), n});
            want.push_back(0);
            for (int64_t i = 0; i < n; ++i)
                want.back() += static_cast<double>(src[i]) * static_cast<double>(src[i]);
            bound.push_back(1e-13 * want.back());
        }
        table.sum_of_squares(context, got.data(), arrays.data(),
                             static_cast<int64_t>(arrays.size()));
        CHECK_NEAR(got.data(), want, bound);
        table.sum_of_squares(context, got.data(), arrays.data(), 0);
    });
}

TEST_CASE_TEMPLATE("find_non_finite gives the first, or -1", T, float, double) {
    for_each_table<T>(reduce_kernels, [&](KernelTable<T>& table, Context& context) {
        for (int64_t n : {0, 1, 5, 8, 17, 255, 257, 16384, 40001}) {
            GuardedBuffer<T> src(n, 1);
            fill_random(src, 1);
            if (n > 3) src[3] = std::numeric_limits<T>::max();
            int64_t got = 5;
            table.find_non_finite(context, &got, src.data(), n);
            CHECK(got == -1);
            for (int64_t at : {n - 1, n / 2, int64_t{0}}) {
                if (n == 0) continue;
                src[at] = at % 2 ? std::numeric_limits<T>::quiet_NaN()
                                 : -std::numeric_limits<T>::infinity();
                table.find_non_finite(context, &got, src.data(), n);
                CHECK(got == at);
            }
        }
    });
}

TEST_CASE_TEMPLATE("top_k is a stable descending sort's beginning", T, float, double) {
    for_each_table<T>(reduce_kernels, [&](KernelTable<T>& table, Context& context) {
        for (int64_t n : {1, 2, 7, 40, 1000, 2500}) {  // CUDA's sorts rows of 2048 at most
            for (int64_t k : {int64_t{1}, int64_t{5}, n}) {
                if (k > std::min<int64_t>(n, 1000)) continue;
                const int64_t rows = 3;
                GuardedBuffer<T> src(rows * n, 1);
                GuardedBuffer<int64_t> index(rows * k, 1);
                fill_random(src, 1);
                for (int64_t i = 0; i < src.size(); ++i)
                    src[i] = static_cast<T>(std::floor(8 * static_cast<double>(src[i])));
                if (n > 5) {
                    src[4] = std::numeric_limits<T>::quiet_NaN();
                    src[5] = std::numeric_limits<T>::infinity();
                }
                table.top_k(context, index.data(), src.data(), rows, n, k);
                for (int64_t r = 0; r < rows; ++r) {
                    std::vector<int64_t> order;
                    for (int64_t i = 0; i < n; ++i) order.push_back(i);
                    const T* v = src.data() + r * n;
                    std::stable_sort(order.begin(), order.end(), [v](int64_t a, int64_t b) {
                        if (std::isnan(v[a]) || std::isnan(v[b]))
                            return std::isnan(v[a]) && !std::isnan(v[b]);
                        return v[a] > v[b];
                    });
                    for (int64_t i = 0; i < k; ++i)
                        CHECK(index[r * k + i] == order[static_cast<size_t>(i)]);
                }
            }
        }
    });
}

TEST_CASE_TEMPLATE("cumsum along any axis, from either end, in place too", T, float, double) {
    for_each_table<T>(reduce_kernels, [&](KernelTable<T>& table, Context& context) {
        for (const auto& [outer, n, inner] : shapes()) {
            if (outer * n * inner > 1'000'000) continue;
            GuardedBuffer<T> src(outer * n * inner, 1), dst(outer * n * inner, 2);
            fill_random(src, 1);
            for (bool reverse : {false, true}) {
                std::vector<double> want(static_cast<size_t>(src.size()));
                double largest = 1;
                for (int64_t o = 0; o < outer; ++o)
                    for (int64_t i = 0; i < inner; ++i) {
                        double total = 0;
                        for (int64_t step = 0; step < n; ++step) {
                            const int64_t r = reverse ? n - 1 - step : step;
                            const int64_t at = (o * n + r) * inner + i;
                            want[static_cast<size_t>(at)] = total += static_cast<double>(src[at]);
                            largest = std::max(largest, std::fabs(total));
                        }
                    }
                // Accumulated in double: f32 rounds once; orders of n terms differ in f64.
                const std::vector<double> bound =
                    within(largest * epsilon<T>() *
                           (sizeof(T) == 4 ? 1 : 4 * std::sqrt(static_cast<double>(n))));
                table.cumsum(context, dst.data(), src.data(), outer, n, inner, reverse);
                CHECK_NEAR(dst.data(), want, bound);
            }
            const std::vector<T> separate = dst.copy();
            table.cumsum(context, src.data(), src.data(), outer, n, inner, true);
            CHECK(src.copy() == separate);
        }
    });
}

TEST_CASE("cumsum: a NaN goes on, not back") {
    for_each_table<float>(reduce_kernels, [](KernelTable<float>& table, Context& context) {
        GuardedBuffer<float> x(2000), y(2000);
        x.fill(1);
        x[1500] = std::nanf("");
        table.cumsum(context, y.data(), x.data(), 1, 2000, 1, false);
        for (int64_t i = 0; i < 2000; ++i)
            CHECK((i < 1500 ? y[i] == static_cast<float>(i + 1) : std::isnan(y[i])));
    });
}

TEST_CASE("reductions do not depend on the number of threads") {
    Backend b;
    reduce_kernels(b);
    constexpr int64_t n = 1500 * 65;
    std::vector<float> src(n);
    fill_random(src.data(), n, 3);
    check_thread_counts<float>(65, [&](Context& context, float* out) {
        b.f32.sum(context, out, src.data(), 1.0f, 1, 1500, 65);
    });
    check_thread_counts<double>(1, [&](Context& context, double* out) {
        const ReduceKernels<float>::Array array{src.data(), n};
        b.f32.sum_of_squares(context, out, &array, 1);
    });
}

}  // namespace
}  // namespace mc::testing
