// The product C^T = B A^T for operands stored with k along their rows, where C has some rows: its
// rows lie in the lanes of vectors, and B's are read where they lie, once and without being packed.
// For the few odd rows that would leave most of a vector empty, B's columns lie in the lanes: what
// a register block has just read of them is transposed.

#if defined(MC_KERNELS_CPU_GEMM_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MC_KERNELS_CPU_GEMM_LANES_INL_H_
#undef MC_KERNELS_CPU_GEMM_LANES_INL_H_
#else
#define MC_KERNELS_CPU_GEMM_LANES_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "kernels/cpu/chunking.h"
#include "kernels/cpu/gemm_pack-inl.h"
#include "kernels/cpu/gemm_tile-inl.h"
#include "kernels/cpu/workspace.h"

HWY_BEFORE_NAMESPACE();
namespace mc {
namespace HWY_NAMESPACE {

// Columns of C in the lanes of a vector for odd rows; 0: there are none.
template <class T>
constexpr int odd_cols() {
    if (HWY_TARGET == HWY_SCALAR || sizeof(T) != 4) return 0;
    return hn::MaxLanes(hn::ScalableTag<T>()) == 16 ? 8 : 4;
}
template <class T>
inline constexpr int kOddCols = odd_cols<T>();

// Odd rows that a register block has registers for.
inline constexpr int kMostOdd = 2;

// The rows of C: most in vectors, these in panels of at most three, and the last few beside the
// panels, where A has them along k.
template <class T>
struct RowsInLanes {
    static constexpr int64_t kLanes = hn::MaxLanes(hn::ScalableTag<T>());
    explicit RowsInLanes(const MatmulArgs<T>& args)
        : odd(odd_of(args)),
          in_lanes(args.m - odd),
          panels(ceil_div(in_lanes, kLanes)),
          width(panels.rows * kLanes) {}
    int64_t begin(int64_t panel) const { return panels.begin(panel) * kLanes; }
    int64_t width_of(int64_t panel) const { return panels.height(panel) * kLanes; }
    // Of the odd rows, those beside a panel are [odd_begin(panel), odd_begin(panel + 1)).
    int64_t odd_begin(int64_t panel) const { return odd * panel / panels.count; }

    // Steps [step, step + steps) of A's rows in lanes into panels of all steps.
    void pack(T* a, const MatmulArgs<T>& args, int64_t step, int64_t steps) const {
        const auto panel_of = [&](int64_t panel, auto vecs) {
            constexpr int kWidth = static_cast<int>(vecs() * kLanes);
            const int64_t row = begin(panel);
            pack_panels<kWidth>(a + row * args.k + step * kWidth, 0, args.a, args.lda,
                                !args.trans_a, row, HWY_MIN(kWidth, in_lanes - row), step, steps);
        };
        for (int64_t panel = 0; panel < panels.count; ++panel) {
            if (panels.height(panel) == 1) panel_of(panel, std::integral_constant<int, 1>());
            if (panels.height(panel) == 2) panel_of(panel, std::integral_constant<int, 2>());
            if (panels.height(panel) == 3) panel_of(panel, std::integral_constant<int, 3>());
        }
    }

    // What is beyond whole vectors, unless that is more than kMostOdd a panel.
    static int64_t odd_of(const MatmulArgs<T>& args) {
        const int64_t vecs = args.m / kLanes, rest = args.m % kLanes;
        const bool few = vecs > 0 && rest <= kMostOdd * ceil_div(vecs, 3);
        return kOddCols<T> > 0 && !args.trans_a && few && rest * 4 <= kLanes ? rest : 0;
    }

    int64_t odd;                // rows
    int64_t in_lanes;           // rows
    RowBlocks<3, true> panels;  // of vectors
    int64_t width;              // lanes of all panels
};

// Columns of C, rows of B, in a register block: as many as the registers hold sums of beside a step
// of the panel and a number of B, and as odd rows have in lanes.
template <class T>
constexpr int lanes_rows(int vecs, bool odd) {
    constexpr int kRegisters = kBlockRows == 12 ? 32 : 16;
    const int most = HWY_MIN(kBlockRows, (kRegisters - 1 - vecs) / vecs);
    return odd ? HWY_MIN(most, kOddCols<T>) : most;
}

// Odd rows of C that a register block makes beside its own.
template <class T>
struct OddRows {
    static constexpr int64_t kLanes = hn::MaxLanes(hn::ScalableTag<T>());
    static constexpr int kCols = kOddCols<T>;

    const T* a;  // (rows, depth)
    int64_t lda;
    T* steps;  // scratch (kLanes, kCols): some steps of B^T
    T* c;      // (rows, columns of the block)
    int64_t ldc;
    bool add;

#if HWY_TARGET != HWY_SCALAR
    // steps = kLanes steps of the block's rows of B, load(row), in an order of their own: as
    // transpose_blocks and store_blocks, but in two passes, since few registers are left.
    template <int kRows, class Load>
    HWY_INLINE void transpose(const Load& load) const {
        const hn::ScalableTag<T> d;
        using V = hn::Vec<decltype(d)>;
        const auto pass = [&](int first, const auto& interleave) HWY_ATTR {
            V even[kCols / 4], odd[kCols / 4];  // step 4 b + first, and the next, in block b
#pragma GCC unroll 2
            for (int g = 0; g < kCols / 4; ++g) {
                const auto row = [&](int i)
                                     HWY_ATTR { return load(HWY_MIN(4 * g + i, kRows - 1)); };
                const V r02 = interleave(row(0), row(2)), r13 = interleave(row(1), row(3));
                even[g] = hn::InterleaveLower(d, r02, r13);
                odd[g] = hn::InterleaveUpper(d, r02, r13);
            }
            store(even, steps + first * kCols / 4 * kLanes);
            store(odd, steps + (first + 1) * kCols / 4 * kLanes);
        };
        pass(0, [d](V a, V b) HWY_ATTR { return hn::InterleaveLower(d, a, b); });
        pass(2, [d](V a, V b) HWY_ATTR { return hn::InterleaveUpper(d, a, b); });
    }
    // The blocks of four columns, or of each step those of four and of four more.
    template <class V>
    HWY_INLINE static void store(const V (&part)[kCols / 4], T* to) {
        const hn::ScalableTag<T> d;
        if constexpr (kCols == 8) {
            const auto [even, odd] = interleave_blocks(part[0], part[1]);
            hn::Store(even, d, to);
            hn::Store(odd, d, to + kLanes);
        } else {
            hn::Store(part[0], d, to);
        }
    }
    static constexpr int64_t place(int64_t step) {
        if (kCols == 8) return (step % 4 * 2 + step / 4 % 2) * kLanes + step / 8 * 8;
        return step % 4 * kLanes + step / 4 * 4;
    }

    // sum += a[:, k to k + n) steps.
    template <class V, int kRows>
    HWY_INLINE void multiply(V (&sum)[kRows], int64_t k, int64_t n) const {
        const hn::DFromV<V> d;
#pragma GCC unroll 16
        for (int64_t i = 0; i < kLanes; ++i) {
            if (i >= n) break;
            const V step = hn::Load(d, steps + place(i));
            for (int row = 0; row < kRows; ++row)
                sum[row] = hn::MulAdd(hn::Set(d, a[row * lda + k + i]), step, sum[row]);
        }
    }
#endif
};

// block<kRows, kVecs, true> for rows of B and a panel of A, and kOdd odd rows beside it.
template <int kRows, int kVecs, int kOdd, class T>
HWY_NOINLINE void block_and_odd(int64_t depth, Strip<T> b, Strip<T> panel,
                                const BlockOutput<T>& out, const OddRows<T>& odd) {
    const hn::ScalableTag<T> d;
    using V = hn::Vec<decltype(d)>;
    constexpr int64_t kLanes = hn::MaxLanes(hn::ScalableTag<T>());
    V sum[kRows][kVecs];
    clear(sum);
    FetchWalk ahead(out.ahead);
    const RowPointers<kRows, T> rows(b);
    const auto step = [&](int64_t k) HWY_ATTR {
        V av[kVecs];
#pragma GCC unroll 4
        for (int j = 0; j < kVecs; ++j) av[j] = hn::LoadU(d, panel.at + j * kLanes);
        panel.at += panel.step;
        ahead.step();
        multiply_add(sum, rows, k, av);
    };
    const hn::CappedTag<T, kOddCols<T>> d_odd;
    hn::Vec<decltype(d_odd)> odd_sum[kOdd];
    for (int row = 0; row < kOdd; ++row) odd_sum[row] = hn::Zero(d_odd);
    int64_t k = 0;
    for (; k + kLanes <= depth; k += kLanes) {
        for (int64_t i = 0; i < kLanes; ++i) step(k + i);
        odd.template transpose<kRows>([&](int i)
                                          HWY_ATTR { return hn::LoadU(d, rows.row(i) + k); });
        odd.multiply(odd_sum, k, kLanes);
    }
    if (const int64_t n = depth - k; n > 0) {
        odd.template transpose<kRows>(
            [&](int i) HWY_ATTR { return load_n(d, rows.row(i) + k, static_cast<size_t>(n)); });
        odd.multiply(odd_sum, k, n);
    }
    for (; k < depth; ++k) step(k);
    store_block(sum, out);
    HWY_ALIGN T made[kOddCols<T>];
    for (int row = 0; row < kOdd; ++row) {
        hn::Store(odd_sum[row], d_odd, made);
        T* const c = odd.c + row * odd.ldc;
        for (int j = 0; j < kRows; ++j)
            c[j] = odd.add ? std::fma(out.alpha, made[j], c[j]) : out.alpha * made[j];
    }
}

// choose(rows, vectors), both std::integral_constant, for `rows` columns of C, rows of B.
template <class T, bool kOdd, class Choose>
HWY_INLINE auto lanes_function(int64_t rows, int64_t vecs, const Choose& choose) {
    if (vecs == 3)
        return block_function<lanes_rows<T>(3, kOdd)>(rows, false, [&](auto height, auto) {
            return choose(height, std::integral_constant<int, 3>());
        });
    return block_function<lanes_rows<T>(2, kOdd)>(rows, vecs == 1, choose);
}

// The block for so many rows of B, vectors of a panel and odd rows, run.
template <class T>
HWY_INLINE void lanes_block(int64_t rows, int64_t vecs, int64_t odd_rows, int64_t depth, Strip<T> b,
                            Strip<T> panel, const BlockOutput<T>& out, const OddRows<T>& odd) {
    if constexpr ((kOddCols<T>) > 0) {
        static_assert(kMostOdd == 2);
        const auto with = [&](auto count) {
            lanes_function<T, true>(rows, vecs, [](auto height, auto width) {
                return &block_and_odd<height(), width(), decltype(count)::value, T>;
            })(depth, b, panel, out, odd);
        };
        if (odd_rows == 1) return with(std::integral_constant<int, 1>());
        if (odd_rows == 2) return with(std::integral_constant<int, 2>());
    }
    lanes_function<T, false>(rows, vecs, [](auto height, auto width) {
        return &block<height(), width(), true, T>;
    })(depth, b, panel, out);
}

// Columns of C, at most kBlockCols at a time, for A packed by RowsInLanes::pack. What is finished
// is written while the next columns are multiplied, a few rows beside each register block: they are
// fetched before it, and where their distance is a multiple of 4 KiB, more of them would drive one
// another out of the first-level cache.
template <class T>
class LanesColumns {
  public:
    LanesColumns(const MatmulArgs<T>& args, const RowsInLanes<T>& rows, const T* a)
        : args_(args),
          rows_(rows),
          a_(a),
          sums_(thread_workspace(), kCols * rows.width),
          made_(thread_workspace(), args.m * kCols),
          odd_(thread_workspace(), rows.odd * kCols),
          steps_(thread_workspace(), kLanes * kOddCols<T>) {}

    // [col, col + cols) of C; `more`: others follow.
    void multiply(int64_t col, int64_t cols, bool more);

  private:
    static constexpr int64_t kCols = kBlockCols<T>, kSize = sizeof(T);
    static constexpr int64_t kLanes = RowsInLanes<T>::kLanes;
    // Rows [begin, end) of the columns made last.
    void fetch(int64_t begin, int64_t end) const {
        const int64_t at = begin * args_.ldc + made_col_;
        fetch_to_write(args_.c + at, args_.ldc, end - begin, made_cols_);
        if (args_.epilogue.before_activation)
            fetch_to_write(args_.epilogue.before_activation + at, args_.ldc, end - begin,
                           made_cols_);
    }
    void write(int64_t begin, int64_t end) const {
        apply_epilogue(args_, made_.data() + begin * kCols, kCols, begin, made_col_, end - begin,
                       made_cols_);
    }

    const MatmulArgs<T>& args_;
    const RowsInLanes<T>& rows_;
    const T* a_;
    Loan<T> sums_;   // C^T (cols, width)
    Loan<T> made_;   // C (m, kCols)
    Loan<T> odd_;    // (odd, kCols)
    Loan<T> steps_;  // OddRows::steps
    int64_t made_col_ = 0, made_cols_ = 0;
};

template <class T>
HWY_NOINLINE void LanesColumns<T>::multiply(int64_t col, int64_t cols, bool more_columns) {
    const MatmulArgs<T>& args = args_;
    const RowsInLanes<T>& rows = rows_;
    const int widest = static_cast<int>(rows.panels.height(0));
    const RowBlocks<kBlockRows, true> blocks(cols, lanes_rows<T>(widest, rows.odd > 0));
    if (args.accumulate) {  // C is there before the sums
        const T* c = args.c + col;
        transpose<static_cast<int>(kLanes), true>(sums_.data(), rows.width, c, args.ldc,
                                                  rows.in_lanes, cols);
        for (int64_t i = 0; i < rows.odd; ++i)
            std::copy_n(c + (rows.in_lanes + i) * args.ldc, cols, odd_.data() + i * kCols);
    }
    const int64_t most = depth_of(args.k);
    const int64_t pieces = ceil_div(args.k, most) * blocks.count * rows.panels.count;
    const int64_t piece = made_cols_ > 0 ? ceil_div(args.m, pieces) : 0;  // rows to write
    int64_t written = 0;
    for (int64_t k = 0; k < args.k; k += most) {
        const int64_t depth = HWY_MIN(most, args.k - k);
        const bool first = k == 0 && !args.accumulate, last = k + depth == args.k;
        // What is read next: the same steps of the next rows, and in the end the next steps.
        const auto rows_of_b = [&](int64_t row, int64_t step) {
            return Fetch::rows(args.b + (col + row) * args.ldb + step, blocks.height(0),
                               HWY_MIN(most, args.k - step) * kSize, args.ldb * kSize,
                               rows.panels.count * depth);
        };
        const Fetch next_rows = rows_of_b(0, k),
                    next_steps = rows_of_b(last ? cols : 0, last ? 0 : k + depth);
        for (int64_t block = 0; block < blocks.count; ++block) {
            const int64_t j = blocks.begin(block), height = blocks.height(block);
            const Strip<T> b{args.b + (col + j) * args.ldb + k, args.ldb};
            Fetch next = next_steps;
            if (block + 1 < blocks.count) {
                next = next_rows;
                next.at = reinterpret_cast<const char*>(b.at + height * args.ldb);
            }
            for (int64_t panel = 0; panel < rows.panels.count; ++panel) {
                const int64_t begin = rows.begin(panel), width = rows.width_of(panel);
                T* const to = sums_.data() + j * rows.width + begin;
                const BlockOutput<T> out{
                    to, rows.width, width, args.alpha, first ? nullptr : to, rows.width, next};
                const int64_t odd_row = rows.odd_begin(panel);
                const OddRows<T> odd{args.a + (rows.in_lanes + odd_row) * args.lda + k,
                                     args.lda,
                                     steps_.data(),
                                     odd_.data() + odd_row * kCols + j,
                                     kCols,
                                     !first};
                const int64_t end = HWY_MIN(written + piece, args.m);
                fetch(written, end);
                lanes_block(height, rows.panels.height(panel), rows.odd_begin(panel + 1) - odd_row,
                            depth, b, {a_ + begin * args.k + k * width, width}, out, odd);
                write(written, end);
                written = end;
                next.skip(depth);
            }
        }
    }
    const auto make = [&](T* to, int64_t ld) {
        transpose<static_cast<int>(kCols), false>(to, ld, sums_.data(), rows.width, cols,
                                                  rows.in_lanes);
        for (int64_t i = 0; i < rows.odd; ++i)
            std::copy_n(odd_.data() + i * kCols, cols, to + (rows.in_lanes + i) * ld);
    };
    if (!more_columns && !has_epilogue(args)) return make(args.c + col, args.ldc);
    make(made_.data(), kCols);
    made_col_ = col;
    made_cols_ = cols;
    if (more_columns) return;
    fetch(0, args.m);
    write(0, args.m);
}

}  // namespace HWY_NAMESPACE
}  // namespace mc
HWY_AFTER_NAMESPACE();

#endif  // MC_KERNELS_CPU_GEMM_LANES_INL_H_
