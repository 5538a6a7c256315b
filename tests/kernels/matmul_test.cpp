// Matrix products against double loops.
#include <doctest/doctest.h>

#include <array>

#include "tests/kernels/kernel_test_util.h"

namespace mc {
namespace {

using testing::GuardedBuffer;

template <class T>
KernelTable<T>& table() {
    static Backend backend = [] {
        Backend b;
        testing::matmul_kernels(b);
        return b;
    }();
    return backend.table<T>();
}

struct Case {
    int64_t m, n, k;
    bool trans_a = false, trans_b = false;
    int64_t batch = 1;
    int64_t pad = 0;  // added to every row stride
    int64_t shift = 0;
    bool accumulate = false;
    double alpha = 1;
    bool bias = false, activate = false, before = false;
    UnaryOp op = UnaryOp::relu;
    bool share_a = false, share_b = false;
};

double activation(UnaryOp op, double x, double param) {
    switch (op) {
        case UnaryOp::relu:
            return x < 0 ? 0 : x;
        case UnaryOp::leaky_relu:
            return x < 0 ? param * x : x;
        case UnaryOp::gelu:
            return 0.5 * x * (1 + std::erf(x * std::sqrt(0.5)));
        case UnaryOp::tanh:
            return std::tanh(x);
        default:
            return x / (1 + std::exp(-1.702 * x));
    }
}

// Runs a case with the pool and returns C; checks it against the reference if asked.
template <class T>
std::vector<T> run(const Case& c, testing::TestContext& context, bool check) {
    CAPTURE(c.m);
    CAPTURE(c.n);
    CAPTURE(c.k);
    CAPTURE(c.trans_a);
    CAPTURE(c.trans_b);
    CAPTURE(c.batch);
    const int64_t a_rows = c.trans_a ? c.k : c.m, a_cols = c.trans_a ? c.m : c.k;
    const int64_t b_rows = c.trans_b ? c.n : c.k, b_cols = c.trans_b ? c.k : c.n;
    const int64_t lda = a_cols + c.pad, ldb = b_cols + c.pad, ldc = c.n + c.pad;
    const int64_t stride_a = c.share_a ? 0 : a_rows * lda, stride_b = c.share_b ? 0 : b_rows * ldb;
    GuardedBuffer<T> a(a_rows * lda * (c.share_a ? 1 : c.batch), c.shift);
    GuardedBuffer<T> b(b_rows * ldb * (c.share_b ? 1 : c.batch), c.shift * 2);
    GuardedBuffer<T> out(c.m * ldc * c.batch, c.shift), before(c.m * ldc * c.batch, c.shift);
    GuardedBuffer<T> bias(c.n, c.shift);
    testing::fill_random(a, 11);
    testing::fill_random(b, 12);
    testing::fill_random(bias, 13);
    if (c.accumulate || c.pad) testing::fill_random(out, 14);
    const std::vector<T> c0 = out.copy();
    MatmulArgs<T> args;
    args.c = out.data();
    args.a = a.data();
    args.b = b.data();
    args.m = c.m;
    args.n = c.n;
    args.k = c.k;
    args.lda = lda;
    args.ldb = ldb;
    args.ldc = ldc;
    args.trans_a = c.trans_a;
    args.trans_b = c.trans_b;
    args.batch = c.batch;
    args.stride_a = stride_a;
    args.stride_b = stride_b;
    args.stride_c = c.m * ldc;
    args.alpha = static_cast<T>(c.alpha);
    args.accumulate = c.accumulate;
    if (c.bias) args.epilogue.bias = bias.data();
    args.epilogue.activate = c.activate;
    args.epilogue.op = c.op;
    args.epilogue.param = T(0.25);
    if (c.before) args.epilogue.before_activation = before.data();
    table<T>().matmul(context, args);
    if (!check) return out.copy();

    std::vector<double> want, bound, want_before;
    std::vector<T> got, got_before;
    const double eps = testing::epsilon<T>();
    for (int64_t z = 0; z < c.batch; ++z)
        for (int64_t i = 0; i < c.m; ++i) {
            for (int64_t j = 0; j < c.n; ++j) {
                double sum = 0, size = 0;
                for (int64_t p = 0; p < c.k; ++p) {
                    const double x = static_cast<double>(
                        a[z * stride_a + (c.trans_a ? p * lda + i : i * lda + p)]);
                    const double y = static_cast<double>(
                        b[z * stride_b + (c.trans_b ? j * ldb + p : p * ldb + j)]);
                    sum += x * y;
                    size += std::fabs(x * y);
                }
                const int64_t at = z * c.m * ldc + i * ldc + j;
                sum *= static_cast<double>(args.alpha);
                size *= std::fabs(static_cast<double>(args.alpha));
                if (c.accumulate) {
                    sum += static_cast<double>(c0[static_cast<size_t>(at)]);
                    size += std::fabs(static_cast<double>(c0[static_cast<size_t>(at)]));
                }
                if (c.bias) sum += static_cast<double>(bias[j]), size += 1;
                want_before.push_back(sum);
                if (c.activate) sum = activation(c.op, sum, 0.25);
                want.push_back(sum);
                // sqrt(k) grows the rounding error of random terms; 6 is far out in its tail.
                bound.push_back(eps * (6 * std::sqrt(static_cast<double>(c.k)) + 6) * size * 0.5 +
                                (c.activate ? 4 * eps * (1 + std::fabs(sum)) : 1e-300));
                got.push_back(out[at]);
                got_before.push_back(before[at]);
            }
            for (int64_t j = c.n; j < ldc; ++j)  // between the rows
                CHECK(out[z * c.m * ldc + i * ldc + j] ==
                      c0[static_cast<size_t>(z * c.m * ldc + i * ldc + j)]);
        }
    CHECK_NEAR(got.data(), want, bound);
    if (c.before) CHECK_NEAR(got_before.data(), want_before, bound);
    return out.copy();
}

template <class T>
void both_thread_counts(const Case& c) {
    static testing::TestContext one(1), two(2), three(3);
    const std::vector<T> x = run<T>(c, one, true);
    for (testing::TestContext* context : {&two, &three}) {
        const std::vector<T> y = run<T>(c, *context, false);
        CHECK((x.empty() || std::memcmp(x.data(), y.data(), x.size() * sizeof(T)) == 0));
    }
}

}  // namespace

TEST_CASE_TEMPLATE("matmul: every small size, all transposes", T, float, double) {
    testing::for_each_target([] {
        testing::TestContext context(1);
        for (int64_t m = 0; m <= 15; ++m)
            for (int64_t n = 0; n <= 35; n += (n < 18 ? 1 : 4))
                for (int64_t k : {0, 1, 2, 3, 7, 8, 9, 17})
                    run<T>({.m = m,
                            .n = n,
                            .k = k,
                            .trans_a = ((m + n + k) & 1) != 0,
                            .trans_b = ((m + n / 2) & 1) != 0,
                            .pad = (m + k) % 3,
                            .shift = n % 3,
                            .accumulate = k == 7},
                           context, true);
    });
}

TEST_CASE_TEMPLATE("matmul: larger shapes, block edges, threads", T, float, double) {
    for (bool ta : {false, true})
        for (bool tb : {false, true}) {
            both_thread_counts<T>({.m = 49, .n = 64, .k = 100, .trans_a = ta, .trans_b = tb});
            both_thread_counts<T>({.m = 150, .n = 129, .k = 256, .trans_a = ta, .trans_b = tb});
            both_thread_counts<T>({.m = 77,
                                   .n = 263,
                                   .k = 515,
                                   .trans_a = ta,
                                   .trans_b = tb,
                                   .pad = 3,
                                   .shift = 1,
                                   .accumulate = true,
                                   .alpha = -0.5});
            both_thread_counts<T>({.m = 280, .n = 129, .k = 300, .trans_a = ta, .trans_b = tb});
            both_thread_counts<T>({.m = 5, .n = 700, .k = 600, .trans_a = ta, .trans_b = tb});
            both_thread_counts<T>({.m = 1, .n = 1500, .k = 384, .trans_a = ta, .trans_b = tb});
            both_thread_counts<T>({.m = 11, .n = 505, .k = 384, .trans_a = ta, .trans_b = tb});
            both_thread_counts<T>({.m = 600, .n = 3, .k = 500, .trans_a = ta, .trans_b = tb});
            both_thread_counts<T>({.m = 6, .n = 40, .k = 3000, .trans_a = ta, .trans_b = tb});
        }
}

TEST_CASE_TEMPLATE("matmul: B in place in wide blocks, of every height", T, float, double) {
    testing::for_each_target([] {
        testing::TestContext context(2);
        for (int64_t m = 1; m <= 13; ++m)
            for (int64_t n : {32, 63, 64, 65, 96, 130})
                for (int64_t k : {1, 29, 390})
                    for (bool ta : {false, true}) {
                        Case c{.m = m, .n = n, .k = k, .trans_a = ta, .pad = (m + n) % 3};
                        c.bias = c.before = c.activate = k == 29;
                        c.op = UnaryOp::gelu;
                        c.accumulate = m % 2 == 0;
                        c.alpha = m % 3 == 0 ? T(-0.5) : T(1);
                        run<T>(c, context, true);
                    }
    });
}

// B's rows along k: what is a dot product, what lies in lanes and what is odd there depends on m
// alone, the register blocks on n, and what is transposed of B on k.
TEST_CASE_TEMPLATE("matmul: C's rows in lanes, whole vectors, partly filled ones, odd rows", T,
                   float, double) {
    testing::for_each_target([] {
        testing::TestContext context(2);
        for (int64_t m = 14; m <= 70; ++m)
            for (int64_t n : {5, 31, 33, 49, 133})
                for (int64_t k : {1, 16, 21, 390}) {
                    Case c{.m = m, .n = n, .k = k, .trans_b = true, .pad = (m + n) % 3};
                    c.trans_a = (m + n + k) % 5 == 0;
                    c.bias = c.before = c.activate = (m + k) % 2 == 0;
                    c.op = UnaryOp::gelu;
                    c.accumulate = m % 3 == 0;
                    c.alpha = n == 49 ? T(-0.5) : T(1);
                    run<T>(c, context, true);
                }
    });
    // Panels of unequal widths, more rows than the first has odd ones, several blocks along k.
    for (int64_t m : {98, 113, 161, 256})
        both_thread_counts<T>({.m = m, .n = 200, .k = 800, .trans_b = true, .shift = 1});
}

// Few rows: blocks of them and of columns of every size, and more than one along k.
TEST_CASE_TEMPLATE("matmul: dot products, every number of rows", T, float, double) {
    testing::for_each_target([] {
        testing::TestContext context(2);
        for (int64_t m = 1; m <= 15; ++m)
            for (int64_t n : {1, 4, 7, 8, 13, 100})
                for (int64_t k : {1, 15, 16, 40, 1100}) {
                    Case c{.m = m, .n = n, .k = k, .trans_b = true, .pad = (m + n) % 3};
                    c.accumulate = m % 2 == 0;
                    c.alpha = n == 7 ? T(-0.5) : T(1);
                    run<T>(c, context, true);
                }
    });
}

TEST_CASE("matmul: a row's bits are the same among any that are more than kMaxDotRows") {
    testing::for_each_target([] {
        testing::TestContext context(2);
        const int64_t k = 2100, most = 400;
        for (int64_t n : {1, 3, 70}) {
            CAPTURE(n);
            std::vector<float> a(most * k), b(n * k), all(most * n), some(most * n);
            testing::fill_random(a.data(), most * k, 1);
            testing::fill_random(b.data(), n * k, 2);
            const auto product = [&](float* c, int64_t first, int64_t rows) {
                MatmulArgs<float> args;
                args.c = c;
                args.a = a.data() + first * k;
                args.b = b.data();
                args.m = rows;
                args.n = args.ldc = n;
                args.k = args.lda = args.ldb = k;
                args.trans_b = true;
                table<float>().matmul(context, args);
            };
            product(all.data(), 0, most);
            for (int64_t rows : {16, 17, 33, 49, 50, 77, 98, 257})
                for (int64_t first : {int64_t{0}, int64_t{1}, most - rows}) {
                    CAPTURE(rows);
                    CAPTURE(first);
                    product(some.data(), first, rows);
                    CHECK(
                        std::equal(some.begin(), some.begin() + rows * n, all.begin() + first * n));
                }
        }
    });
}

TEST_CASE("matmul: more than one block of packed B along n and k") {
    // Few rows: B in the threads' caches, 128 columns and some steps at a time.
    both_thread_counts<float>({.m = 14, .n = 2100, .k = 530, .trans_a = true});
    both_thread_counts<float>({.m = 20, .n = 600, .k = 800});
    // Enough rows for a B that is packed for all, at most 2048 columns and 512 steps at a time.
    both_thread_counts<float>({.m = 257, .n = 2100, .k = 530, .trans_b = true});
}

TEST_CASE_TEMPLATE("matmul: epilogues", T, float, double) {
    testing::for_each_target([] {
        testing::TestContext context(2);
        for (auto [m, n, k] : {std::array<int64_t, 3>{49, 37, 300},
                               {3, 21, 20},
                               {9, 50, 290},
                               {70, 3, 30},
                               {4, 20, 0}})
            for (UnaryOp op : {UnaryOp::relu, UnaryOp::leaky_relu, UnaryOp::gelu, UnaryOp::tanh,
                               UnaryOp::quick_gelu})
                for (bool tb : {false, true}) {
                    Case c{.m = m, .n = n, .k = k, .trans_b = tb, .pad = 2, .shift = 1};
                    c.bias = c.activate = c.before = true;
                    c.op = op;
                    run<T>(c, context, true);
                    c.bias = false;
                    c.accumulate = true;
                    run<T>(c, context, true);
                    c.bias = true;
                    c.activate = false;
                    run<T>(c, context, true);
                }
    });
}

TEST_CASE_TEMPLATE("matmul: batches", T, float, double) {
    for (int64_t batch : {0, 1, 2, 3, 9, 20}) {
        both_thread_counts<T>(
            {.m = 7, .n = 19, .k = 33, .trans_b = true, .batch = batch, .pad = 1});
        both_thread_counts<T>({.m = 49, .n = 49, .k = 64, .trans_b = true, .batch = batch});
        for (int64_t n : {20, 40, 64, 100})  // B in place, the next problem fetched
            both_thread_counts<T>({.m = 31, .n = n, .k = 33, .batch = batch, .pad = n % 3});
        both_thread_counts<T>(
            {.m = 20, .n = 30, .k = 40, .trans_a = true, .batch = batch, .share_a = true});
        Case merged{.m = 20, .n = 30, .k = 40, .batch = batch, .share_b = true};
        merged.bias = merged.before = merged.activate = true;
        both_thread_counts<T>(merged);
        Case apart{.m = 5, .n = 19, .k = 33, .batch = batch, .pad = 1};
        apart.bias = apart.before = apart.activate = true;
        both_thread_counts<T>(apart);
    }
    both_thread_counts<T>({.m = 130, .n = 140, .k = 300, .batch = 3});
}

TEST_CASE("matmul: NaN and infinity flow, and what is overwritten does not") {
    testing::TestContext context(1);
    for (int64_t m : {2, 10, 40}) {
        GuardedBuffer<float> a(m * 20), b(20 * 24), c(m * 24);  // c is NaN before
        a.fill(1);
        b.fill(1);
        a[3] = std::nanf("");
        b[5] = std::numeric_limits<float>::infinity();
        MatmulArgs<float> args;
        args.c = c.data();
        args.a = a.data();
        args.b = b.data();
        args.m = m;
        args.n = args.ldc = args.ldb = 24;
        args.k = args.lda = 20;
        table<float>().matmul(context, args);
        for (int64_t j = 0; j < 24; ++j) CHECK(std::isnan(c[j]));
        CHECK(c[24] == 20);
        CHECK(c[24 + 5] == std::numeric_limits<float>::infinity());
    }
}

TEST_CASE("matmul: inside a chunk of the pool") {
    testing::TestContext context(2);
    std::vector<std::vector<float>> results(6);
    context.pool.for_chunks(6, [&](int64_t i) {
        Context own = context.context;
        own.workspace = &thread_workspace();
        std::vector<float> a(64 * 300), b(300 * 200), c(64 * 200);
        testing::fill_random(a.data(), 64 * 300, 1);
        testing::fill_random(b.data(), 300 * 200, 2);
        MatmulArgs<float> args;
        args.c = c.data();
        args.a = a.data();
        args.b = b.data();
        args.m = 64;
        args.n = args.ldb = args.ldc = 200;
        args.k = args.lda = 300;
        table<float>().matmul(own, args);
        results[static_cast<size_t>(i)] = c;
    });
    for (const auto& r : results) CHECK(r == results[0]);
}

}  // namespace mc
