// Attention against loops in double, forward and backward; the loops against central differences.
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "kernels/random.h"
#include "tests/kernels/kernel_test_util.h"

namespace mc {
namespace {

using testing::GuardedBuffer;

template <class T>
KernelTable<T>& table() {
    static Backend backend = [] {
        Backend b;
        testing::attention_kernels(b);
        return b;
    }();
    return backend.table<T>();
}

struct Case {
    int64_t batch = 1, heads = 1, head_dim = 1, lq = 1, lk = 1;
    bool causal = false, padding = false, mask = false, mask_per_batch = false, packed = false;
    double dropout = 0;
};

// All in double, dense: q, out (B, Lq, H, D), k, v (B, Lk, H, D), lse (B, H, Lq).
struct Reference {
    std::vector<double> out, lse, dq, dk, dv;
};

Reference reference(const Case& c, const std::vector<double>& q, const std::vector<double>& k,
                    const std::vector<double>& v, const std::vector<double>& dout,
                    const std::vector<char>& padding, const std::vector<char>& mask, double scale,
                    RandomStream random) {
    const auto at = [&](int64_t b, int64_t t, int64_t h, int64_t length) {
        return static_cast<size_t>(((b * length + t) * c.heads + h) * c.head_dim);
    };
    const DropRule rule(c.dropout);
    Reference r;
    r.out.assign(q.size(), 0);
    r.dq.assign(q.size(), 0);
    r.dk.assign(k.size(), 0);
    r.dv.assign(v.size(), 0);
    for (int64_t b = 0; b < c.batch; ++b)
        for (int64_t h = 0; h < c.heads; ++h)
            for (int64_t i = 0; i < c.lq; ++i) {
                const size_t qi = at(b, i, h, c.lq);
                std::vector<double> p(static_cast<size_t>(c.lk)), keep(p.size()), dp(p.size());
                double peak = -INFINITY, sum = 0;
                for (int64_t j = 0; j < c.lk; ++j) {
                    const size_t J = static_cast<size_t>(j);
                    bool seen = !(c.causal && j > i + c.lk - c.lq);
                    if (c.padding && padding[static_cast<size_t>(b * c.lk + j)]) seen = false;
                    if (c.mask && mask[static_cast<size_t>(
                                      ((c.mask_per_batch ? b : 0) * c.lq + i) * c.lk + j)])
                        seen = false;
                    p[J] = 0;
                    for (size_t d = 0; d < static_cast<size_t>(c.head_dim); ++d)
                        p[J] += scale * q[qi + d] * k[at(b, j, h, c.lk) + d];
                    if (!seen) p[J] = -INFINITY;
                    peak = std::max(peak, p[J]);
                    const uint64_t n =
                        static_cast<uint64_t>(((b * c.heads + h) * c.lq + i) * c.lk + j);
                    keep[J] = drop_bits(random, n) < rule.limit ? 0 : rule.scale;
                }
                for (double& x : p) sum += x = peak == -INFINITY ? 0 : std::exp(x - peak);
                r.lse.push_back(sum == 0 ? -INFINITY : peak + std::log(sum));
                double delta = 0;
                for (size_t j = 0; j < p.size(); ++j) {
                    if (sum > 0) p[j] /= sum;
                    const size_t kj = at(b, static_cast<int64_t>(j), h, c.lk);
                    for (size_t d = 0; d < static_cast<size_t>(c.head_dim); ++d) {
                        r.out[qi + d] += p[j] * keep[j] * v[kj + d];
                        r.dv[kj + d] += p[j] * keep[j] * dout[qi + d];
                        dp[j] += keep[j] * dout[qi + d] * v[kj + d];
                    }
                    delta += p[j] * dp[j];
                }
                for (size_t j = 0; j < p.size(); ++j) {
                    const size_t kj = at(b, static_cast<int64_t>(j), h, c.lk);
                    const double ds = p[j] * (dp[j] - delta) * scale;
                    for (size_t d = 0; d < static_cast<size_t>(c.head_dim); ++d) {
                        r.dq[qi + d] += ds * k[kj + d];
                        r.dk[kj + d] += ds * q[qi + d];
                    }
                }
            }
    return r;
}

template <class T>
std::vector<double> widen(const GuardedBuffer<T>& b, int64_t rows, int64_t stride, int64_t cols,
                          int64_t offset) {
    std::vector<double> r;
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < cols; ++j)
            r.push_back(static_cast<double>(b[i * stride + offset + j]));
    return r;
}

// Runs forward and backward; returns all outputs end to end.
template <class T>
std::vector<double> run(const Case& c, testing::TestContext& context, bool check) {
    CAPTURE(c.batch);
    CAPTURE(c.heads);
    CAPTURE(c.head_dim);
    CAPTURE(c.lq);
    CAPTURE(c.lk);
    CAPTURE(c.causal);
    CAPTURE(c.padding);
    CAPTURE(c.mask);
    CAPTURE(c.dropout);
    const int64_t width = c.heads * c.head_dim;
    // packed: q, k, v in one row of 3 width (Lq == Lk then); else rows with a gap.
    const int64_t q_row = c.packed ? 3 * width : width + 3,
                  k_row = c.packed ? 3 * width : width + 1;
    const int64_t v_row = c.packed ? 3 * width : width + 2, out_row = width + 5;
    const int64_t nq = c.batch * c.lq * q_row, nk = c.batch * c.lk * k_row,
                  nv = c.batch * c.lk * v_row, no = c.batch * c.lq * out_row;
    GuardedBuffer<T> q(nq, 1), k(nk, 2), v(nv, 3), out(no, 1), lse(c.batch * c.heads * c.lq, 1),
        dout(no, 1), dq(nq, 1), dk(nk, 1), dv(nv, 1);
    testing::fill_random(q, 1, -2, 2);
    testing::fill_random(k, 2, -2, 2);
    testing::fill_random(v, 3);
    testing::fill_random(dout, 4);
    std::vector<char> padding(static_cast<size_t>(c.batch * c.lk)),
        mask(static_cast<size_t>(c.batch * c.lq * c.lk));
    std::mt19937_64 engine(9);
    for (char& m : padding) m = engine() % 3 == 0;
    for (char& m : mask) m = engine() % 4 == 0;
    if (c.padding && c.batch > 1)  // one entry sees nothing at all
        for (int64_t j = 0; j < c.lk; ++j) padding[static_cast<size_t>(j)] = 1;
    if (c.mask)  // and one row
        for (int64_t j = 0; j < c.lk; ++j) mask[static_cast<size_t>(j)] = 1;
    AttentionArgs<T> a;
    a.out = out.data();
    a.lse = lse.data();
    a.q = q.data();
    a.k = c.packed ? q.data() + width : k.data();
    a.v = c.packed ? q.data() + 2 * width : v.data();
    a.batch = c.batch;
    a.heads = c.heads;
    a.head_dim = c.head_dim;
    a.lq = c.lq;
    a.lk = c.lk;
    a.q_row = q_row;
    a.k_row = k_row;
    a.v_row = v_row;
    a.out_row = out_row;
    a.q_batch = c.lq * q_row;
    a.k_batch = c.lk * k_row;
    a.v_batch = c.lk * v_row;
    a.out_batch = c.lq * out_row;
    a.scale = 1 / std::sqrt(static_cast<double>(c.head_dim));
    a.causal = c.causal;
    if (c.padding) a.key_padding = reinterpret_cast<const bool*>(padding.data());
    if (c.mask) a.mask = reinterpret_cast<const bool*>(mask.data());
    a.mask_batch = c.mask_per_batch ? c.lq * c.lk : 0;
    a.dropout = c.dropout;
    a.random = {77, 5};
    table<T>().attention(context, a);
    AttentionBackwardArgs<T> back;
    back.forward = a;
    back.dout = dout.data();
    back.dq = dq.data();
    back.dk = c.packed ? dq.data() + width : dk.data();
    back.dv = c.packed ? dq.data() + 2 * width : dv.data();
    table<T>().attention_backward(context, back);

    const GuardedBuffer<T>&ks = c.packed ? q : k, &vs = c.packed ? q : v;
    const GuardedBuffer<T>&dks = c.packed ? dq : dk, &dvs = c.packed ? dq : dv;
    const int64_t rq = c.batch * c.lq, rk = c.batch * c.lk;
    const int64_t ko = c.packed ? width : 0, vo = c.packed ? 2 * width : 0;
    const std::vector<double> got_out = widen(out, rq, out_row, width, 0);
    const std::vector<double> got_lse = widen(lse, c.batch * c.heads, c.lq, c.lq, 0);
    const std::vector<double> got_dq = widen(dq, rq, q_row, width, 0);
    const std::vector<double> got_dk = widen(dks, rk, k_row, width, ko);
    const std::vector<double> got_dv = widen(dvs, rk, v_row, width, vo);
    if (check) {
        const Reference r =
            reference(c, widen(q, rq, q_row, width, 0), widen(ks, rk, k_row, width, ko),
                      widen(vs, rk, v_row, width, vo), widen(dout, rq, out_row, width, 0), padding,
                      mask, a.scale, a.random);
        // Scores are at most 4 sqrt(D); probabilities and sums of them are at most 1 (1/(1-p) with
        // dropout); dK, dV add Lq terms.
        const double eps = testing::epsilon<T>();
        const double s = 4 * std::sqrt(static_cast<double>(c.head_dim)), g = 1 / (1 - c.dropout);
        CHECK_NEAR(got_out.data(), r.out, std::vector<double>{8 * eps * s * g + eps});
        CHECK_NEAR(got_lse.data(), r.lse, std::vector<double>{8 * eps * s});
        const double terms = 2 + std::sqrt(static_cast<double>(c.lq));
        CHECK_NEAR(got_dv.data(), r.dv, std::vector<double>{8 * eps * s * g * terms});
        CHECK_NEAR(got_dq.data(), r.dq, std::vector<double>{30 * eps * s * s * g});
        CHECK_NEAR(got_dk.data(), r.dk, std::vector<double>{30 * eps * s * s * g * terms});
        if (!c.packed)
            for (int64_t i = 0; i < rq; ++i)  // the gaps were left alone
                CHECK(std::isnan(static_cast<double>(dq[i * q_row + width])));
    }
    std::vector<double> all = got_out;
    for (const auto* part : {&got_lse, &got_dq, &got_dk, &got_dv})
        all.insert(all.end(), part->begin(), part->end());
    return all;
}

template <class T>
void both_thread_counts(const Case& c) {
    static testing::TestContext one(1), two(2);
    CHECK(run<T>(c, one, true) == run<T>(c, two, false));
}

}  // namespace

TEST_CASE_TEMPLATE("attention: every small length", T, float, double) {
    testing::for_each_target([] {
        testing::TestContext context(1);
        for (int64_t l = 1; l <= 18; ++l) {
            run<T>({.batch = 2, .heads = 2, .head_dim = 16, .lq = l, .lk = l, .packed = true},
                   context, true);
            run<T>({.batch = 1, .heads = 3, .head_dim = l, .lq = 5, .lk = l}, context, true);
            run<T>({.batch = 2,
                    .heads = 1,
                    .head_dim = 7,
                    .lq = l,
                    .lk = 19 - l,
                    .padding = true,
                    .dropout = 0.3},
                   context, true);
        }
        // Beyond whole vectors of 16 keys: few, as dot products, and more.
        for (int64_t lk : {20, 21, 31, 32, 33, 50})
            for (bool masks : {false, true})
                run<T>({.batch = 2,
                        .heads = 2,
                        .head_dim = 9,
                        .lq = 13,
                        .lk = lk,
                        .causal = masks,
                        .padding = masks,
                        .mask = masks},
                       context, true);
    });
}

TEST_CASE_TEMPLATE("attention: masks, dropout, blocks of queries, threads", T, float, double) {
    for (bool causal : {false, true})
        for (bool padding : {false, true})
            for (int mask : {0, 1, 2})
                for (double dropout : {0.0, 0.2}) {
                    Case c{.batch = 3, .heads = 2, .head_dim = 20, .lq = 33, .lk = 33};
                    c.causal = causal;
                    c.padding = padding;
                    c.mask = mask > 0;
                    c.mask_per_batch = mask == 2;
                    c.dropout = dropout;
                    both_thread_counts<T>(c);
                }
    both_thread_counts<T>({.batch = 2,
                           .heads = 2,
                           .head_dim = 64,
                           .lq = 49,
                           .lk = 49,
                           .packed = true,
                           .dropout = 0.1});
    both_thread_counts<T>({.batch = 1,
                           .heads = 2,
                           .head_dim = 33,
                           .lq = 300,
                           .lk = 270,
                           .causal = true,
                           .padding = true,
                           .dropout = 0.1});
    both_thread_counts<T>(  // more than a second-level cache
        {.batch = 3, .heads = 2, .head_dim = 64, .lq = 290, .lk = 300, .dropout = 0.1});
    both_thread_counts<T>(  // a row needs more draws than are made at a time
        {.batch = 1, .heads = 2, .head_dim = 8, .lq = 3, .lk = 2003, .dropout = 0.1});
    both_thread_counts<T>({.batch = 1, .heads = 1, .head_dim = 128, .lq = 1, .lk = 77});
    for (const int64_t width : {86, 100, 172, 250})
        if (width <= 100 || sizeof(T) == 4)  // what a block's shared memory holds on CUDA
            both_thread_counts<T>(
                {.batch = 1, .heads = 2, .head_dim = width, .lq = 9, .lk = 41, .dropout = 0.1});
    both_thread_counts<T>(
        {.batch = 1, .heads = 2, .head_dim = 64, .lq = 3, .lk = 9, .causal = true});
    both_thread_counts<T>(
        {.batch = 1, .heads = 1, .head_dim = 4, .lq = 9, .lk = 3, .causal = true});
}

TEST_CASE("attention: the reference's gradient meets central differences") {
    const Case c{
        .batch = 1, .heads = 2, .head_dim = 3, .lq = 4, .lk = 5, .causal = true, .dropout = 0.25};
    std::vector<double> q(24), k(30), v(30), dout(24);
    testing::fill_random(q.data(), 24, 1);
    testing::fill_random(k.data(), 30, 2);
    testing::fill_random(v.data(), 30, 3);
    testing::fill_random(dout.data(), 24, 4);
    const auto loss = [&] {
        const Reference r = reference(c, q, k, v, dout, {}, {}, 0.7, {3, 4});
        double sum = 0;
        for (size_t i = 0; i < r.out.size(); ++i) sum += r.out[i] * dout[i];
        return sum;
    };
    const Reference r = reference(c, q, k, v, dout, {}, {}, 0.7, {3, 4});
    for (auto [x, dx] : {std::pair{&q, &r.dq}, {&k, &r.dk}, {&v, &r.dv}})
        for (size_t i = 0; i < x->size(); ++i) {
            const double kept = (*x)[i], h = 1e-5;
            (*x)[i] = kept + h;
            const double up = loss();
            (*x)[i] = kept - h;
            const double down = loss();
            (*x)[i] = kept;
            CHECK((up - down) / (2 * h) == doctest::Approx((*dx)[i]).epsilon(1e-7).scale(1e-2));
        }
}

TEST_CASE("attention: nothing to do, nothing to see, NaN") {
    testing::TestContext context(1);
    GuardedBuffer<float> out(2 * 4), q(2 * 4), k(3 * 4), v(3 * 4), lse(2);
    testing::fill_random(q, 1);
    testing::fill_random(k, 2);
    testing::fill_random(v, 3);
    AttentionArgs<float> a;
    a.out = out.data();
    a.lse = lse.data();
    a.q = q.data();
    a.k = k.data();
    a.v = v.data();
    a.batch = a.heads = 1;
    a.head_dim = a.q_row = a.k_row = a.v_row = a.out_row = 4;
    a.lq = 2;
    a.lk = 0;  // no keys: zeros
    for (double dropout : {0.0, 0.1}) {
        a.dropout = dropout;
        testing::fill_random(out, 4);
        table<float>().attention(context, a);
        for (int64_t i = 0; i < 8; ++i) CHECK(out[i] == 0);
    }
    a.dropout = 0;
    CHECK(lse[0] == -INFINITY);
    a.lk = 3;
    const bool hide[3] = {false, true, false};
    a.key_padding = hide;
    k[4] = std::nanf("");  // behind the mask: unseen
    table<float>().attention(context, a);
    for (int64_t i = 0; i < 8; ++i) CHECK(std::isfinite(out[i]));
    a.key_padding = nullptr;
    table<float>().attention(context, a);
    for (int64_t i = 0; i < 8; ++i) CHECK(std::isnan(out[i]));
    // Scores of -inf alone, without a mask: nothing is seen either, forward and backward.
    for (GuardedBuffer<float>* x : {&q, &k}) x->fill(x == &q ? 1e30f : -1e30f);
    table<float>().attention(context, a);
    for (int64_t i = 0; i < 8; ++i) CHECK(out[i] == 0);
    for (int64_t i = 0; i < 2; ++i) CHECK(lse[i] == -INFINITY);
    GuardedBuffer<float> dout(2 * 4), dq(2 * 4), dk(3 * 4), dv(3 * 4);
    testing::fill_random(dout, 5);
    AttentionBackwardArgs<float> back;
    back.forward = a;
    back.dq = dq.data();
    back.dk = dk.data();
    back.dv = dv.data();
    back.dout = dout.data();
    table<float>().attention_backward(context, back);
    for (const GuardedBuffer<float>* d : {&dq, &dk, &dv})
        for (int64_t i = 0; i < d->size(); ++i) CHECK((*d)[i] == 0);
    a.lse = nullptr;
    a.batch = 0;
    table<float>().attention(context, a);
}

}  // namespace mc
