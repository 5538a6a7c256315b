#include "kernels/sort.h"

#include <algorithm>
#include <numeric>

#include "kernels/backend.h"
#include "kernels/cpu/chunking.h"
#include "kernels/cpu/fill.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/cpu/workspace.h"

namespace mc {
namespace {

// order (n) = positions of src (n) in ascending order, ties to the lower, NaN last.
template <class T>
void sort_row(int64_t* order, const T* src, int64_t n) {
    const auto less = [](T a, T b) { return a < b || (a == a && b != b); };
    std::iota(order, order + n, int64_t{0});
    std::sort(order, order + n, [&](int64_t i, int64_t j) {
        return less(src[i], src[j]) || (!less(src[j], src[i]) && i < j);
    });
}

// f(row, order of the row) for every row, many at a time.
template <class T, class F>
void for_sorted_rows(Context& context, const T* src, int64_t rows, int64_t n, const F& f) {
    Loan<int64_t> orders(*context.workspace, rows * n);
    int64_t* all = orders.data();
    context.pool->for_ranges(rows, rows_per_chunk(n), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
            sort_row(all + r * n, src + r * n, n);
            f(r, all + r * n);
        }
    });
}

template <class T>
void argsort(Context& context, int64_t* order, int64_t* rank, const T* src, int64_t rows,
             int64_t n) {
    for_sorted_rows(context, src, rows, n, [&](int64_t r, const int64_t* sorted) {
        if (order) std::copy_n(sorted, n, order + r * n);
        for (int64_t i = 0; rank && i < n; ++i) rank[r * n + sorted[i]] = i;
    });
}

template <class T>
void mask_lowest(Context& context, bool* masked, int64_t* id, const T* src, const int64_t* count,
                 int64_t mask_id, int64_t rows, int64_t n) {
    for_sorted_rows(context, src, rows, n, [&](int64_t r, const int64_t* sorted) {
        for (int64_t i = 0; i < n; ++i) {
            masked[r * n + sorted[i]] = i < count[r];
            if (i < count[r]) id[r * n + sorted[i]] = mask_id;
        }
    });
}

template <class T>
void fill_table(SortKernels<T>& table) {
    table.argsort = argsort<T>;
    table.mask_lowest = mask_lowest<T>;
}

}  // namespace

void fill_sort(Backend& b) {
    fill_table(b.f32);
    fill_table(b.f64);
}

}  // namespace mc
