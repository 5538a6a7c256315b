// Attention for one head and a block of queries at a time: scores S = scale Q K^T, masks, softmax,
// dropout, O = P V, with S in a block of scratch that stays in the second-level cache. Heads and
// query blocks go to threads; in backward a head's query blocks follow one another, because they
// share dK and dV.
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
#include "kernels/cpu/philox-inl.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/cpu/vector-inl.h"
#include "kernels/cpu/workspace.h"

HWY_BEFORE_NAMESPACE();
namespace mc {
namespace HWY_NAMESPACE {

// Queries in a block: (128, Lk) of scores, and long enough that packing K is cheap beside using it.
inline constexpr int64_t kQueryBlock = 128;

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

// s (rows, Lk) = scores of the queries from `first` on, -inf where a mask hides the key. `hidden`
// (Lk) is scratch.
template <class T>
void masked_scores(Context& context, T* s, bool* hidden, const Head<T>& head, int64_t first,
                   int64_t rows) {
    const AttentionArgs<T>& a = head.a;
    product(context, s, a.lk, head.q + first * a.q_row, a.q_row, false, head.k, a.k_row, true, rows,
            a.lk, a.head_dim, a.scale, false);
    constexpr T kHidden = -std::numeric_limits<T>::infinity();
    const bool* padding = a.key_padding ? a.key_padding + head.batch * a.lk : nullptr;
    for (int64_t i = 0; i < rows; ++i) {
        T* row = s + i * a.lk;
        const bool* mask =
            a.mask ? a.mask + head.batch * a.mask_batch + (first + i) * a.lk : nullptr;
        if (padding && mask) {
            for (int64_t j = 0; j < a.lk; ++j) hidden[j] = padding[j] | mask[j];
            mask = hidden;
        } else if (padding) {
            mask = padding;
        }
        if (mask)
            for (int64_t j = 0; j < a.lk; ++j) row[j] = mask[j] ? kHidden : row[j];
        if (a.causal)
            for (int64_t j = HWY_MAX(int64_t{0}, first + i + a.lk - a.lq + 1); j < a.lk; ++j)
                row[j] = kHidden;
    }
}

// s (kRows, n) = softmax of each row, and lse (kRows), if not null, its log-sum-exp. A row of -inf
// alone becomes zeros. Rows in step: one is too short to fill the time that its maximum,
// exponentials and sum take one after another.
template <int kRows, class T>
void softmax_rows(T* s, T* lse, int64_t n) {
    const Tag<T> d;
    using V = VecOf<T>;
    constexpr int64_t N = lanes_of<T>();
    constexpr T kLowest = -std::numeric_limits<T>::infinity();
    const int64_t whole = n / N * N;
    const size_t rest = static_cast<size_t>(n - whole);
    const auto used = hn::FirstN(d, rest);
    const V lowest = hn::Set(d, kLowest);
    // Each vector of each row = f(row, the vector); beyond the row it holds -inf.
    const auto walk = [&](auto f) {
        for (int64_t j = 0; j < whole; j += N)
            for (int r = 0; r < kRows; ++r) {
                T* at = s + r * n + j;
                hn::StoreU(f(r, hn::LoadU(d, at)), d, at);
            }
        for (int r = 0; rest > 0 && r < kRows; ++r) {
            T* at = s + r * n + whole;
            store_n(f(r, hn::IfThenElse(used, load_n(d, at, rest), lowest)), d, at, rest);
        }
    };
    V highest[kRows], shift[kRows], sums[kRows], factor[kRows];
    T peak[kRows];
    for (int r = 0; r < kRows; ++r) highest[r] = lowest;
    for (int64_t j = 0; j < whole; j += N)
        for (int r = 0; r < kRows; ++r)
            highest[r] = hn::Max(highest[r], hn::LoadU(d, s + r * n + j));
    for (int r = 0; rest > 0 && r < kRows; ++r)
        highest[r] =
            hn::Max(highest[r], hn::IfThenElse(used, load_n(d, s + r * n + whole, rest), lowest));
    for (int r = 0; r < kRows; ++r) {
        peak[r] = hn::GetLane(hn::MaxOfLanes(d, highest[r]));
        // Nothing seen: exp(-inf - 0) = 0 for all. A NaN, wherever it is, reaches the sum.
        shift[r] = hn::Set(d, peak[r] == kLowest ? T{0} : peak[r]);
        sums[r] = hn::Zero(d);
    }
    walk([&](int r, V x) {
        const V e = vexp(d, hn::Sub(x, shift[r]));
        sums[r] = hn::Add(sums[r], e);
        return e;
    });
    for (int r = 0; r < kRows; ++r) {
        const T sum = hn::GetLane(hn::SumOfLanes(d, sums[r]));
        factor[r] = hn::Set(d, sum == T{0} ? T{0} : T{1} / sum);
        if (lse) lse[r] = sum == T{0} ? kLowest : peak[r] + std::log(sum);
    }
    walk([&](int r, V x) { return hn::Mul(x, factor[r]); });
}

// dst[i] = src[i] / (1 - p), or 0 where draw first + i of the stream is below p; n elements. dst
// may equal src.
template <class T>
void drop(T* dst, const T* src, const AttentionArgs<T>& a, uint64_t first, int64_t n) {
    // u < p for u = (bits >> 8) 2^-24 is the same as (bits >> 8) < ceil(p 2^24).
    const auto limit = static_cast<uint32_t>(std::ceil(a.dropout * 16777216.0));
    const T scale = static_cast<T>(1.0 / (1.0 - a.dropout));
    PhiloxWords words;
    while (n > 0) {
        const int64_t skip = static_cast<int64_t>(first % 4);
        const int64_t count = HWY_MIN(n, PhiloxWords::kWords - skip);
        philox_words(words, a.random, first / 4, ceil_div(skip + count, 4));
        const uint32_t* word = words.word + skip;
        for (int64_t i = 0; i < count; ++i) dst[i] = (word[i] >> 8) < limit ? T{0} : src[i] * scale;
        dst += count;
        src += count;
        first += static_cast<uint64_t>(count);
        n -= count;
    }
}

// The index of the first draw of a block of queries.
template <class T>
uint64_t first_draw(const Head<T>& head, int64_t first) {
    return static_cast<uint64_t>(head.index * head.a.lq + first) * static_cast<uint64_t>(head.a.lk);
}

template <class T>
void forward(Context& context, const AttentionArgs<T>& a) {
    if (a.batch <= 0 || a.heads <= 0 || a.lq <= 0) return;
    const int64_t block = HWY_MIN(kQueryBlock, a.lq), blocks = ceil_div(a.lq, block);
    context.pool->for_chunks(a.batch * a.heads * blocks, [&](int64_t chunk) {
        const int64_t first = chunk % blocks * block, rows = HWY_MIN(block, a.lq - first);
        const Head<T> head(a, chunk / blocks / a.heads, chunk / blocks % a.heads);
        Context own = context;
        own.workspace = &thread_workspace();
        Loan<T> s(*own.workspace, rows * a.lk);
        Loan<bool> hidden(*own.workspace, a.lk);
        masked_scores(own, s.data(), hidden.data(), head, first, rows);
        T* lse = a.lse ? a.lse + head.index * a.lq + first : nullptr;
        constexpr int64_t kTogether = 4;
        int64_t i = 0;
        for (; i + kTogether <= rows; i += kTogether)
            softmax_rows<kTogether>(s.data() + i * a.lk, lse ? lse + i : nullptr, a.lk);
        for (; i < rows; ++i) softmax_rows<1>(s.data() + i * a.lk, lse ? lse + i : nullptr, a.lk);
        if (a.dropout > 0) drop(s.data(), s.data(), a, first_draw(head, first), rows * a.lk);
        product(own, a.out + head.out_at + first * a.out_row, a.out_row, s.data(), a.lk, false,
                head.v, a.v_row, false, rows, a.head_dim, a.lk, 1, false);
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
    context.pool->for_chunks(a.batch * a.heads, [&](int64_t chunk) {
        const int64_t b = chunk / a.heads, h = chunk % a.heads;
        const Head<T> head(a, b, h);
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
        const bool dropped = a.dropout > 0;
        Loan<T> p_loan(*own.workspace, block * a.lk), dp_loan(*own.workspace, block * a.lk);
        Loan<T> pd_loan(*own.workspace, dropped ? block * a.lk : 0);
        Loan<bool> hidden(*own.workspace, a.lk);
        T *p = p_loan.data(), *dp = dp_loan.data();
        for (int64_t first = 0; first < a.lq; first += block) {
            const int64_t rows = HWY_MIN(block, a.lq - first), n = a.lk;
            const T* dout_block = dout + first * a.out_row;
            masked_scores(own, p, hidden.data(), head, first, rows);
            for (int64_t i = 0; i < rows; ++i)
                probabilities_row(p + i * n, a.lse[head.index * a.lq + first + i], n);
            const T* used = p;  // what multiplied V
            if (dropped) {
                drop(pd_loan.data(), p, a, first_draw(head, first), rows * n);
                used = pd_loan.data();
            }
            product(own, dv, a.v_row, used, n, true, dout_block, a.out_row, false, n, a.head_dim,
                    rows, 1, first > 0);
            product(own, dp, n, dout_block, a.out_row, false, head.v, a.v_row, true, rows, n,
                    a.head_dim, 1, false);
            if (dropped) drop(dp, dp, a, first_draw(head, first), rows * n);
            // dS = P (dP - sum(P dP)), in place of dP.
            const Tag<T> d;
            for (int64_t i = 0; i < rows; ++i) {
                const T* pi = p + i * n;
                T* di = dp + i * n;
                const T dot = sum_vectors<T>(
                    n, [](auto x, auto y) { return hn::Mul(x, y); }, pi, di);
                const auto delta = hn::Set(d, dot);
                map_vectors(
                    di, n, [&](auto x, auto y) { return hn::Mul(x, hn::Sub(y, delta)); }, pi, di);
            }
            product(own, dq + first * a.q_row, a.q_row, dp, n, false, head.k, a.k_row, false, rows,
                    a.head_dim, n, a.scale, false);
            product(own, dk, a.k_row, dp, n, true, head.q + first * a.q_row, a.q_row, false, n,
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
