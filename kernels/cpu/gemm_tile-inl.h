// The inner part of the matrix product: register blocks, and tiles of C made of them, with the
// epilogue applied to each column strip while it is in the first-level cache.

#if defined(MC_KERNELS_CPU_GEMM_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MC_KERNELS_CPU_GEMM_TILE_INL_H_
#undef MC_KERNELS_CPU_GEMM_TILE_INL_H_
#else
#define MC_KERNELS_CPU_GEMM_TILE_INL_H_
#endif

#include <hwy/highway.h>

#include <type_traits>

#include "kernels/cpu/chunking.h"
#include "kernels/cpu/gemm_block.h"
#include "kernels/cpu/gemm_pack-inl.h"
#include "kernels/cpu/math-inl.h"
#include "kernels/matmul.h"

HWY_BEFORE_NAMESPACE();
namespace mc {
namespace HWY_NAMESPACE {

// Register block: kRows rows by two vectors. 16 registers hold 6 x 2 sums, two vectors of B and a
// broadcast of A; 32 registers hold 12 x 2.
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON
inline constexpr int kBlockRows = 12;
#elif HWY_TARGET == HWY_SCALAR
inline constexpr int kBlockRows = 4;
#else
inline constexpr int kBlockRows = 6;
#endif
template <class T>
inline constexpr int kBlockCols = 2 * static_cast<int>(hn::MaxLanes(hn::ScalableTag<T>()));

// The parts of a register block. `sum` is kRows rows of kVecs vectors.
template <class V, int kRows, int kVecs>
HWY_INLINE void clear(V (&sum)[kRows][kVecs]) {
    const hn::DFromV<V> d;
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < kVecs; ++j) sum[i][j] = hn::Zero(d);
}

template <class V, int kRows, int kVecs, class T>
HWY_INLINE void multiply_add(V (&sum)[kRows][kVecs], const T* HWY_RESTRICT a, const V (&b)[kVecs]) {
    const hn::DFromV<V> d;
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
        const V av = hn::Set(d, a[i]);
#pragma GCC unroll 4
        for (int j = 0; j < kVecs; ++j) sum[i][j] = hn::MulAdd(av, b[j], sum[i][j]);
    }
}

template <class V, int kRows, int kVecs, class T>
HWY_INLINE void store_block(V (&sum)[kRows][kVecs], const BlockOutput<T>& out) {
    const hn::DFromV<V> d;
    constexpr int64_t kLanes = hn::MaxLanes(hn::DFromV<V>());
    const V alpha = hn::Set(d, out.alpha);
    const auto each = [&](auto f) HWY_ATTR {
#pragma GCC unroll 16
        for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 4
            for (int j = 0; j < kVecs; ++j) f(sum[i][j], i, j * kLanes);
    };
    if (out.cols == kVecs * kLanes) {
        // All is read before anything is written: rows at a distance of 4 KiB look like one another
        // to the processor, and a read behind a write waits for it.
        if (out.plus)
            each([&, plus = out.plus, ld = out.plus_ld](V& v, int i, int64_t j)
                     HWY_ATTR { v = hn::MulAdd(alpha, v, hn::LoadU(d, plus + i * ld + j)); });
        else
            each([&](V& v, int, int64_t) HWY_ATTR { v = hn::Mul(alpha, v); });
        each([&, c = out.c, ld = out.ld](V v, int i, int64_t j)
                 HWY_ATTR { hn::StoreU(v, d, c + i * ld + j); });
        return;
    }
    HWY_ALIGN T row[kVecs * kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
        for (int j = 0; j < kVecs; ++j) hn::Store(sum[i][j], d, row + j * kLanes);
        T* c = out.c + i * out.ld;
        const T* plus = out.plus ? out.plus + i * out.plus_ld : nullptr;
        for (int64_t j = 0; j < kVecs * kLanes; j += kLanes) {
            if (j >= out.cols) break;
            const size_t n = static_cast<size_t>(HWY_MIN(kLanes, out.cols - j));
            const V v = hn::Load(d, row + j);
            store_n(plus ? hn::MulAdd(alpha, v, load_n(d, plus + j, n)) : hn::Mul(alpha, v), d,
                    c + j, n);
        }
    }
}

// Rows of A in place, three to a pointer.
template <int kRows, class T>
struct RowPointers {
    HWY_INLINE explicit RowPointers(Strip<T> a) : ld(a.step) {
#pragma GCC unroll 16
        for (int i = 0; i < kRows; i += 3) at[i / 3] = a.at + i * ld;
    }
    HWY_INLINE const T* row(int i) const {
        return at[i / 3] + i % 3 * ld;
    }
    HWY_INLINE T operator()(int i, int64_t k) const {
        return row(i)[k];
    }
    const T* at[(kRows + 2) / 3];
    int64_t ld;
};

// The same with step k of them.
template <class V, int kRows, int kVecs, class T>
HWY_INLINE void multiply_add(V (&sum)[kRows][kVecs], const RowPointers<kRows, T>& a, int64_t k,
                             const V (&b)[kVecs]) {
    const hn::DFromV<V> d;
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
        const V av = hn::Set(d, a(i, k));
#pragma GCC unroll 4
        for (int j = 0; j < kVecs; ++j) sum[i][j] = hn::MulAdd(av, b[j], sum[i][j]);
    }
}

// sum over k of a(i, k) * b[k * step + j], for kRows rows and kVecs vectors; a(i, k) is
// a[k * step + i], as in panels, or, kInPlace, a[i * step + k]. Every element is one chain of fused
// multiply-adds in the order of k, whatever kRows and kVecs.
template <int kRows, int kVecs, bool kInPlace, class T>
HWY_NOINLINE void block(int64_t depth, Strip<T> a, Strip<T> b, const BlockOutput<T>& out) {
    const hn::ScalableTag<T> d;
    using V = hn::Vec<decltype(d)>;
    constexpr int64_t kLanes = hn::MaxLanes(hn::ScalableTag<T>());
    V sum[kRows][kVecs];
    clear(sum);
    FetchWalk ahead(out.ahead);
    const RowPointers<kRows, T> rows(a);
    for (int64_t k = 0; k < depth; ++k) {
        V bv[kVecs];
#pragma GCC unroll 4
        for (int j = 0; j < kVecs; ++j) bv[j] = hn::LoadU(d, b.at + j * kLanes);
        ahead.step();
        if constexpr (kInPlace) {
            multiply_add(sum, rows, k, bv);
        } else {
            multiply_add(sum, a.at, bv);
            a.at += a.step;
        }
        b.at += b.step;
    }
    store_block(sum, out);
}

// Steps along k of a register block at a time: so many that adding to C is cheap beside them,
// evenly cut; the panels of A and B that it runs along, up to 64 KiB each, come from the
// second-level cache as fast as they are used.
inline constexpr int64_t kMaxDepth = 512;
constexpr int64_t depth_of(int64_t k) {
    return round_up(ceil_div(k, ceil_div(k, kMaxDepth)), 16);
}

// What the packed product multiplies, and how: here as it is. `kA` and `kB` elements of a panel
// make a step along k; kUnit steps are packed together, and of `steps` at most most_steps(steps),
// whole units, multiplied at a time.
template <class T>
struct PlainOperands {
    using Out = T;
    using A = T;
    using B = T;
    static constexpr int64_t kA = kBlockRows, kB = kBlockCols<T>;
    static constexpr int64_t kUnit = 1;
    static int64_t steps(int64_t k) { return k; }
    static int64_t most_steps(int64_t steps) { return depth_of(steps); }
    // Rows of the register blocks; each has a strip of A of its own or, kInPlace, begins in it.
    using Blocks = RowBlocks<kBlockRows, false>;
    static constexpr bool kInPlace = false;
    static constexpr bool kFetchOutput = true;  // C's rows, before they are written
    // A's rows [row, row + rows), steps [step, step + steps), into panels at distance panel_stride.
    static void pack_a(A* panels, int64_t panel_stride, const MatmulArgs<T>& args, int64_t row,
                       int64_t rows, int64_t step, int64_t steps) {
        pack_panels<kBlockRows>(panels, panel_stride, args.a, args.lda, !args.trans_a, row, rows,
                                step, steps);
    }
    // B's columns [col, col + cols), the same.
    static void pack_b(B* panels, int64_t panel_stride, const MatmulArgs<T>& args, int64_t col,
                       int64_t cols, int64_t step, int64_t steps) {
        pack_panels<static_cast<int>(kB)>(panels, panel_stride, args.b, args.ldb, args.trans_b, col,
                                          cols, step, steps);
    }
    // The columns that a block of `rows` rows takes of `left`.
    static int64_t width(int64_t, int64_t left) { return HWY_MIN(kB, left); }
    // The block for `rows` rows (1..kBlockRows) and so many columns.
    static BlockFunction<T, A, B> block_for(int64_t rows, int64_t cols) {
        return block_function<kBlockRows>(rows, cols * 2 <= kB, [](auto height, auto width) {
            return &block<height(), width(), false, T>;
        });
    }
};

// A's rows where they lie, in blocks of no more than the first-level cache has ways: rows at a
// distance of 4 KiB share a set of it and would drive one another out.
template <class T>
struct RowsInPlace : PlainOperands<T> {
    static constexpr int64_t kRows = HWY_MIN(8, kBlockRows);
    using Blocks = RowBlocks<kRows, true>;  // a block of few rows waits for its sums and for B
    static constexpr bool kInPlace = true;
    static BlockFunction<T, T, T> block_for(int64_t rows, int64_t cols) {
        return block_function<kRows>(
            rows, cols * 2 <= PlainOperands<T>::kB,
            [](auto height, auto width) { return &block<height(), width(), true, T>; });
    }
};

// A and B where they lie, A's rows along k or, not kAlong, across it, on columns that kB divides.
// As many sums as in panels, in fewer rows of four vectors, where the registers hold them: each
// block reads and writes longer pieces of rows.
template <class T, bool kAlong>
struct WideInPlace : PlainOperands<T> {
    static constexpr int kVecs = kBlockRows == 12 ? 4 : 2;
    static constexpr int64_t kRows = 2 * kBlockRows / kVecs, kB = kVecs * kBlockCols<T> / 2;
    using Blocks = RowBlocks<kRows, true>;
    static constexpr bool kInPlace = true;
    static constexpr bool kFetchOutput = false;  // whole lines, row after row, come by themselves
    static int64_t width(int64_t, int64_t) { return kB; }
    static BlockFunction<T, T, T> block_for(int64_t rows, int64_t) {
        return block_function<kRows>(
            rows, false, [](auto height, auto) { return &block<height(), kVecs, kAlong, T>; });
    }
};

// ---- Epilogue ---------------------------------------------------------------------------------

// c (rows, cols) = f(from + bias), and before = from + bias, if it is not null, at c's row stride
// `ld`; c may be `from`. A function for each f, with f inline: GCC (12) calls it otherwise, and
// fetches its constants for every vector.
template <class T, class F>
HWY_NOINLINE void epilogue_strip(T* c, T* before, int64_t ld, const T* from, int64_t from_ld,
                                 int64_t rows, int64_t cols, const T* bias, F f) {
    const hn::ScalableTag<T> d;
    using V = hn::Vec<decltype(d)>;
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
    if (cols == 2 * lanes) {  // the usual strip: two rows at a time, or the last one
        const V b0 = bias ? hn::LoadU(d, bias) : hn::Zero(d);
        const V b1 = bias ? hn::LoadU(d, bias + lanes) : hn::Zero(d);
        const auto some = [&](auto vectors, int64_t i) HWY_ATTR {
            constexpr int kCount = vectors();
            const auto at = [i, lanes](int j, int64_t stride)
                                HWY_ATTR { return (i + j / 2) * stride + j % 2 * lanes; };
            Group<V, kCount> x;
#pragma GCC unroll 4
            for (int j = 0; j < kCount; ++j)
                x.v[j] = hn::Add(hn::LoadU(d, from + at(j, from_ld)), j % 2 ? b1 : b0);
            if (before)
#pragma GCC unroll 4
                for (int j = 0; j < kCount; ++j) hn::StoreU(x.v[j], d, before + at(j, ld));
            x = f(d, x);
#pragma GCC unroll 4
            for (int j = 0; j < kCount; ++j) hn::StoreU(x.v[j], d, c + at(j, ld));
        };
        int64_t i = 0;
        for (; i + 2 <= rows; i += 2) some(std::integral_constant<int, 4>(), i);
        if (i < rows) some(std::integral_constant<int, 2>(), i);
        return;
    }
    for (int64_t j = 0; j < cols; j += lanes) {
        const size_t n = static_cast<size_t>(HWY_MIN(lanes, cols - j));
        const auto b = bias ? load_n(d, bias + j, n) : hn::Zero(d);
        for (int64_t i = 0; i < rows; ++i) {
            const auto x = hn::Add(load_n(d, from + i * from_ld + j, n), b);
            if (before) store_n(x, d, before + i * ld + j, n);
            store_n(f(d, Group<V, 1>{{x}}).v[0], d, c + i * ld + j, n);
        }
    }
}

template <class T>
HWY_INLINE bool has_epilogue(const MatmulArgs<T>& args) {
    return args.epilogue.bias || args.epilogue.activate || args.epilogue.before_activation;
}

// The epilogue of the part of C that begins at element (row, col), whose sums are at `from`.
template <class T>
HWY_NOINLINE void apply_epilogue(const MatmulArgs<T>& args, const T* from, int64_t from_ld,
                                 int64_t row, int64_t col, int64_t rows, int64_t cols) {
    const Epilogue<T>& e = args.epilogue;
    const int64_t at = row * args.ldc + col;
    const auto strip = [&](auto f) {
        epilogue_strip(args.c + at, e.before_activation ? e.before_activation + at : nullptr,
                       args.ldc, from, from_ld, rows, cols, e.bias ? e.bias + col : nullptr, f);
    };
    if (!e.activate) return strip([](auto, const auto& x) { return x; });
    with_unary_op(e.op, [&](auto constant) {
        using Op = decltype(constant);
        strip([param = e.param](auto d, const auto& x) __attribute__((always_inline)) {
            return vunary<Op::value>(d, x, hn::Set(d, param));
        });
    });
}

// The same in place, where C is finished already.
template <class T>
HWY_INLINE void apply_epilogue(const MatmulArgs<T>& args, int64_t row, int64_t col, int64_t rows,
                               int64_t cols) {
    if (has_epilogue(args))
        apply_epilogue(args, args.c + row * args.ldc + col, args.ldc, row, col, rows, cols);
}

// Rows [row, row + rows) x columns [col, col + cols) of C, a register block of make(BlockOutput),
// for steps that are the first ones, the last ones or not. What an epilogue goes over is made
// apart, in rows side by side: those of C share sets of the first-level cache, and look like one
// another to the processor, where their distance is a multiple of 4 KiB.
template <bool kFetch = true, class T, class Make>
HWY_INLINE void block_of_c(const MatmulArgs<T>& args, int64_t row, int64_t col, int64_t rows,
                           int64_t cols, bool first, bool last, const Fetch& ahead, int64_t across,
                           const Make& make) {
    const bool finish = last && has_epilogue(args);
    const int64_t at = row * args.ldc + col;
    T* c = args.c + at;
    if (kFetch) fetch_to_write(c, args.ldc, rows, cols);
    if (finish && args.epilogue.before_activation)
        fetch_to_write(args.epilogue.before_activation + at, args.ldc, rows, cols);
    HWY_ALIGN T made[kBlockRows * kBlockCols<T>];
    make(BlockOutput<T>{finish ? made : c, finish ? cols : args.ldc, cols, args.alpha,
                        first && !args.accumulate ? nullptr : c, args.ldc, ahead, across});
    if (finish) apply_epilogue(args, made, cols, row, col, rows, cols);
}

// ---- Tiles ------------------------------------------------------------------------------------

// The strips of an operand side by side. `stride`: from a column of B, a register block of A or, in
// place, a row of it to the next.
template <class E>
struct Strips {
    Strip<E> from(int64_t i) const { return {at + i * stride, step}; }
    const E* at;
    int64_t stride, step;
};

// Rows [row, row + rows) x columns [col, col + cols) of C for `depth` steps. `fetch`: what of B is
// multiplied next is fetched meanwhile, a part with each row block. That is the next panel, and,
// where it is not null, `then` after the last.
template <class Operands, class T = typename Operands::Out>
HWY_INLINE void tile(const MatmulArgs<T>& args, int64_t row, int64_t rows, int64_t col,
                     int64_t cols, const Strips<typename Operands::A>& a,
                     const Strips<typename Operands::B>& b, int64_t depth, bool first, bool last,
                     const typename Operands::B* then = nullptr, bool fetch = true) {
    constexpr int64_t kPanel = Operands::kB;
    const typename Operands::Blocks blocks(rows);
    const int64_t stride =
        fetch ? ceil_div(kPanel * static_cast<int64_t>(sizeof(*b.at)), blocks.count) : 0;
    for (int64_t j = 0, width = 0; j < cols; j += width) {
        width = Operands::width(rows, cols - j);
        const auto bj = b.from(j);
        const auto* following =
            then && j + width >= cols ? then : b.from(round_up(j + width, kPanel)).at;
        Fetch ahead = Fetch::line(following, stride);
        for (int64_t block = 0; block < blocks.count; ++block) {
            const int64_t i = blocks.begin(block), height = blocks.height(block);
            block_of_c<Operands::kFetchOutput>(
                args, row + i, col + j, height, width, first, last, ahead, b.stride * kPanel,
                [&](const BlockOutput<T>& out) {
                    Operands::block_for(height, width)(
                        depth, a.from(Operands::kInPlace ? i : block), bj, out);
                });
            ahead.skip(depth);
        }
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace mc
HWY_AFTER_NAMESPACE();

#endif  // MC_KERNELS_CPU_GEMM_TILE_INL_H_
