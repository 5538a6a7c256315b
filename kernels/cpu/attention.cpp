// Attention for one head and a block of queries at a time: scores S = scale Q K^T, masks, softmax,
// dropout, O = P V. Heads and query blocks go to threads, each packs its K^T and V; in backward a
// head's query blocks follow one another, because they share dK and dV. S has whole vectors in a
// row, and in forward a few rows at a time, so that it stays in the first-level cache.
//
// Masked scores are chosen, not added: what a mask hides may be anything, NaN included. (V's hidden
// rows must be finite, though: they are multiplied by 0.)
#include "kernels/cpu/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <cmath>
#include <limits>

#include "kernels/backend.h"
#include "kernels/cpu/chunking.h"
#include "kernels/cpu/fill.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/gemm_dots-inl.h"
#include "kernels/cpu/gemm_tile-inl.h"
#include "kernels/cpu/philox-inl.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/cpu/vector-inl.h"
#include "kernels/cpu/workspace.h"

HWY_BEFORE_NAMESPACE();
namespace mc {
namespace HWY_NAMESPACE {

// Queries in a block: (128, Lk) of scores, and long enough that packing K is cheap beside using it.
inline constexpr int64_t kQueryBlock = 128;
// Of these, at most so many go through forward's steps at a time, in even parts: their scores stay
// in the first-level cache.
inline constexpr int64_t kQueriesTogether = 32;

// One head of one batch entry, and its queries [first, first + rows).
template <class T>
struct Head {
    Head(const AttentionArgs<T>& args, int64_t b, int64_t h)
        : a(args),
          batch(b),
          index(b * args.heads + h),
          q(args.q + b * args.q_batch + h * args.head_dim),
          k(args.k + b * args.k_batch + h * args.head_dim),
          v(args.v + b * args.v_batch + h * args.head_dim),
          out_at(b * args.out_batch + h * args.head_dim) {}
    const AttentionArgs<T>& a;
    int64_t batch, index;  // index = b * H + h
    const T* q;            // (Lq, D) at row stride q_row; the others likewise
    const T* k;
    const T* v;
    int64_t out_at;  // of out and dout
};

template <class T>
void product(Context& context, T* c, int64_t ldc, const T* a, int64_t lda, bool trans_a, const T* b,
             int64_t ldb, bool trans_b, int64_t m, int64_t n, int64_t k, double alpha, bool add) {
    MatmulArgs<T> args;
    args.c = c;
    args.a = a;
    args.b = b;
    args.m = m;
    args.n = n;
    args.k = k;
    args.ldc = ldc;
    args.lda = lda;
    args.ldb = ldb;
    args.trans_a = trans_a;
    args.trans_b = trans_b;
    args.alpha = static_cast<T>(alpha);
    args.accumulate = add;
    gemm(context, args);
}

// c (m, count) = alpha a (m, depth) b^T for b (count, depth), which is packed once. The rows of c
// are `stride` apart, whole vectors, one at least; what is beyond `count` in them has no meaning.
// The last columns, where their vector would be nearly empty, are dot products.
template <class T>
class TimesTransposed {
  public:
    TimesTransposed(Workspace& scratch, const T* b, int64_t ldb, int64_t count, int64_t depth)
        : stride(round_up(HWY_MAX(count, int64_t{1}), lanes_of<T>())),
          b_(b),
          ldb_(ldb),
          depth_(depth),
          dots_(count % lanes_of<T>() * 4 <= lanes_of<T>() ? count % lanes_of<T>() : 0),
          packed_(count - dots_),
          panels_(scratch, round_up(packed_, kCols) * depth) {
        pack_panels<kCols>(panels_.data(), kCols * depth, b, ldb, true, 0, packed_, 0, depth);
    }

    void operator()(T* c, const T* a, int64_t lda, int64_t m, double alpha) const {
        MatmulArgs<T> args;
        args.c = c;
        args.ldc = stride;
        args.k = depth_;
        args.alpha = static_cast<T>(alpha);
        tile<RowsInPlace<T>>(args, 0, m, 0, round_up(packed_, lanes_of<T>()), {a, lda, lda},
                             {panels_.data(), depth_, kCols}, depth_, true, true);
        if (dots_ > 0)
            dot_tile(m, dots_, depth_, a, lda, b_ + packed_ * ldb_, ldb_, c + packed_, stride,
                     args.alpha, false);
    }

    const int64_t stride;

  private:
    static constexpr int kCols = kBlockCols<T>;
    const T* b_;
    int64_t ldb_, depth_, dots_, packed_;
    Loan<T> panels_;
};

// s (rows, Lk) at row stride `ld` = -inf where a mask hides the key, for the queries from `first`
// on. `hidden` (ld) is scratch.
template <class T>
void mask_scores(T* s, int64_t ld, T* hidden, const Head<T>& head, int64_t first, int64_t rows) {
    const AttentionArgs<T>& a = head.a;
    const Tag<T> d;
    constexpr T kHidden = -std::numeric_limits<T>::infinity();
    const bool* padding = a.key_padding ? a.key_padding + head.batch * a.lk : nullptr;
    for (int64_t i = 0; i < rows; ++i) {
        T* row = s + i * ld;
        const bool* mask =
            a.mask ? a.mask + head.batch * a.mask_batch + (first + i) * a.lk : nullptr;
        if (mask && padding)
            for (int64_t j = 0; j < a.lk; ++j) hidden[j] = padding[j] | mask[j] ? T{1} : T{0};
        else if (mask || (padding && i == 0))
            for (int64_t j = 0; j < a.lk; ++j) hidden[j] = (mask ? mask : padding)[j] ? T{1} : T{0};
        if (mask || padding)
            map_vectors(
                row, a.lk,
                [d](auto x, auto h) {
                    return hn::IfThenElse(hn::Ne(h, hn::Zero(d)), hn::Set(d, kHidden), x);
                },
                row, hidden);
        if (a.causal)
            for (int64_t j = HWY_MAX(int64_t{0}, first + i + a.lk - a.lq + 1); j < a.lk; ++j)
                row[j] = kHidden;
    }
}

// s (rows, n) in rows of `ld`, n rounded up to vectors, = softmax of each row, and lse (rows), if
// not null, its log-sum-exp. A row of -inf alone becomes zeros. `peak` and `sum` (rows) are
// scratch. Each pass takes all rows: while one waits for its maximum or its sum there are others to
// work on.
template <class T>
void softmax_rows(T* s, int64_t ld, T* lse, T* peak, T* sum, int64_t rows, int64_t n) {
    const Tag<T> d;
    using V = VecOf<T>;
    constexpr int64_t N = lanes_of<T>();
    const V lowest = hn::Set(d, -std::numeric_limits<T>::infinity());
    const int64_t last = ld - N;
    const auto used = hn::FirstN(d, static_cast<size_t>(n - last));
    for (int64_t r = 0; r < rows; ++r) {
        T* row = s + r * ld;
        V highest = hn::IfThenElse(used, hn::Load(d, row + last), lowest);
        hn::Store(highest, d, row + last);
        for (int64_t j = 0; j < last; j += N) highest = hn::Max(highest, hn::Load(d, row + j));
        peak[r] = hn::GetLane(hn::MaxOfLanes(d, highest));
    }
    for (int64_t r = 0; r < rows; ++r) {
        T* row = s + r * ld;
        // Nothing seen: exp(-inf - 0) = 0 for all. A NaN, wherever it is, reaches the sum.
        const V highest = hn::Set(d, peak[r]);
        const V shift = hn::IfThenZeroElse(hn::Eq(highest, lowest), highest);
        V total = hn::Zero(d);
        for (int64_t j = 0; j < ld; j += N) {
            const V e = vexp(d, hn::Sub(hn::Load(d, row + j), shift));
            hn::Store(e, d, row + j);
            total = hn::Add(total, e);
        }
        sum[r] = hn::GetLane(hn::SumOfLanes(d, total));
    }
    if (lse)
        map_vectors(
            lse, rows, [d](auto p, auto total) { return hn::Add(p, vlog(d, total)); }, peak, sum);
    for (int64_t r = 0; r < rows; ++r) {
        T* row = s + r * ld;
        const V factor = hn::Set(d, sum[r] == T{0} ? T{0} : T{1} / sum[r]);
        for (int64_t j = 0; j < ld; j += N)
            hn::Store(hn::Mul(hn::Load(d, row + j), factor), d, row + j);
    }
}

// dst = src / (1 - p), or 0 where the draw is below p; (rows, n) in rows of whole vectors.
template <class T>
struct Drop {
    T* dst;
    const T* src;
};

// The same draws for each of `drops`, all at row stride ld; `first` is that of the first element.
template <class T, class... Drops>
void drop(const AttentionArgs<T>& a, uint64_t first, int64_t rows, int64_t n, int64_t ld,
          const Drops&... drops) {
    const Tag<T> d;
    constexpr int64_t N = lanes_of<T>();
    const DropRule rule(a.dropout);
    const auto scale = hn::Set(d, static_cast<T>(rule.scale));
    DropDraws draws(a.random, rule);
    // Some rows at a time, or a part of one.
    constexpr int64_t kPiece = DropDraws::kMost / N * N;
    const int64_t group = HWY_MAX(kPiece / HWY_MAX(n, int64_t{1}), int64_t{1});
    for (int64_t row = 0; row < rows; row += group)
        for (int64_t col = 0; col < n; col += kPiece) {
            const int64_t some = HWY_MIN(group, rows - row), width = HWY_MIN(kPiece, n - col);
            draws.draw(first + static_cast<uint64_t>(row * n + col), (some - 1) * n + width);
            for (int64_t i = 0; i < some; ++i)
                for (int64_t j = 0; j < width; j += N) {
                    const auto gone = draws.dropped(d, i * n + j);
                    const int64_t at = (row + i) * ld + col + j;
                    (hn::Store(
                         hn::IfThenZeroElse(gone, hn::Mul(hn::Load(d, drops.src + at), scale)), d,
                         drops.dst + at),
                     ...);
                }
        }
}

// The index of the first draw of a block of queries.
template <class T>
uint64_t first_draw(const Head<T>& head, int64_t first) {
    return static_cast<uint64_t>(head.index * head.a.lq + first) * static_cast<uint64_t>(head.a.lk);
}

// Whether q, k and v are more than stays in a second-level cache (1 MiB). Then heads are fetched
// ahead: their rows are too short for the processor to see that one follows another.
template <class T>
bool worth_fetching(const AttentionArgs<T>& a) {
    const int64_t elements = a.batch * a.heads * a.head_dim * (a.lq + 2 * a.lk);
    return elements * static_cast<int64_t>(sizeof(T)) > int64_t{1} << 20;
}

// Fetches parts [begin, end) of `of` equal ones of x (rows, cols) into the second-level cache.
// Always inline: GCC drops the calls of a function that does nothing else.
template <class T>
HWY_INLINE void fetch_part(const T* x, int64_t ld, int64_t rows, int64_t cols, int64_t begin,
                           int64_t end, int64_t of) {
    for (int64_t i = rows * begin / of; i < rows * end / of; ++i)
        for (int64_t j = 0; j < cols; j += 64 / static_cast<int64_t>(sizeof(T)))
            __builtin_prefetch(x + i * ld + j, 0, 2);
}

template <class T>
void forward(Context& context, const AttentionArgs<T>& a) {
    if (a.batch <= 0 || a.heads <= 0 || a.lq <= 0) return;
    const int64_t block = HWY_MIN(kQueryBlock, a.lq), blocks = ceil_div(a.lq, block);
    const int64_t chunks = a.batch * a.heads * blocks;
    const bool far = worth_fetching(a);
    const auto head_of = [&](int64_t chunk) {
        return Head<T>(a, chunk / blocks / a.heads, chunk / blocks % a.heads);
    };
    context.pool->for_chunks(chunks, [&](int64_t chunk) {
        const int64_t begin = chunk % blocks * block, rows = HWY_MIN(block, a.lq - begin);
        const Head<T> head = head_of(chunk), next = head_of(HWY_MIN(chunk + 1, chunks - 1));
        const int64_t together = ceil_div(rows, ceil_div(rows, kQueriesTogether));
        Workspace& scratch = thread_workspace();
        const TimesTransposed<T> scores(scratch, head.k, a.k_row, a.lk, a.head_dim);
        constexpr int kCols = kBlockCols<T>;
        Loan<T> v(scratch, round_up(a.head_dim, kCols) * a.lk);
        pack_panels<kCols>(v.data(), kCols * a.lk, head.v, a.v_row, false, 0, a.head_dim, 0, a.lk);
        const int64_t ld = scores.stride;
        Loan<T> s(scratch, together * ld), hidden(scratch, ld);
        Loan<T> peak(scratch, together), sum(scratch, together);
        MatmulArgs<T> weighted;
        weighted.c = a.out + head.out_at;
        weighted.ldc = a.out_row;
        for (int64_t first = begin; first < begin + rows; first += together) {
            const int64_t some = HWY_MIN(together, begin + rows - first);
            // Of the next head, one operand at a time: many lines at once wait for one another.
            const int64_t from = first - begin, to = far ? from + some : from;
            fetch_part(next.k, a.k_row, a.lk, a.head_dim, from, to, rows);
            scores(s.data(), head.q + first * a.q_row, a.q_row, some, a.scale);
            fetch_part(next.v, a.v_row, a.lk, a.head_dim, from, to, rows);
            mask_scores(s.data(), ld, hidden.data(), head, first, some);
            softmax_rows(s.data(), ld, a.lse ? a.lse + head.index * a.lq + first : nullptr,
                         peak.data(), sum.data(), some, a.lk);
            if (a.dropout > 0)
                drop(a, first_draw(head, first), some, a.lk, ld, Drop<T>{s.data(), s.data()});
            fetch_part(next.q, a.q_row, a.lq, a.head_dim, from, to, rows);
            tile<RowsInPlace<T>>(weighted, first, some, 0, a.head_dim, {s.data(), ld, ld},
                                 {v.data(), a.lk, kCols}, a.lk, true, true);
        }
    });
}

// p (n) = exp(score - lse), 0 for a row that sees nothing.
template <class T>
void probabilities_row(T* p, T lse, int64_t n) {
    const Tag<T> d;
    if (lse == -std::numeric_limits<T>::infinity()) {
        for (int64_t j = 0; j < n; ++j) p[j] = T{0};
        return;
    }
    const auto shift = hn::Set(d, lse);
    map_vectors(
        p, n, [&](auto x) { return vexp(d, hn::Sub(x, shift)); }, p);
}

template <class T>
void zero_rows(T* p, int64_t rows, int64_t stride, int64_t cols) {
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < cols; ++j) p[i * stride + j] = T{0};
}

template <class T>
void backward(Context& context, const AttentionBackwardArgs<T>& args) {
    const AttentionArgs<T>& a = args.forward;
    if (a.batch <= 0 || a.heads <= 0) return;
    const int64_t block = HWY_MIN(kQueryBlock, HWY_MAX(a.lq, int64_t{1}));
    const bool far = worth_fetching(a);
    context.pool->for_chunks(a.batch * a.heads, [&](int64_t chunk) {
        const int64_t b = chunk / a.heads, h = chunk % a.heads;
        const Head<T> head(a, b, h);
        const int64_t after = HWY_MIN(chunk + 1, a.batch * a.heads - 1);
        const Head<T> next(a, after / a.heads, after % a.heads);
        T* dq = args.dq + b * a.q_batch + h * a.head_dim;
        T* dk = args.dk + b * a.k_batch + h * a.head_dim;
        T* dv = args.dv + b * a.v_batch + h * a.head_dim;
        const T* dout = args.dout + head.out_at;
        if (a.lq <= 0) {  // no query: no gradient, but dk and dv are still overwritten
            zero_rows(dk, a.lk, a.k_row, a.head_dim);
            zero_rows(dv, a.lk, a.v_row, a.head_dim);
        }
        Context own = context;
        own.workspace = &thread_workspace();
        const TimesTransposed<T> scores(*own.workspace, head.k, a.k_row, a.lk, a.head_dim);
        const TimesTransposed<T> by_v(*own.workspace, head.v, a.v_row, a.lk, a.head_dim);
        const int64_t ld = scores.stride;
        Loan<T> p_loan(*own.workspace, block * ld), dp_loan(*own.workspace, block * ld);
        Loan<T> pd_loan(*own.workspace, a.dropout > 0 ? block * ld : 0), hidden(*own.workspace, ld);
        T *p = p_loan.data(), *dp = dp_loan.data();
        for (int64_t first = 0; first < a.lq; first += block) {
            const int64_t rows = HWY_MIN(block, a.lq - first), n = a.lk;
            const T* dout_block = dout + first * a.out_row;
            const int64_t to = far ? first + rows : first;
            fetch_part(next.k, a.k_row, a.lk, a.head_dim, first, to, a.lq);
            scores(p, head.q + first * a.q_row, a.q_row, rows, a.scale);
            mask_scores(p, ld, hidden.data(), head, first, rows);
            for (int64_t i = 0; i < rows; ++i)
                probabilities_row(p + i * ld, a.lse[head.index * a.lq + first + i], n);
            fetch_part(next.v, a.v_row, a.lk, a.head_dim, first, to, a.lq);
            by_v(dp, dout_block, a.out_row, rows, 1);
            const T* used = p;  // what multiplied V
            if (a.dropout > 0) {
                drop(a, first_draw(head, first), rows, n, ld, Drop<T>{pd_loan.data(), p},
                     Drop<T>{dp, dp});
                used = pd_loan.data();
            }
            fetch_part(next.q, a.q_row, a.lq, a.head_dim, first, to, a.lq);
            product(own, dv, a.v_row, used, ld, true, dout_block, a.out_row, false, n, a.head_dim,
                    rows, 1, first > 0);
            // dS = P (dP - sum(P dP)), in place of dP.
            const Tag<T> d;
            for (int64_t i = 0; i < rows; ++i) {
                const T* pi = p + i * ld;
                T* di = dp + i * ld;
                const T dot = sum_vectors<T>(
                    n, [](auto x, auto y) { return hn::Mul(x, y); }, pi, di);
                const auto delta = hn::Set(d, dot);
                map_vectors(
                    di, n, [&](auto x, auto y) { return hn::Mul(x, hn::Sub(y, delta)); }, pi, di);
            }
            fetch_part(args.dout + next.out_at, a.out_row, a.lq, a.head_dim, first, to, a.lq);
            product(own, dq + first * a.q_row, a.q_row, dp, ld, false, head.k, a.k_row, false, rows,
                    a.head_dim, n, a.scale, false);
            product(own, dk, a.k_row, dp, ld, true, head.q + first * a.q_row, a.q_row, false, n,
                    a.head_dim, rows, a.scale, first > 0);
        }
    });
}

void forward_f32(Context& context, const AttentionArgs<float>& a) {
    forward(context, a);
}
void forward_f64(Context& context, const AttentionArgs<double>& a) {
    forward(context, a);
}
void backward_f32(Context& context, const AttentionBackwardArgs<float>& a) {
    backward(context, a);
}
void backward_f64(Context& context, const AttentionBackwardArgs<double>& a) {
    backward(context, a);
}

}  // namespace HWY_NAMESPACE
}  // namespace mc
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mc {

HWY_EXPORT(forward_f32);
HWY_EXPORT(forward_f64);
HWY_EXPORT(backward_f32);
HWY_EXPORT(backward_f64);

namespace {

void attention(Context& context, const AttentionArgs<float>& args) {
    HWY_DYNAMIC_DISPATCH(forward_f32)(context, args);
}
void attention(Context& context, const AttentionArgs<double>& args) {
    HWY_DYNAMIC_DISPATCH(forward_f64)(context, args);
}
void attention_backward(Context& context, const AttentionBackwardArgs<float>& args) {
    HWY_DYNAMIC_DISPATCH(backward_f32)(context, args);
}
void attention_backward(Context& context, const AttentionBackwardArgs<double>& args) {
    HWY_DYNAMIC_DISPATCH(backward_f64)(context, args);
}

template <class T>
void fill_table(KernelTable<T>& table) {
    table.attention = static_cast<void (*)(Context&, const AttentionArgs<T>&)>(attention);
    table.attention_backward =
        static_cast<void (*)(Context&, const AttentionBackwardArgs<T>&)>(attention_backward);
}

}  // namespace

void fill_attention(Backend& backend) {
    fill_table(backend.f32);
    fill_table(backend.f64);
}

}  // namespace mc
#endif
