#include "kernels/sort.h"

#include <algorithm>
#include <numeric>

#include "tests/kernels/table_test_util.h"

namespace mc::testing {
namespace {

// Rows of few values, so that most elements have equals, with -inf, +inf and NaN among them.
template <class T>
void fill_with_ties(GuardedBuffer<T>& src, int64_t n) {
    fill_random(src, 5);
    for (int64_t i = 0; i < src.size(); ++i)
        src[i] = static_cast<T>(std::floor(4 * static_cast<double>(src[i])));
    for (int64_t i = 0; i < src.size(); ++i) {
        if (i % 11 == 3) src[i] = static_cast<T>(-kInf);
        if (i % 13 == 5) src[i] = static_cast<T>(kNan);
        if (i % 17 == 2) src[i] = static_cast<T>(kInf);
        if (i % 19 == 7) src[i] = T(-0.0);
        if (i / std::max<int64_t>(n, 1) == 2) src[i] = T(1);  // a row of one value
    }
}

template <class T>
std::vector<int64_t> sorted_row(const T* row, int64_t n) {
    std::vector<int64_t> order(static_cast<size_t>(n));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [row](int64_t a, int64_t b) {
        if (std::isnan(row[a]) || std::isnan(row[b]))
            return !std::isnan(row[a]) && std::isnan(row[b]);
        return row[a] < row[b];
    });
    return order;
}

TEST_CASE_TEMPLATE("argsort is a stable ascending sort, NaN last", T, float, double) {
    for_each_table<T>(sort_kernels, [&](KernelTable<T>& table, Context& context) {
        for (int64_t n : {0, 1, 2, 5, 31, 33, 49, 257, 1000}) {
            const int64_t rows = 4;
            GuardedBuffer<T> src(rows * n, 1);
            GuardedBuffer<int64_t> order(rows * n, 1), rank(rows * n, 1), alone(rows * n);
            fill_with_ties(src, n);
            table.argsort(context, order.data(), rank.data(), src.data(), rows, n);
            int64_t wrong = 0;
            for (int64_t r = 0; r < rows; ++r) {
                const std::vector<int64_t> want = sorted_row(src.data() + r * n, n);
                for (int64_t i = 0; i < n; ++i) {
                    wrong += order[r * n + i] != want[static_cast<size_t>(i)];
                    wrong += rank[r * n + want[static_cast<size_t>(i)]] != i;
                }
            }
            CHECK(wrong == 0);
            table.argsort(context, alone.data(), nullptr, src.data(), rows, n);
            CHECK(alone.copy() == order.copy());
            table.argsort(context, nullptr, alone.data(), src.data(), rows, n);
            CHECK(alone.copy() == rank.copy());
        }
    });
}

TEST_CASE_TEMPLATE("mask_lowest masks as many as are asked of each row", T, float, double) {
    for_each_table<T>(sort_kernels, [&](KernelTable<T>& table, Context& context) {
        for (int64_t n : {0, 1, 2, 33, 49, 257}) {
            const std::vector<int64_t> count{0, 1, n / 2, n, n + 3};
            const int64_t rows = static_cast<int64_t>(count.size());
            GuardedBuffer<T> src(rows * n, 1);
            GuardedBuffer<int64_t> id(rows * n, 1);
            GuardedBuffer<bool> masked(rows * n, 1);
            fill_with_ties(src, n);
            for (int64_t i = 0; i < rows * n; ++i) id[i] = i;
            table.mask_lowest(context, masked.data(), id.data(), src.data(), count.data(), -7, rows,
                              n);
            int64_t wrong = 0;
            for (int64_t r = 0; r < rows; ++r) {
                const std::vector<int64_t> order = sorted_row(src.data() + r * n, n);
                for (int64_t i = 0; i < n; ++i) {
                    const int64_t at = r * n + order[static_cast<size_t>(i)];
                    const bool want = i < count[static_cast<size_t>(r)];
                    wrong += masked[at] != want || id[at] != (want ? -7 : at);
                }
            }
            CHECK(wrong == 0);
        }
    });
}

TEST_CASE("sorting does not depend on the number of threads") {
    Backend b;
    sort_kernels(b);
    constexpr int64_t rows = 70, n = 300;
    std::vector<float> src(rows * n);
    fill_random(src.data(), rows * n, 3);
    check_thread_counts<int64_t>(rows * n, [&](Context& context, int64_t* out) {
        b.f32.argsort(context, out, nullptr, src.data(), rows, n);
    });
}

}  // namespace
}  // namespace mc::testing
