// Matrix products: C = alpha op(A) op(B) [+ C], then the epilogue.
//
// The scheme is BLIS's (Van Zee and van de Geijn, "BLIS: A framework for rapidly instantiating BLAS
// functionality", TOMS 2015): B is packed once into panels that all threads share, each thread
// packs a block of A that fits its second-level cache, and a register block runs along k on two
// panels. k is walked in blocks of kDepth, one after another and never split between threads: each
// element of C is the same sum in the same order for any number of threads.
//
// Three ways: dot products along k where C has few rows or columns; register blocks that read B in
// place where C has few rows and B's rows are contiguous; else everything packed.
#include "kernels/cpu/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/matmul.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/backend.h"
#include "kernels/cpu/chunking.h"
#include "kernels/cpu/fill.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/gemm_pack-inl.h"
#include "kernels/cpu/gemm_tile-inl.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/cpu/workspace.h"

HWY_BEFORE_NAMESPACE();
namespace mc {
namespace HWY_NAMESPACE {

// A panel of B, kDepth x 16 f32, is 16 KiB: half a first-level cache.
inline constexpr int64_t kDepth = 256;
// A row block of A, 72 x 256 f32, is 72 KiB of the second-level cache.
inline constexpr int64_t kMaxRowBlock = 72;
// Packed B at a time: 8 MiB of f32.
inline constexpr int64_t kMaxPackedB = int64_t{1} << 21;
inline constexpr int64_t kMaxPackedA = int64_t{1} << 20;
inline constexpr int64_t kMaxCols = 4096;
// Multiply-adds worth waking another thread for (about 10 us).
inline constexpr int64_t kWorkPerChunk = int64_t{1} << 19;

inline int64_t round_up(int64_t a, int64_t b) {
    return ceil_div(a, b) * b;
}

// No k: C = 0 or C.
template <class T>
void without_depth(const MatmulArgs<T>& args) {
    for (int64_t i = 0; i < args.m && !args.accumulate; ++i)
        std::memset(args.c + i * args.ldc, 0, static_cast<size_t>(args.n) * sizeof(T));
    apply_epilogue(args, 0, 0, args.m, args.n);
}

// dst (count, k) contiguous = an operand that is stored with k across its rows.
template <class T>
void gather_along_k(T* dst, const T* src, int64_t ld, int64_t count, int64_t k) {
    for (int64_t p = 0; p < k; ++p)
        for (int64_t i = 0; i < count; ++i) dst[i * k + p] = src[p * ld + i];
}

template <class T>
void with_dots(Context& context, const MatmulArgs<T>& args) {
    const bool copy_a = args.trans_a, copy_b = !args.trans_b;
    Loan<T> a_loan(*context.workspace, copy_a ? args.m * args.k : 0);
    Loan<T> b_loan(*context.workspace, copy_b ? args.n * args.k : 0);
    if (copy_a) gather_along_k(a_loan.data(), args.a, args.lda, args.m, args.k);
    if (copy_b) gather_along_k(b_loan.data(), args.b, args.ldb, args.n, args.k);
    const T* a = copy_a ? a_loan.data() : args.a;
    const T* b = copy_b ? b_loan.data() : args.b;
    const int64_t lda = copy_a ? args.k : args.lda, ldb = copy_b ? args.k : args.ldb;
    const bool by_rows = args.m > args.n;
    const int64_t other = by_rows ? args.n : args.m, length = by_rows ? args.m : args.n;
    const int64_t grain =
        round_up(ceil_div(kWorkPerChunk, HWY_MAX(int64_t{1}, other * args.k)), 12);
    context.pool->for_ranges(length, grain, [&](int64_t begin, int64_t end) {
        if (by_rows)
            dot_tile(args, begin, end - begin, 0, args.n, a, lda, b, ldb);
        else
            dot_tile(args, 0, args.m, begin, end - begin, a, lda, b, ldb);
    });
}

// Few rows, B's rows contiguous: each element of B is used too seldom to be worth a copy.
template <class T>
void with_b_in_place(Context& context, const MatmulArgs<T>& args) {
    constexpr int64_t kCols = kBlockCols<T>;
    const int64_t a_panel = args.k * kBlockRows, a_panels = ceil_div(args.m, kBlockRows);
    Loan<T> a(*context.workspace, a_panels * a_panel);
    pack_panels<kBlockRows>(a.data(), a_panel, args.a, args.lda, !args.trans_a, 0, args.m, 0,
                            args.k);
    const int64_t whole = args.n / kCols * kCols, rest = args.n - whole;
    Loan<T> edge(*context.workspace, rest ? args.k * kCols : 0);  // the columns a vector overhangs
    if (rest)
        pack_panels<static_cast<int>(kCols)>(edge.data(), 0, args.b, args.ldb, false, whole, rest,
                                             0, args.k);
    const int64_t grain = round_up(ceil_div(kWorkPerChunk, args.m * args.k), kCols);
    context.pool->for_ranges(args.n, grain, [&](int64_t begin, int64_t end) {
        for (int64_t k = 0; k < args.k; k += kDepth) {
            const int64_t depth = HWY_MIN(kDepth, args.k - k);
            const bool first = k == 0, last = k + depth == args.k;
            const int64_t inner = HWY_MIN(end, whole);
            if (inner > begin)
                tile(args, 0, args.m, begin, inner - begin, a.data() + k * kBlockRows, a_panel,
                     args.b + k * args.ldb + begin, kCols, args.ldb, depth, first, last);
            if (end > whole)
                tile(args, 0, args.m, whole, rest, a.data() + k * kBlockRows, a_panel,
                     edge.data() + k * kCols, 0, kCols, depth, first, last);
        }
    });
}

// How the packed way cuts a problem; depends on the problem alone.
template <class T>
struct Partition {
    explicit Partition(const MatmulArgs<T>& args) {
        constexpr int64_t kCols = kBlockCols<T>;
        cols = HWY_MIN(round_up(args.n, kCols), kMaxCols);
        depth = HWY_MIN(args.k, HWY_MAX(kMaxPackedB / cols / kDepth, int64_t{1}) * kDepth);
        row_blocks = ceil_div(args.m, kMaxRowBlock);
        rows = round_up(ceil_div(args.m, row_blocks), kBlockRows);
        row_blocks = ceil_div(args.m, rows);
        const int64_t work = args.m * HWY_MIN(args.n, cols) * depth;
        if (work < 2 * kWorkPerChunk) {  // too small to share
            rows = round_up(args.m, kBlockRows);
            row_blocks = 1;
            group_cols = cols;
        } else {
            int64_t groups = row_blocks >= 12 ? 1 : ceil_div(24, row_blocks);
            groups = HWY_MIN(groups, HWY_MAX(cols / 64, int64_t{1}));
            groups = HWY_MAX(HWY_MIN(groups, work / kWorkPerChunk / row_blocks), int64_t{1});
            group_cols = round_up(ceil_div(cols, groups), kCols);
        }
        // Where a row block meets several column groups, A is packed once for all.
        pack_a_first = group_cols < cols && round_up(args.m, kBlockRows) * depth <= kMaxPackedA;
    }
    int64_t cols;        // of B packed at a time
    int64_t depth;       // of B packed at a time, a multiple of kDepth or all
    int64_t rows;        // of a tile
    int64_t row_blocks;  // tiles along m
    int64_t group_cols;  // columns of a tile
    bool pack_a_first;
};

// pack_panels on all threads, about 64 K elements a chunk: cut along the long side, or along k
// where that is how the operand lies in memory.
template <int kWidth, class T>
void pack_in_chunks(Context& context, T* panels, int64_t panel_stride, const T* src, int64_t ld,
                    bool k_contiguous, int64_t first, int64_t count, int64_t k0, int64_t depth) {
    constexpr int64_t kElements = int64_t{1} << 16;
    if (k_contiguous) {
        const int64_t grain = round_up(ceil_div(kElements, depth), kWidth);
        context.pool->for_ranges(count, grain, [&](int64_t begin, int64_t end) {
            pack_panels<kWidth>(panels + begin / kWidth * panel_stride, panel_stride, src, ld, true,
                                first + begin, end - begin, k0, depth);
        });
    } else {
        const int64_t grain = HWY_MAX(kElements / count, int64_t{16});
        context.pool->for_ranges(depth, grain, [&](int64_t begin, int64_t end) {
            pack_panels<kWidth>(panels + begin * kWidth, panel_stride, src, ld, false, first, count,
                                k0 + begin, end - begin);
        });
    }
}

template <class T>
void packed(Context& context, const MatmulArgs<T>& args) {
    constexpr int64_t kCols = kBlockCols<T>;
    const Partition<T> part(args);
    const int64_t a_panels = ceil_div(args.m, kBlockRows);
    Loan<T> b(*context.workspace, part.cols * part.depth);
    Loan<T> a(*context.workspace, part.pack_a_first ? a_panels * kBlockRows * part.depth : 0);
    for (int64_t col = 0; col < args.n; col += part.cols) {
        const int64_t cols = HWY_MIN(part.cols, args.n - col);
        const int64_t groups = ceil_div(cols, part.group_cols);
        for (int64_t k0 = 0; k0 < args.k; k0 += part.depth) {
            const int64_t all_depth = HWY_MIN(part.depth, args.k - k0);
            const int64_t b_panel = kCols * all_depth, a_panel = kBlockRows * all_depth;
            pack_in_chunks<static_cast<int>(kCols)>(context, b.data(), b_panel, args.b, args.ldb,
                                                    args.trans_b, col, cols, k0, all_depth);
            if (part.pack_a_first)
                pack_in_chunks<kBlockRows>(context, a.data(), a_panel, args.a, args.lda,
                                           !args.trans_a, 0, args.m, k0, all_depth);
            context.pool->for_chunks(part.row_blocks * groups, [&](int64_t chunk) {
                const int64_t row = chunk / groups * part.rows;
                const int64_t rows = HWY_MIN(part.rows, args.m - row);
                const int64_t j = chunk % groups * part.group_cols;
                const int64_t width = HWY_MIN(part.group_cols, cols - j);
                Loan<T> own(thread_workspace(),
                            part.pack_a_first ? 0 : round_up(rows, kBlockRows) * kDepth);
                for (int64_t k = 0; k < all_depth; k += kDepth) {
                    const int64_t depth = HWY_MIN(kDepth, all_depth - k);
                    const T* block = a.data() + row / kBlockRows * a_panel + k * kBlockRows;
                    int64_t block_panel = a_panel;
                    if (!part.pack_a_first) {
                        block_panel = depth * kBlockRows;
                        block = own.data();
                        pack_panels<kBlockRows>(own.data(), block_panel, args.a, args.lda,
                                                !args.trans_a, row, rows, k0 + k, depth);
                    }
                    tile(args, row, rows, col + j, width, block, block_panel,
                         b.data() + j / kCols * b_panel + k * kCols, b_panel, kCols, depth,
                         k0 + k == 0, k0 + k + depth == args.k);
                }
            });
        }
    }
}

template <class T>
void one_product(Context& context, const MatmulArgs<T>& args) {
    if (args.k <= 0) return without_depth(args);
    if (args.n <= 4 || (args.m <= 8 && args.trans_b)) return with_dots(context, args);
    if (args.m <= 12 && !args.trans_b) return with_b_in_place(context, args);
    packed(context, args);
}

template <class T>
void products(Context& context, const MatmulArgs<T>& all) {
    if (all.m <= 0 || all.n <= 0 || all.batch <= 0) return;
    MatmulArgs<T> args = all;
    if (args.batch > 1 && args.stride_b == 0 && !args.trans_a &&
        args.stride_a == args.m * args.lda && args.stride_c == args.m * args.ldc) {
        args.m *= args.batch;  // one tall product
        args.batch = 1;
    }
    const int64_t count = args.batch;
    args.batch = 1;
    const auto problem = [&](int64_t i) {
        MatmulArgs<T> one = args;
        one.a += i * all.stride_a;
        one.b += i * all.stride_b;
        one.c += i * all.stride_c;
        if (one.epilogue.before_activation) one.epilogue.before_activation += i * all.stride_c;
        return one;
    };
    const int64_t work = args.m * args.n * HWY_MAX(args.k, int64_t{1});
    if (count >= 8 || (count > 1 && work < 8 * kWorkPerChunk)) {
        // Whole problems to threads.
        context.pool->for_ranges(count, HWY_MAX(kWorkPerChunk / work, int64_t{1}),
                                 [&](int64_t begin, int64_t end) {
                                     Context own = context;
                                     own.workspace = &thread_workspace();
                                     for (int64_t i = begin; i < end; ++i)
                                         one_product(own, problem(i));
                                 });
        return;
    }
    for (int64_t i = 0; i < count; ++i) one_product(context, problem(i));
}

void matmul_f32(Context& context, const MatmulArgs<float>& args) {
    products(context, args);
}
void matmul_f64(Context& context, const MatmulArgs<double>& args) {
    products(context, args);
}

}  // namespace HWY_NAMESPACE
}  // namespace mc
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mc {

HWY_EXPORT(matmul_f32);
HWY_EXPORT(matmul_f64);

void gemm(Context& context, const MatmulArgs<float>& args) {
    HWY_DYNAMIC_DISPATCH(matmul_f32)(context, args);
}
void gemm(Context& context, const MatmulArgs<double>& args) {
    HWY_DYNAMIC_DISPATCH(matmul_f64)(context, args);
}

void fill_matmul(Backend& backend) {
    backend.f32.matmul = static_cast<void (*)(Context&, const MatmulArgs<float>&)>(gemm);
    backend.f64.matmul = static_cast<void (*)(Context&, const MatmulArgs<double>&)>(gemm);
}

}  // namespace mc
#endif
