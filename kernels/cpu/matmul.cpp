// Matrix products: C = alpha op(A) op(B) [+ C], then the epilogue.
//
// The scheme is BLIS's (Van Zee and van de Geijn, "BLIS: A framework for rapidly instantiating BLAS
// functionality", TOMS 2015): B is packed once into panels that all threads share, a register block
// runs along k on a panel of B and one of A, or A's rows in place, which stay in the second-level
// cache, and meanwhile fetches the panel after it. k is walked in blocks of depth_of(k), one after
// another and never split between threads: each element of C is the same sum in the same order for
// any number of threads.
//
// Six ways: dot products along k where C has few rows or columns; register blocks that read B in
// place where C's columns are contiguous in it and C has few rows or B is small; the transposed
// product, which reads B in place where k is, where there are some rows; B packed by columns in
// each thread's own cache where there are some rows; else B packed for all threads, or as the
// caller holds it.
#include "kernels/cpu/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/matmul.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <utility>

#include "kernels/backend.h"
#include "kernels/cpu/chunking.h"
#include "kernels/cpu/fill.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/gemm_bf16-inl.h"
#include "kernels/cpu/gemm_dots-inl.h"
#include "kernels/cpu/gemm_int16-inl.h"
#include "kernels/cpu/gemm_lanes-inl.h"
#include "kernels/cpu/gemm_pack-inl.h"
#include "kernels/cpu/gemm_tile-inl.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/cpu/workspace.h"

HWY_BEFORE_NAMESPACE();
namespace mc {
namespace HWY_NAMESPACE {

// A row block of A, 48 x 512 f32, is 96 KiB of the second-level cache; small, so that threads end
// together.
inline constexpr int64_t kMaxRowBlock = 48;
// Of rows in place, as many more as save a motion of 49 to 64 tokens a second pass over B.
inline constexpr int64_t kMaxRowBlockInPlace = 64;
// For more rows than 32 such blocks A is packed, in longer register blocks, where it meets more
// columns of B than these.
inline constexpr int64_t kMaxColsInPlace = 512;
// Packed B at a time: 2 MiB of f32, so that it is still in a cache when it is used.
inline constexpr int64_t kMaxPackedB = int64_t{1} << 19;
// Packed A at a time: 4 MiB of f32, and kMaxDepth steps of 32 row blocks at least.
inline constexpr int64_t kMaxPackedA = int64_t{1} << 20;
inline constexpr int64_t kMaxCols = 2048;  // of B at a time
// B that stays in the first-level cache: 16 KiB of f32.
inline constexpr int64_t kMaxInPlace = 4096;
// Columns of B that a thread packs for itself, kMaxDepth steps of them: 256 KiB of f32, a part of
// the second-level cache.
inline constexpr int64_t kMaxColsInCache = 128;
inline constexpr int64_t kMaxRowsInCache = 256;
// Multiply-adds worth another thread's while, and, where few are made with each, elements of an
// operand that are read from memory (about 10 us).
inline constexpr int64_t kWorkPerChunk = int64_t{1} << 19;
inline constexpr int64_t kReadPerChunk = int64_t{1} << 15;

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
    const int64_t rows_for_work = ceil_div(kWorkPerChunk, HWY_MAX(int64_t{1}, other * args.k)),
                  rows_read = ceil_div(kReadPerChunk, args.k);
    const int64_t grain = round_up(HWY_MIN(rows_for_work, rows_read), 12);
    context.pool->for_ranges(length, grain, [&](int64_t begin, int64_t end) {
        const int64_t row = by_rows ? begin : 0, col = by_rows ? 0 : begin;
        const int64_t rows = by_rows ? end - begin : args.m, cols = by_rows ? args.n : end - begin;
        dot_tile(rows, cols, args.k, a + row * lda, lda, b + col * ldb, ldb,
                 args.c + row * args.ldc + col, args.ldc, args.alpha, args.accumulate);
        apply_epilogue(args, row, col, rows, cols);
    });
}

// B's rows contiguous, and used too seldom to be worth a copy or few enough to be read from the
// first-level cache as they are; A likewise, or packed.
template <class T>
void with_b_in_place(Context& context, const MatmulArgs<T>& args) {
    constexpr int64_t kCols = kBlockCols<T>;
    const bool a_in_place = args.m * args.k <= kMaxInPlace;
    const int64_t a_panel = args.k * kBlockRows, a_panels = ceil_div(args.m, kBlockRows);
    Loan<T> packed_a(*context.workspace, a_in_place ? 0 : a_panels * a_panel);
    if (!a_in_place)
        pack_panels<kBlockRows>(packed_a.data(), a_panel, args.a, args.lda, !args.trans_a, 0,
                                args.m, 0, args.k);
    const int64_t whole = args.n / kCols * kCols, rest = args.n - whole;
    Loan<T> edge(*context.workspace, rest ? args.k * kCols : 0);  // the columns a vector overhangs
    if (rest)
        pack_panels<static_cast<int>(kCols)>(edge.data(), 0, args.b, args.ldb, false, whole, rest,
                                             0, args.k);
    const int64_t grain = round_up(ceil_div(kWorkPerChunk, args.m * args.k), kCols);
    context.pool->for_ranges(args.n, grain, [&](int64_t begin, int64_t end) {
        constexpr int64_t kWide = WideInPlace<T, true>::kB;
        const int64_t inner = HWY_MIN(end, whole),
                      wide = a_in_place ? (inner - begin) / kWide * kWide : 0;
        const auto walk = [&](auto operands, auto wide_operands, const Strips<T>& a,
                              int64_t distance, int64_t k, int64_t depth) {
            using Operands = decltype(operands);
            const bool first = k == 0, last = k + depth == args.k;
            // Nothing to fetch: the operands are small, or the processor sees that row follows row.
            const auto columns = [&](auto these, const Strips<T>& strips, int64_t from,
                                     int64_t to) {
                if (from < to)
                    tile<decltype(these)>(args, 0, args.m, from, to - from, strips,
                                          {args.b + k * args.ldb + from, 1, args.ldb}, depth, first,
                                          last, nullptr, false);
            };
            columns(wide_operands, {a.at, distance, a.step}, begin, begin + wide);
            columns(operands, a, begin + wide, inner);
            if (end > whole)
                tile<Operands>(args, 0, args.m, whole, rest, a, {edge.data() + k * kCols, 0, kCols},
                               depth, first, last);
        };
        const int64_t most = depth_of(args.k);
        for (int64_t k = 0; k < args.k; k += most) {
            const int64_t depth = HWY_MIN(most, args.k - k);
            if (!a_in_place)
                walk(PlainOperands<T>(), PlainOperands<T>(),
                     {packed_a.data() + k * kBlockRows, a_panel, kBlockRows}, 0, k, depth);
            else if (args.trans_a)
                walk(PlainOperands<T>(), WideInPlace<T, false>(),
                     {args.a + k * args.lda, kBlockRows, args.lda}, 1, k, depth);
            else
                walk(RowsInPlace<T>(), WideInPlace<T, true>(), {args.a + k, args.lda, args.lda},
                     args.lda, k, depth);
        }
    });
}

// pack(first, count, step, steps) on all threads, about 8 K elements a chunk: cut along the
// operand's long side in multiples of `width`, or along k, in multiples of `unit`, where that is
// how it lies in memory.
template <class Pack>
void pack_in_chunks(Context& context, bool k_contiguous, int64_t width, int64_t unit, int64_t count,
                    int64_t steps, const Pack& pack) {
    constexpr int64_t kElements = int64_t{1} << 13;
    if (k_contiguous) {
        const int64_t grain = round_up(ceil_div(kElements, steps), width);
        context.pool->for_ranges(
            count, grain, [&](int64_t begin, int64_t end) { pack(begin, end - begin, 0, steps); });
    } else {
        const int64_t grain = round_up(HWY_MAX(kElements / count, int64_t{16}), unit);
        context.pool->for_ranges(
            steps, grain, [&](int64_t begin, int64_t end) { pack(0, count, begin, end - begin); });
    }
}

// Some rows, k along those of B.
template <class T>
void with_rows_in_lanes(Context& context, const MatmulArgs<T>& args) {
    constexpr int64_t kCols = kBlockCols<T>, kElements = int64_t{1} << 13;
    const RowsInLanes<T> rows(args);
    Loan<T> a(*context.workspace, rows.width * args.k);
    const int64_t steps = round_up(ceil_div(kElements, args.m), 16);
    context.pool->for_ranges(args.k, steps, [&](int64_t begin, int64_t end) {
        rows.pack(a.data(), args, begin, end - begin);
    });
    // Whole vectors, or, of few columns, groups of one width.
    const int64_t width = args.n < 4 * kCols ? ceil_div(args.n, ceil_div(args.n, kCols)) : kCols;
    const int64_t groups = ceil_div(args.n, width);
    const int64_t grain = HWY_MAX(kWorkPerChunk / (args.m * args.k * width),
                                  HWY_MAX(HWY_MIN(groups / 8, int64_t{4}), int64_t{1}));
    context.pool->for_ranges(groups, grain, [&](int64_t begin, int64_t end) {
        LanesColumns<T> columns(args, rows, a.data());
        for (int64_t group = begin; group < end; ++group) {
            const int64_t col = group * width;
            columns.multiply(col, HWY_MIN(width, args.n - col), group + 1 < end);
        }
    });
}

// Too few rows for a pass over B of its own, C's columns contiguous in B: who multiplies some of
// them packs them, some steps at a time, and finds them in the first cache levels. Rows of A are
// read in place.
template <class T>
void with_b_in_cache(Context& context, const MatmulArgs<T>& args) {
    using Packed = PlainOperands<T>;
    constexpr int64_t kA = Packed::kA, kB = Packed::kB;
    const int64_t a_panel = args.k * kA;
    Loan<T> a(*context.workspace, args.trans_a ? ceil_div(args.m, kA) * a_panel : 0);
    if (args.trans_a)
        pack_in_chunks(context, false, kA, 1, args.m, args.k,
                       [&](int64_t first, int64_t count, int64_t k, int64_t depth) {
                           Packed::pack_a(a.data() + first / kA * a_panel + k * kA, a_panel, args,
                                          first, count, k, depth);
                       });
    const int64_t chunks = HWY_MIN(24, HWY_MAX(args.m * args.n * args.k / kWorkPerChunk, 1));
    const int64_t group = HWY_MIN(round_up(ceil_div(args.n, chunks), kB), kMaxColsInCache);
    context.pool->for_chunks(ceil_div(args.n, group), [&](int64_t chunk) {
        const int64_t col = chunk * group, cols = HWY_MIN(group, args.n - col);
        const int64_t most = depth_of(args.k);
        Loan<T> b(thread_workspace(), round_up(cols, kB) * HWY_MIN(most, args.k));
        for (int64_t k = 0; k < args.k; k += most) {
            const int64_t depth = HWY_MIN(most, args.k - k);
            const bool first = k == 0, last = k + depth == args.k;
            Packed::pack_b(b.data(), depth * kB, args, col, cols, k, depth);
            const Strips<T> panels{b.data(), depth, kB};
            if (!args.trans_a) {
                tile<RowsInPlace<T>>(args, 0, args.m, col, cols, {args.a + k, args.lda, args.lda},
                                     panels, depth, first, last);
                continue;
            }
            for (int64_t row = 0; row < args.m; row += kMaxRowBlock)
                tile<Packed>(args, row, HWY_MIN(kMaxRowBlock, args.m - row), col, cols,
                             {a.data() + row / kA * a_panel + k * kA, a_panel, kA}, panels, depth,
                             first, last);
        }
    });
}

// How the packed way cuts a problem; depends on the problem alone.
template <class Operands>
struct Partition {
    // `packed`: B is, as a whole. `may_stay`: the rows of A may stay where they are.
    Partition(int64_t m, int64_t n, int64_t steps, bool packed, bool may_stay) {
        constexpr int64_t kCols = Operands::kB;
        static_assert(32 * kMaxRowBlockInPlace * kMaxDepth <= kMaxPackedA);
        most = Operands::most_steps(steps);
        in_place = may_stay && (m <= 32 * kMaxRowBlockInPlace || n <= kMaxColsInPlace);
        const int64_t most_rows = in_place ? kMaxRowBlockInPlace : kMaxRowBlock;
        cols = round_up(n, kCols);
        depth = steps;
        if (!packed) {
            cols = round_up(ceil_div(n, ceil_div(n, kMaxCols)), kCols);
            depth = HWY_MIN(steps, HWY_MAX(kMaxPackedB / cols / most, int64_t{1}) * most);
        }
        row_blocks = ceil_div(m, most_rows);
        if (in_place) {
            rows = ceil_div(m, row_blocks);
            row_blocks = ceil_div(m, rows);
        } else {
            if (row_blocks > 1) row_blocks = round_up(row_blocks, 2);  // for two shares
            // Whole register blocks; the last row block has what is left, more or less.
            rows = m / row_blocks / kBlockRows * kBlockRows;
            if (rows == 0 || m - (row_blocks - 1) * rows > most_rows) {
                rows = round_up(ceil_div(m, row_blocks), kBlockRows);
                row_blocks = ceil_div(m, rows);
            }
        }
        const int64_t read = HWY_MIN(n, cols) * depth,
                      worth = HWY_MAX(m * read / kWorkPerChunk, read / kReadPerChunk);
        if (worth < 2) {  // too small to share
            rows = round_up(m, kBlockRows);
            row_blocks = 1;
            group_cols = cols;
        } else {
            int64_t groups = row_blocks >= 32 ? 1 : ceil_div(96, row_blocks);
            groups = HWY_MIN(groups, cols / kCols);
            groups = HWY_MAX(HWY_MIN(groups, 2 * worth / row_blocks), int64_t{1});
            group_cols = round_up(ceil_div(cols, groups), Operands::width(m, cols));
        }
        // Where a row block meets several column groups, A is packed once for all or stays in
        // place, as many steps of it as a cache holds: there are at most 32 row blocks.
        all_of_a = group_cols < cols;
        shares = row_blocks % 2 == 0 ? 2 : 1;
        if (all_of_a) depth = HWY_MIN(depth, kMaxPackedA / round_up(m, kBlockRows) / most * most);
    }
    int64_t rows_of(int64_t block, int64_t m) const {
        return block + 1 < row_blocks ? rows : m - block * rows;
    }
    bool in_place;       // the rows of A stay where they are
    int64_t cols;        // of B packed at a time
    int64_t most;        // steps multiplied at a time
    int64_t depth;       // packed at a time, a multiple of `most` or all
    int64_t rows;        // of a tile but the last along m
    int64_t row_blocks;  // tiles along m
    int64_t shares;      // of the rows, each as many row blocks, one after another
    int64_t group_cols;  // columns of a tile
    bool all_of_a;       // its packed steps, or its rows in place, serve every group
};

// Panels = columns [col, col + cols) of B, steps [step, step + steps).
template <class Operands, class T = typename Operands::Out>
void pack_columns(Context& context, typename Operands::B* panels, const MatmulArgs<T>& args,
                  int64_t col, int64_t cols, int64_t step, int64_t steps) {
    const int64_t panel = Operands::kB * steps;
    pack_in_chunks(context, args.trans_b, Operands::kB, Operands::kUnit, cols, steps,
                   [&](int64_t first, int64_t count, int64_t at, int64_t some) {
                       Operands::pack_b(panels + first / Operands::kB * panel + at * Operands::kB,
                                        panel, args, col + first, count, step + at, some);
                   });
}

// `whole_b`: all of B's panels (pack_columns), or null: they are made here.
template <class Operands, class T = typename Operands::Out>
void packed(Context& context, const MatmulArgs<T>& args, const typename Operands::B* whole_b) {
    using A = typename Operands::A;
    using B = typename Operands::B;
    constexpr int64_t kA = Operands::kA, kB = Operands::kB;
    const int64_t steps = Operands::steps(args.k);
    constexpr bool kPlain = std::is_same_v<Operands, PlainOperands<T>>;
    const Partition<Operands> part(args.m, args.n, steps, whole_b != nullptr,
                                   kPlain && !args.trans_a);
    const int64_t a_panels = ceil_div(args.m, kBlockRows);
    const bool pack_a_first = part.all_of_a && !part.in_place;
    Loan<B> b_loan(*context.workspace, whole_b ? 0 : part.cols * part.depth);
    Loan<A> a(*context.workspace, pack_a_first ? a_panels * kA * part.depth : 0);
    for (int64_t col = 0; col < args.n; col += part.cols) {
        const int64_t cols = HWY_MIN(part.cols, args.n - col);
        const int64_t groups = ceil_div(cols, part.group_cols);
        for (int64_t k0 = 0; k0 < steps; k0 += part.depth) {
            const int64_t all_depth = HWY_MIN(part.depth, steps - k0);
            const int64_t a_panel = kA * all_depth;
            // Whole panels of B have all steps.
            const Strips<B> b = whole_b ? Strips<B>{whole_b + k0 * kB, steps, kB}
                                        : Strips<B>{b_loan.data(), all_depth, kB};
            if (!whole_b)
                pack_columns<Operands>(context, b_loan.data(), args, col, cols, k0, all_depth);
            if (pack_a_first)
                context.pool->for_chunks(part.row_blocks, [&](int64_t block) {
                    const int64_t row = block * part.rows;
                    Operands::pack_a(a.data() + row / kBlockRows * a_panel, a_panel, args, row,
                                     part.rows_of(block, args.m), k0, all_depth);
                });
            // Where all of A is at hand, down the rows of a share first, so that B is what stays.
            // The pool gives a thread neighbouring chunks: of two each multiplies the rows that it
            // packed, or that it wrote in the kernels before, and not what the other's cache holds.
            const auto place = [&](int64_t chunk) {
                if (!part.all_of_a) return std::pair(chunk / groups, chunk % groups);
                const int64_t blocks = part.row_blocks / part.shares, all = blocks * groups;
                return std::pair(chunk / all * blocks + chunk % blocks, chunk % all / blocks);
            };
            context.pool->for_chunks(part.row_blocks * groups, [&](int64_t chunk) {
                const auto [block_of_rows, group] = place(chunk);
                const int64_t row = block_of_rows * part.rows;
                const int64_t rows = part.rows_of(block_of_rows, args.m);
                const int64_t j = group * part.group_cols;
                const int64_t width = HWY_MIN(part.group_cols, cols - j);
                Loan<A> own(thread_workspace(),
                            part.all_of_a ? 0 : ceil_div(rows, kBlockRows) * kA * part.most);
                for (int64_t k = 0; k < all_depth; k += part.most) {
                    const int64_t depth = HWY_MIN(part.most, all_depth - k);
                    const bool first = k0 + k == 0, last = k0 + k + depth == steps;
                    const Strips<B> panels{b.from(j).at + k * kB, b.stride, kB};
                    // Further steps of these columns, or the next ones.
                    const B* then = k + depth < all_depth ? panels.at + depth * kB
                                    : j + width < cols    ? b.from(j + width).at
                                                          : b.at;
                    if constexpr (kPlain)
                        if (part.in_place) {
                            tile<RowsInPlace<T>>(
                                args, row, rows, col + j, width,
                                {args.a + row * args.lda + k0 + k, args.lda, args.lda}, panels,
                                depth, first, last, then);
                            continue;
                        }
                    Strips<A> block{a.data() + row / kBlockRows * a_panel + k * kA, a_panel, kA};
                    if (!pack_a_first) {
                        block = {own.data(), depth * kA, kA};
                        Operands::pack_a(own.data(), depth * kA, args, row, rows, k0 + k, depth);
                    }
                    tile<Operands>(args, row, rows, col + j, width, block, panels, depth, first,
                                   last, then);
                }
            });
        }
    }
}

// f with the operands of a product with B packed so, on this processor.
template <class F>
void with_packed_operands(Precision precision, const F& f) {
    if (precision == Precision::f32) return f(PlainOperands<float>());
    if (precision == Precision::int16) return f(Int16Operands());
#if HWY_TARGET == HWY_AVX3
    if (bf16_by_instruction()) return f(Bf16InstructionOperands());
#endif
    f(Bf16Operands());
}

template <class T>
void one_product(Context& context, const MatmulArgs<T>& args) {
    if (args.k <= 0) return without_depth(args);
    if constexpr (std::is_same_v<T, float>)
        if (args.packed_b.data && args.packed_b.precision != Precision::f32)
            return with_packed_operands(args.packed_b.precision, [&](auto operands) {
                using Operands = decltype(operands);
                packed<Operands>(context, args,
                                 static_cast<const typename Operands::B*>(args.packed_b.data));
            });
    if (args.n <= 4 || (args.m <= kMaxDotRows && args.trans_b)) return with_dots(context, args);
    if (!args.trans_b && (args.m <= 12 || args.n * args.k <= kMaxInPlace))
        return with_b_in_place(context, args);
    if (!args.packed_b.data && args.m <= kMaxRowsInCache && args.m * args.k <= kMaxPackedA)
        return args.trans_b ? with_rows_in_lanes(context, args) : with_b_in_cache(context, args);
    packed<PlainOperands<T>>(context, args, static_cast<const T*>(args.packed_b.data));
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

void pack_whole(Context& context, void* dst, Precision precision, const float* b, int64_t ldb,
                bool trans_b, int64_t k, int64_t n) {
    if (k <= 0 || n <= 0) return;
    MatmulArgs<float> args;
    args.b = b;
    args.ldb = ldb;
    args.trans_b = trans_b;
    args.k = k;
    args.n = n;
    with_packed_operands(precision, [&](auto operands) {
        using Operands = decltype(operands);
        pack_columns<Operands>(context, static_cast<typename Operands::B*>(dst), args, 0, n, 0,
                               Operands::steps(k));
    });
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
HWY_EXPORT(pack_whole);

void gemm(Context& context, const MatmulArgs<float>& args) {
    HWY_DYNAMIC_DISPATCH(matmul_f32)(context, args);
}
void gemm(Context& context, const MatmulArgs<double>& args) {
    HWY_DYNAMIC_DISPATCH(matmul_f64)(context, args);
}

namespace {

template <Precision precision>
void pack_b(Context& context, void* dst, const float* b, int64_t ldb, bool trans_b, int64_t k,
            int64_t n) {
    HWY_DYNAMIC_DISPATCH(pack_whole)(context, dst, precision, b, ldb, trans_b, k, n);
}

}  // namespace

void pack_b_f32(Context& context, void* dst, const float* b, int64_t ldb, bool trans_b, int64_t k,
                int64_t n) {
    pack_b<Precision::f32>(context, dst, b, ldb, trans_b, k, n);
}

void fill_matmul(Backend& backend) {
    backend.f32.matmul = static_cast<void (*)(Context&, const MatmulArgs<float>&)>(gemm);
    backend.f32.pack_b_f32 = pack_b_f32;
    backend.f32.pack_b_bf16 = pack_b<Precision::bf16>;
    backend.f32.pack_b_int16 = pack_b<Precision::int16>;
    backend.f64.matmul = static_cast<void (*)(Context&, const MatmulArgs<double>&)>(gemm);
}

}  // namespace mc
#endif
