// Rows of tables: gather, scatter-add, nearest code.
#include "kernels/embedding.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/backend.h"
#include "kernels/cpu/chunking.h"
#include "kernels/cpu/fill.h"
#include "kernels/cpu/simd_targets.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/cpu/workspace.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/embedding.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mc {
namespace HWY_NAMESPACE {
namespace {

template <class T>
void gather_rows(Context& context, T* dst, const T* table, const int64_t* id, int64_t rows,
                 int64_t cols) {
    const size_t bytes = static_cast<size_t>(cols) * sizeof(T);
    if (bytes == 0) return;
    context.pool->for_ranges(rows, rows_per_chunk(cols), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
            if (id[r] < 0)
                std::fill_n(dst + r * cols, cols, T{0});
            else
                std::memcpy(dst + r * cols, table + id[r] * cols, bytes);
        }
    });
}

template <class T>
void scatter_add_columns(T* table, const T* src, const int64_t* id, int64_t rows, int64_t cols,
                         int64_t begin, int64_t end) {
    for (int64_t r = 0; r < rows; ++r) {
        if (id[r] < 0) continue;
        T* row = table + id[r] * cols + begin;
        map_vectors(
            row, end - begin, [](auto sum, auto v) HWY_ATTR { return hn::Add(sum, v); }, row,
            src + r * cols + begin);
    }
}

// One owner a range of columns, which goes through all rows in order: deterministic, balanced even
// if every id is the same, and nothing has to be sorted.
template <class T>
void scatter_add_rows(Context& context, T* table, const T* src, const int64_t* id, int64_t rows,
                      int64_t cols, int64_t /*table_rows*/) {
    constexpr int64_t kOwned = 64;  // 256 bytes of f32: whole cache lines
    const int64_t owned = rows * cols <= kChunkElements ? cols : kOwned;
    context.pool->for_ranges(cols, owned, [&](int64_t begin, int64_t end) {
        scatter_add_columns(table, src, id, rows, cols, begin, end);
    });
}

template <class T>
T square_norm(const T* x, int64_t cols) {
    return sum_vectors<T>(
        cols, [](auto v) HWY_ATTR { return hn::Mul(v, v); }, x);
}

template <class T>
void square_norms(T* dst, const T* x, int64_t rows, int64_t cols) {
    for (int64_t r = 0; r < rows; ++r) dst[r] = square_norm(x + r * cols, cols);
}

// row (codes) holds -2 x.c and becomes the distances; returns the first least one, 0 if all are
// NaN.
template <class T>
int64_t nearest_in_row(T* row, T x_norm, const T* code_norm, int64_t codes) {
    const auto x_norm_v = hn::Set(Tag<T>(), x_norm);
    map_vectors(
        row, codes,
        [x_norm_v](auto product, auto norm)
            HWY_ATTR { return hn::Add(hn::Add(x_norm_v, product), norm); },
        row, code_norm);
    // The least value first, by vectors, then its first position.
    T least = std::numeric_limits<T>::infinity();
    {
        const Tag<T> d;
        constexpr int64_t N = lanes_of<T>();
        auto m = hn::Set(d, least);
        int64_t i = 0;
        for (; i + N <= codes; i += N) {
            const auto v = hn::LoadU(d, row + i);
            m = hn::IfThenElse(hn::Lt(v, m), v, m);
        }
        least = hn::GetLane(hn::MinOfLanes(d, m));
        for (; i < codes; ++i) least = row[i] < least ? row[i] : least;
    }
    for (int64_t i = 0; i < codes; ++i)
        if (row[i] == least) return i;
    return 0;
}

template <class T>
void nearest_rows(int64_t* id, T* distance, const T* x, const T* code_norm, int64_t begin,
                  int64_t end, int64_t codes, int64_t cols) {
    for (int64_t r = begin; r < end; ++r)
        id[r] =
            nearest_in_row(distance + r * codes, square_norm(x + r * cols, cols), code_norm, codes);
}

template <class T>
void nearest_code(Context& context, int64_t* id, T* distance, const T* x, const T* code,
                  int64_t rows, int64_t codes, int64_t cols) {
    if (rows == 0) return;
    if (codes == 0) {
        std::fill_n(id, rows, int64_t{0});
        return;
    }
    Loan<T> code_norm(*context.workspace, codes);
    context.pool->for_ranges(codes, rows_per_chunk(cols), [&](int64_t begin, int64_t end) {
        square_norms(code_norm.data() + begin, code + begin * cols, end - begin, cols);
    });
    // Without a place for all distances, as many rows at a time as stay in the second-level cache.
    const int64_t slab =
        distance ? rows : std::min(rows, std::max<int64_t>(64, (int64_t{1} << 19) / codes));
    Loan<T> scratch(*context.workspace, distance ? 0 : slab * codes);
    for (int64_t first = 0; first < rows; first += slab) {
        const int64_t n = std::min(slab, rows - first);
        T* products = distance ? distance : scratch.data();  // (n, codes)
        const T* slab_x = x + first * cols;
        MatmulArgs<T> args;
        args.c = products;
        args.a = slab_x;
        args.b = code;
        args.m = n;
        args.n = codes;
        args.k = cols;
        args.ldc = codes;
        args.lda = args.ldb = cols;
        args.trans_b = true;
        args.alpha = T{-2};
        backend(DeviceType::cpu).table<T>().matmul(context, args);
        context.pool->for_ranges(n, rows_per_chunk(codes), [&](int64_t begin, int64_t end) {
            nearest_rows(id + first, products, slab_x, code_norm.data(), begin, end, codes, cols);
        });
    }
}

template <class T>
void fill_table(EmbeddingKernels<T>& table) {
    table.gather_rows = gather_rows<T>;
    table.scatter_add_rows = scatter_add_rows<T>;
    table.nearest_code = nearest_code<T>;
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
void fill_embedding(Backend& b) {
    HWY_DYNAMIC_DISPATCH(fill)(b);
}
}  // namespace mc
#endif
