#include "kernels/elementwise.h"

#include <algorithm>

#include "kernels/random.h"
#include "tests/kernels/table_test_util.h"

namespace mc::testing {
namespace {

double reference(BinaryOp op, double a, double b) {
    switch (op) {
        case BinaryOp::add:
            return a + b;
        case BinaryOp::sub:
            return a - b;
        case BinaryOp::mul:
            return a * b;
        case BinaryOp::div:
            return a / b;
    }
    return kNan;
}

constexpr BinaryOp kBinary[] = {BinaryOp::add, BinaryOp::sub, BinaryOp::mul, BinaryOp::div};
constexpr UnaryOp kUnary[] = {
    UnaryOp::neg,        UnaryOp::exp,        UnaryOp::log,     UnaryOp::sqrt, UnaryOp::square,
    UnaryOp::reciprocal, UnaryOp::tanh,       UnaryOp::sigmoid, UnaryOp::relu, UnaryOp::leaky_relu,
    UnaryOp::gelu,       UnaryOp::quick_gelu, UnaryOp::abs,     UnaryOp::sin,  UnaryOp::cos};

// A loop over `size` with the given strides, and the offsets of each element.
StridedLoop make_loop(std::vector<int64_t> size, std::vector<int64_t> a, std::vector<int64_t> b) {
    StridedLoop loop;
    loop.dims = static_cast<int>(size.size());
    for (size_t i = 0; i < size.size(); ++i) {
        loop.size[i] = size[i];
        loop.stride_a[i] = a[i];
        loop.stride_b[i] = b[i];
    }
    return loop;
}

struct Offsets {
    std::vector<int64_t> a, b;
};
Offsets offsets_of(const StridedLoop& loop) {
    Offsets result{{0}, {0}};
    for (int d = 0; d < loop.dims; ++d) {
        Offsets longer;
        for (size_t i = 0; i < result.a.size(); ++i) {
            for (int64_t k = 0; k < loop.size[d]; ++k) {
                longer.a.push_back(result.a[i] + k * loop.stride_a[d]);
                longer.b.push_back(result.b[i] + k * loop.stride_b[d]);
            }
        }
        result = longer;
    }
    return result;
}

std::vector<StridedLoop> loops() {
    std::vector<StridedLoop> result = {
        make_loop({}, {}, {}),                            // one element
        make_loop({3, 0, 2}, {0, 2, 1}, {0, 2, 1}),       // none
        make_loop({4, 5, 6}, {30, 6, 1}, {30, 6, 1}),     // contiguous: one run
        make_loop({4, 5, 33}, {165, 33, 1}, {0, 0, 1}),   // a row vector
        make_loop({4, 5, 33}, {165, 33, 1}, {5, 1, 0}),   // a column vector
        make_loop({4, 5, 33}, {0, 1, 0}, {165, 33, 1}),   // on the left
        make_loop({4, 5, 33}, {165, 33, 1}, {33, 0, 1}),  // a middle dimension
        make_loop({7, 9}, {1, 7}, {9, 1}),                // a transpose
        make_loop({7, 9}, {0, 0}, {0, 0}),                // two scalars
        make_loop({1, 7, 1, 9, 1}, {5, 9, 5, 1, 5}, {5, 9, 5, 1, 5}),
        make_loop({2, 3, 2, 2, 3, 2, 2, 3}, {0, 1, 3, 6, 12, 36, 72, 144},
                  {432, 144, 0, 36, 12, 6, 3, 1}),  // eight dimensions
        make_loop({70, 600}, {600, 1}, {0, 1}),     // several chunks
        make_loop({3, 20001}, {20001, 1}, {1, 0}),
    };
    for (int64_t n : vector_sizes()) {
        result.push_back(make_loop({n}, {1}, {1}));
        result.push_back(make_loop({n}, {1}, {0}));
        result.push_back(make_loop({2, n}, {n, 1}, {0, 2}));
    }
    return result;
}

TEST_CASE_TEMPLATE("binary over every kind of broadcast", T, float, double) {
    for_each_table<T>(elementwise_kernels, [&](KernelTable<T>& table, Context& context) {
        for (const StridedLoop& loop : loops()) {
            const Offsets at = offsets_of(loop);
            const auto extent = [](const std::vector<int64_t>& offsets) {
                return offsets.empty() ? 0 : *std::max_element(offsets.begin(), offsets.end()) + 1;
            };
            GuardedBuffer<T> a(extent(at.a), 1), b(extent(at.b), 2);
            GuardedBuffer<T> dst(static_cast<int64_t>(at.a.size()), 1);
            fill_random(a, 1);
            fill_random(b, 2, 0.5, 2);
            for (BinaryOp op : kBinary) {
                std::vector<double> want;
                for (size_t i = 0; i < at.a.size(); ++i)
                    want.push_back(reference(op, static_cast<double>(a[at.a[i]]),
                                             static_cast<double>(b[at.b[i]])));
                table.binary(context, op, dst.data(), a.data(), b.data(), loop);
                CHECK_NEAR(dst.data(), want, within(2 * epsilon<T>()));
            }
        }
    });
}

TEST_CASE_TEMPLATE("binary in place on either side", T, float, double) {
    for_each_table<T>(elementwise_kernels, [&](KernelTable<T>& table, Context& context) {
        const int64_t rows = 5, cols = 19;
        const StridedLoop loop = make_loop({rows, cols}, {cols, 1}, {0, 1});
        const StridedLoop mirrored = make_loop({rows, cols}, {0, 1}, {cols, 1});
        GuardedBuffer<T> a(rows * cols), b(cols), dst(rows * cols);
        fill_random(a, 1);
        fill_random(b, 2);
        table.binary(context, BinaryOp::sub, dst.data(), a.data(), b.data(), loop);
        const std::vector<T> forward = dst.copy();
        table.binary(context, BinaryOp::sub, dst.data(), b.data(), a.data(), mirrored);
        const std::vector<T> backward = dst.copy();
        const std::vector<T> original = a.copy();
        table.binary(context, BinaryOp::sub, a.data(), a.data(), b.data(), loop);
        CHECK(a.copy() == forward);
        std::copy(original.begin(), original.end(), a.data());
        table.binary(context, BinaryOp::sub, a.data(), b.data(), a.data(), mirrored);
        CHECK(a.copy() == backward);
    });
}

double reference(UnaryOp op, double x, double param) {
    switch (op) {
        case UnaryOp::neg:
            return -x;
        case UnaryOp::exp:
            return std::exp(x);
        case UnaryOp::log:
            return std::log(x);
        case UnaryOp::sqrt:
            return std::sqrt(x);
        case UnaryOp::square:
            return x * x;
        case UnaryOp::reciprocal:
            return 1 / x;
        case UnaryOp::tanh:
            return std::tanh(x);
        case UnaryOp::sigmoid:
            return 1 / (1 + std::exp(-x));
        case UnaryOp::relu:
            return x > 0 ? x : 0;
        case UnaryOp::leaky_relu:
            return x > 0 ? x : param * x;
        case UnaryOp::gelu:
            return 0.5 * x * std::erfc(-x * M_SQRT1_2);
        case UnaryOp::quick_gelu:
            return x / (1 + std::exp(-1.702 * x));
        case UnaryOp::abs:
            return std::fabs(x);
        case UnaryOp::sin:
            return std::sin(x);
        case UnaryOp::cos:
            return std::cos(x);
    }
    return kNan;
}

bool positive_only(UnaryOp op) {
    return op == UnaryOp::log || op == UnaryOp::sqrt || op == UnaryOp::reciprocal;
}

TEST_CASE_TEMPLATE("unary and its derivative, every op, in place too", T, float, double) {
    for_each_table<T>(elementwise_kernels, [&](KernelTable<T>& table, Context& context) {
        for (UnaryOp op : kUnary) {
            for (int64_t n : vector_sizes()) {
                const T param = T(0.2);
                GuardedBuffer<T> x(n, 1), y(n, 2), grad(n), dx(n, 1);
                fill_random(x, 1, positive_only(op) ? 0.5 : -3, 3);
                fill_random(grad, 2);
                for (int64_t i = 0; i < n; ++i)  // away from the kink of relu and abs
                    if (x[i] > T(-0.01) && x[i] < T(0.01)) x[i] = T(0.5);
                std::vector<double> want, want_dx;
                for (int64_t i = 0; i < n; ++i) {
                    const double v = static_cast<double>(x[i]), h = 1e-3;
                    const auto f = [&](double u) {
                        return reference(op, u, static_cast<double>(param));
                    };
                    want.push_back(f(v));
                    const double slope =
                        (8 * (f(v + h) - f(v - h)) - (f(v + 2 * h) - f(v - 2 * h))) / (12 * h);
                    want_dx.push_back(static_cast<double>(grad[i]) * slope);
                }
                table.unary(context, op, param, y.data(), x.data(), n);
                CHECK_NEAR(y.data(), want, within(40 * epsilon<T>()));
                table.unary_backward(context, op, param, dx.data(), grad.data(), x.data(), n);
                CHECK_NEAR(dx.data(), want_dx, within(1e-9 + 40 * epsilon<T>()));
                const std::vector<T> y_separate = y.copy(), dx_separate = dx.copy();
                table.unary_backward(context, op, param, grad.data(), grad.data(), x.data(), n);
                CHECK(grad.copy() == dx_separate);
                table.unary(context, op, param, x.data(), x.data(), n);
                CHECK(x.copy() == y_separate);
            }
        }
    });
}

TEST_CASE_TEMPLATE("unary lets NaN through and knows the limits", T, float, double) {
    for_each_table<T>(elementwise_kernels, [&](KernelTable<T>& table, Context& context) {
        const T nan = std::numeric_limits<T>::quiet_NaN(), inf = std::numeric_limits<T>::infinity();
        for (UnaryOp op : kUnary) {
            T x[3] = {nan, 1, nan}, y[3];
            table.unary(context, op, T(0.1), y, x, 3);
            CHECK(std::isnan(y[0]));
            CHECK(std::isfinite(y[1]));
            CHECK(std::isnan(y[2]));
        }
        const auto at = [&](UnaryOp op, T x) {
            T y;
            table.unary(context, op, T(0.1), &y, &x, 1);
            return y;
        };
        CHECK(at(UnaryOp::exp, -inf) == 0);
        CHECK(at(UnaryOp::exp, inf) == inf);
        CHECK(at(UnaryOp::log, 0) == -inf);
        CHECK(at(UnaryOp::tanh, inf) == 1);
        CHECK(at(UnaryOp::sigmoid, -inf) == 0);
        CHECK(at(UnaryOp::gelu, 100) == 100);
        CHECK(at(UnaryOp::relu, -inf) == 0);
        // A dead unit stops even an infinite gradient.
        T x[1] = {-1}, g[1] = {inf}, dx[1];
        table.unary_backward(context, UnaryOp::relu, T(0), dx, g, x, 1);
        CHECK(dx[0] == 0);
    });
}

TEST_CASE_TEMPLATE("affine, axpy, fill, select", T, float, double) {
    for_each_table<T>(elementwise_kernels, [&](KernelTable<T>& table, Context& context) {
        std::vector<int64_t> sizes = vector_sizes();
        sizes.push_back(40001);
        for (int64_t n : sizes) {
            GuardedBuffer<T> src(n, 1), dst(n, 2), other(n, 1);
            GuardedBuffer<bool> cond(n, 1);
            fill_random(src, 1);
            fill_random(other, 2);
            std::vector<double> affine, axpy;
            for (int64_t i = 0; i < n; ++i) {
                affine.push_back(3 * static_cast<double>(src[i]) - 0.5);
                axpy.push_back(static_cast<double>(other[i]) - 2 * static_cast<double>(src[i]));
                cond[i] = i % 3 == 0;
            }
            table.affine(context, dst.data(), src.data(), T(3), T(-0.5), n);
            CHECK_NEAR(dst.data(), affine, within(4 * epsilon<T>()));
            if (n > 2) other[1] = std::numeric_limits<T>::quiet_NaN();  // cond[1] is false
            table.select(context, dst.data(), cond.data(), other.data(), src.data(), n);
            int64_t wrong = 0;
            for (int64_t i = 0; i < n; ++i) wrong += dst[i] != (cond[i] ? other[i] : src[i]);
            CHECK(wrong == 0);
            fill_random(other, 2);
            table.axpy(context, other.data(), src.data(), T(-2), n);
            CHECK_NEAR(other.data(), axpy, within(4 * epsilon<T>()));
            table.fill(context, dst.data(), T(7), n);
            CHECK(dst.copy() == std::vector<T>(static_cast<size_t>(n), T(7)));
        }
    });
}

TEST_CASE("dropout's rule: p to 2^-16, a scale that keeps the mean, eight numbers a block") {
    for (const double p : {0.0, 1e-9, 0.1, 0.25, 0.5, 0.999, 0.9999999}) {
        const DropRule rule(p);
        CAPTURE(p);
        CHECK(rule.limit < 65536);
        CHECK(std::fabs(rule.limit / 65536.0 - p) <= (p > 0.99999 ? 1 : 0.5) / 65536);
        CHECK((1 - rule.limit / 65536.0) * rule.scale == doctest::Approx(1).epsilon(1e-15));
    }
    CHECK(DropRule(0).limit == 0);
    CHECK(DropRule(0).scale == 1);
    for (uint64_t i = 0; i < 20; ++i) {
        const uint32_t word = philox(99, 3, i / 8).word[i % 8 / 2];
        CHECK(drop_bits({99, 3}, i) == (i % 2 ? word >> 16 : word & 0xFFFF));
    }
}

TEST_CASE_TEMPLATE("dropout drops where its rule says", T, float, double) {
    const RandomStream stream{99, 3};
    for_each_table<T>(elementwise_kernels, [&](KernelTable<T>& table, Context& context) {
        for (double p : {0.0, 0.1, 0.5, 0.999}) {
            for (int64_t n : {0, 1, 3, 9, 16, 17, 1023, 1025, 40001}) {
                const DropRule rule(p);
                GuardedBuffer<T> src(n, 1), dst(n, 2);
                fill_random(src, 1, 0.5, 1);
                table.dropout(context, dst.data(), src.data(), p, stream, n);
                int64_t wrong = 0;
                for (int64_t i = 0; i < n; ++i) {
                    const bool drop = drop_bits(stream, static_cast<uint64_t>(i)) < rule.limit;
                    const double want = drop ? 0 : static_cast<double>(src[i]) * rule.scale;
                    wrong +=
                        std::fabs(static_cast<double>(dst[i]) - want) > 2 * epsilon<T>() * want;
                }
                CHECK(wrong == 0);
                const std::vector<T> separate = dst.copy();
                table.dropout(context, src.data(), src.data(), p, stream, n);
                CHECK(src.copy() == separate);
            }
        }
    });
}

TEST_CASE_TEMPLATE(
    "epilogue_backward is dropout's and the activation's derivative, and sums columns", T, float,
    double) {
    const RandomStream stream{7, 11};
    const std::pair<int64_t, int64_t> sizes[] = {{1, 1},   {3, 2},    {2, 5},    {17, 8}, {70, 33},
                                                 {5, 257}, {130, 64}, {3, 1030}, {9, 264}};
    for_each_table<T>(elementwise_kernels, [&](KernelTable<T>& table, Context& context) {
        for (const auto& [rows, cols] : sizes)
            for (const bool activated : {true, false})
                for (const double p : {0.0, 0.3})
                    for (const int64_t shift : {0, 1}) {
                        const int64_t n = rows * cols;
                        const UnaryOp op = cols % 2 ? UnaryOp::gelu : UnaryOp::leaky_relu;
                        const T param = T(0.2);
                        GuardedBuffer<T> dy(n, shift), z(n, shift), dz(n, shift), want(n),
                            dbias(cols, 1);
                        fill_random(dy, 1);
                        fill_random(z, 2, -3, 3);
                        dbias.fill(T(0.5));
                        table.dropout(context, want.data(), dy.data(), p, stream, n);
                        if (activated)
                            table.unary_backward(context, op, param, want.data(), want.data(),
                                                 z.data(), n);
                        std::vector<double> sums(static_cast<size_t>(cols), 0.5);
                        for (int64_t i = 0; i < n; ++i)
                            sums[static_cast<size_t>(i % cols)] += static_cast<double>(want[i]);
                        const double bound = 4 * epsilon<T>() * static_cast<double>(rows);
                        const auto run = [&](T* to, T* bias) {
                            table.epilogue_backward(
                                context, {to, bias, dy.data(), activated ? z.data() : nullptr, op,
                                          param, p, stream, rows, cols});
                        };
                        run(dz.data(), dbias.data());
                        CHECK(dz.copy() == want.copy());
                        CHECK_NEAR(dbias.data(), sums, within(bound));
                        const std::vector<T> once = dbias.copy();
                        dbias.fill(T(0.5));
                        run(nullptr, dbias.data());
                        CHECK(dbias.copy() == once);
                        run(dy.data(), nullptr);
                        CHECK(dy.copy() == want.copy());
                    }
        table.epilogue_backward(
            context, {nullptr, nullptr, nullptr, nullptr, UnaryOp::gelu, T(0), 0.1, stream, 0, 5});
    });
}

TEST_CASE("epilogue_backward does not depend on the number of threads") {
    constexpr int64_t kRows = 1000, kCols = 100;
    std::vector<float> dy(kRows * kCols), z(kRows * kCols);
    fill_random(dy.data(), kRows * kCols, 1);
    fill_random(z.data(), kRows * kCols, 2, -3, 3);
    Backend b;
    elementwise_kernels(b);
    std::vector<float> first_dz, first_sums;
    for (const int threads : {1, 2, 3, 7}) {
        TestContext context(threads);
        std::vector<float> dz(dy.size()), sums(kCols, 0.0f);
        b.f32.epilogue_backward(context, {dz.data(),
                                          sums.data(),
                                          dy.data(),
                                          z.data(),
                                          UnaryOp::gelu,
                                          0,
                                          0.1,
                                          {3, 4},
                                          kRows,
                                          kCols});
        if (threads == 1) {
            first_dz = dz;
            first_sums = sums;
        }
        CHECK(dz == first_dz);
        CHECK(sums == first_sums);
    }
}

TEST_CASE("dropout keeps the mean and drops the share it should") {
    Backend b;
    elementwise_kernels(b);
    TestContext context(2);
    constexpr int64_t n = 1000000;
    std::vector<float> x(n, 1.0f);
    b.f32.dropout(context, x.data(), x.data(), 0.2, {5, 6}, n);
    double sum = 0;
    int64_t zeros = 0;
    for (float v : x) {
        sum += static_cast<double>(v);
        zeros += v == 0;
    }
    const double deviation = std::sqrt(0.2 * 0.8 / n);
    CHECK(std::fabs(static_cast<double>(zeros) / n - 0.2) < 4 * deviation);
    CHECK(std::fabs(sum / n - 1) < 4 * deviation / 0.8);
}

TEST_CASE("elementwise kernels do not depend on the number of threads") {
    Backend b;
    elementwise_kernels(b);
    constexpr int64_t n = 100003;
    std::vector<float> src(n);
    fill_random(src.data(), n, 3);
    check_thread_counts<float>(n, [&](Context& context, float* out) {
        b.f32.dropout(context, out, src.data(), 0.3, {1, 2}, n);
    });
    check_thread_counts<float>(n, [&](Context& context, float* out) {
        b.f32.unary(context, UnaryOp::gelu, 0.0f, out, src.data(), n);
    });
}

}  // namespace
}  // namespace mc::testing
