#include "kernels/softmax.h"

#include <algorithm>

#include "tests/kernels/table_test_util.h"

namespace mc::testing {
namespace {

double log_sum_exp(const double* x, int64_t cols) {
    double max = -kInf, sum = 0;
    for (int64_t c = 0; c < cols; ++c) max = std::max(max, x[c]);
    for (int64_t c = 0; c < cols; ++c) sum += std::exp(x[c] - max);
    return max + std::log(sum);
}

std::vector<double> reference_log_softmax(const std::vector<double>& x, int64_t rows,
                                          int64_t cols) {
    std::vector<double> y;
    for (int64_t r = 0; r < rows; ++r) {
        const double lse = log_sum_exp(x.data() + r * cols, cols);
        for (int64_t c = 0; c < cols; ++c) y.push_back(x[static_cast<size_t>(r * cols + c)] - lse);
    }
    return y;
}

std::vector<double> exp_of(std::vector<double> v) {
    for (double& x : v) x = std::exp(x);
    return v;
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
}

TEST_CASE_TEMPLATE("softmax and log_softmax at every width and alignment", T, float, double) {
    for_each_table<T>(softmax_kernels, [&](KernelTable<T>& table, Context& context) {
        for (int64_t cols : vector_sizes()) {
            const int64_t rows = 3;
            GuardedBuffer<T> x(rows * cols, cols % 3), y(rows * cols, 1);
            fill_random(x, 1, -5, 5);
            if (cols > 4) x[2] = 80;          // an outlier takes nearly all
            if (cols > 4) x[cols + 1] = -90;  // and one gets nearly nothing
            const auto want = reference_log_softmax(as_double(x), rows, cols);
            table.log_softmax(context, y.data(), x.data(), rows, cols);
            CHECK_NEAR(y.data(), want, within(100 * epsilon<T>()));
            table.softmax(context, y.data(), x.data(), rows, cols);
            CHECK_NEAR(y.data(), exp_of(want), within(20 * epsilon<T>()));
            const std::vector<T> separate = y.copy();
            table.softmax(context, x.data(), x.data(), rows, cols);
            CHECK(x.copy() == separate);
        }
    });
}

TEST_CASE_TEMPLATE("softmax of masked, infinite and NaN rows", T, float, double) {
    for_each_table<T>(softmax_kernels, [&](KernelTable<T>& table, Context& context) {
        for (int64_t cols : {1, 7, 8, 20, 64, 100}) {
            GuardedBuffer<T> x(3 * cols), y(3 * cols);
            for (int64_t c = 0; c < cols; ++c) {
                x[c] = -std::numeric_limits<T>::infinity();
                x[cols + c] = -std::numeric_limits<T>::infinity();
                x[2 * cols + c] = c == 0 ? T(3) : -std::numeric_limits<T>::infinity();
            }
            x[cols + (cols - 1) / 2] = std::numeric_limits<T>::quiet_NaN();
            table.softmax(context, y.data(), x.data(), 3, cols);
            for (int64_t c = 0; c < cols; ++c) {
                CHECK(y[c] == 0);
                CHECK(std::isnan(y[cols + c]));
                CHECK(y[2 * cols + c] == (c == 0 ? 1 : 0));
            }
            table.log_softmax(context, y.data(), x.data(), 3, cols);
            for (int64_t c = 0; c < cols; ++c) {
                CHECK(y[c] == -std::numeric_limits<T>::infinity());
                CHECK(std::isnan(y[cols + c]));
                CHECK(y[2 * cols + c] == (c == 0 ? 0 : -std::numeric_limits<T>::infinity()));
            }
        }
    });
}

TEST_CASE_TEMPLATE("softmax and cross_entropy: the greatest may stand anywhere", T, float, double) {
    for_each_table<T>(softmax_kernels, [&](KernelTable<T>& table, Context& context) {
        // As far above the others as exp() reaches in no type.
        for (int64_t cols : {3, 33, 70}) {
            GuardedBuffer<T> x(cols * cols, 1), y(cols * cols, 1), loss(cols), lse(cols);
            GuardedBuffer<int64_t> label(cols);
            for (int64_t r = 0; r < cols; ++r) {
                for (int64_t c = 0; c < cols; ++c) x[r * cols + c] = c == r ? T(1000) : T(-1000);
                label[r] = r;
            }
            table.softmax(context, y.data(), x.data(), cols, cols);
            for (int64_t i = 0; i < y.size(); ++i) CHECK(y[i] == (i / cols == i % cols ? 1 : 0));
            table.log_softmax(context, y.data(), x.data(), cols, cols);
            for (int64_t i = 0; i < y.size(); ++i)
                CHECK(y[i] == (i / cols == i % cols ? 0 : -2000));
            table.cross_entropy(
                context, {loss.data(), lse.data(), x.data(), label.data(), cols, cols, -1, 0});
            for (int64_t r = 0; r < cols; ++r) CHECK((loss[r] == 0 && lse[r] == 1000));
        }
    });
}

TEST_CASE_TEMPLATE("softmax derivatives", T, float, double) {
    for_each_table<T>(softmax_kernels, [&](KernelTable<T>& table, Context& context) {
        for (int64_t cols : {1, 2, 7, 8, 9, 19}) {
            const int64_t rows = 2;
            GuardedBuffer<T> x(rows * cols, 1), y(rows * cols), dy(rows * cols, 2),
                dx(rows * cols, 1);
            fill_random(x, 1, -2, 2);
            fill_random(dy, 2);
            std::vector<double> xd = as_double(x), dyd = as_double(dy);
            const double bound = 1e-9 + 20 * epsilon<T>();

            table.softmax(context, y.data(), x.data(), rows, cols);
            table.softmax_backward(context, dx.data(), dy.data(), y.data(), rows, cols);
            CHECK_NEAR(
                dx.data(),
                differences(
                    xd, [&] { return dot(exp_of(reference_log_softmax(xd, rows, cols)), dyd); }),
                within(bound));
            const std::vector<T> first = dx.copy();
            std::copy_n(dy.data(), rows * cols, dx.data());
            table.softmax_backward(context, dx.data(), dx.data(), y.data(), rows, cols);
            CHECK(dx.copy() == first);
            table.log_softmax(context, y.data(), x.data(), rows, cols);
            table.log_softmax_backward(context, dx.data(), dy.data(), y.data(), rows, cols);
            CHECK_NEAR(
                dx.data(),
                differences(xd, [&] { return dot(reference_log_softmax(xd, rows, cols), dyd); }),
                within(bound));
            const std::vector<T> separate = dx.copy();
            table.log_softmax_backward(context, dy.data(), dy.data(), y.data(), rows, cols);
            CHECK(dy.copy() == separate);
        }
    });
}

TEST_CASE_TEMPLATE("cross_entropy, its smoothing, ignored rows and derivative", T, float, double) {
    for_each_table<T>(softmax_kernels, [&](KernelTable<T>& table, Context& context) {
        for (int64_t cols : {1, 2, 7, 8, 9, 19, 33}) {
            for (double smoothing : {0.0, 0.1}) {
                const int64_t rows = 5, ignore = -100;
                GuardedBuffer<T> x(rows * cols, 1), loss(rows, 1), lse(rows), scale(rows),
                    dx(rows * cols, 1);
                GuardedBuffer<int64_t> label(rows);
                fill_random(x, 1, -3, 3);
                fill_random(scale, 2);
                for (int64_t r = 0; r < rows; ++r) label[r] = r == 2 ? ignore : (r * 7) % cols;
                std::vector<double> xd = as_double(x), sd = as_double(scale);
                const auto losses = [&] {
                    std::vector<double> result;
                    for (int64_t r = 0; r < rows; ++r) {
                        const double* v = xd.data() + r * cols;
                        if (label[r] == ignore) {
                            result.push_back(0);
                            continue;
                        }
                        const double l = log_sum_exp(v, cols);
                        double even = 0;
                        for (int64_t c = 0; c < cols; ++c)
                            even += (l - v[c]) / static_cast<double>(cols);
                        result.push_back((1 - smoothing) * (l - v[label[r]]) + smoothing * even);
                    }
                    return result;
                };
                table.cross_entropy(context, {loss.data(), lse.data(), x.data(), label.data(), rows,
                                              cols, ignore, smoothing});
                CHECK_NEAR(loss.data(), losses(), within(30 * epsilon<T>()));
                CHECK(lse[2] == 0);
                table.cross_entropy_backward(
                    context, {dx.data(), scale.data(), x.data(), lse.data(), label.data(), rows,
                              cols, ignore, smoothing});
                CHECK_NEAR(dx.data(), differences(xd, [&] { return dot(losses(), sd); }),
                           within(1e-9 + 20 * epsilon<T>()));
                for (int64_t c = 0; c < cols; ++c) CHECK(dx[2 * cols + c] == 0);
            }
        }
    });
}

TEST_CASE("cross_entropy keeps its digits at large logits") {
    for_each_table<float>(softmax_kernels, [](KernelTable<float>& table, Context& context) {
        float x[3] = {10000, 10000, 9990}, loss = 0, lse = 0;
        int64_t label = 0;
        table.cross_entropy(context, {&loss, &lse, x, &label, 1, 3, -1, 0});
        CHECK(std::fabs(loss - std::log(2 + std::exp(-10.0))) < 1e-6);
    });
}

TEST_CASE_TEMPLATE("smooth_l1 and its derivative", T, float, double) {
    for_each_table<T>(softmax_kernels, [&](KernelTable<T>& table, Context& context) {
        for (int64_t n : vector_sizes()) {
            GuardedBuffer<T> a(n, 1), b(n), dst(n, 1), grad(n);
            fill_random(a, 1, -2, 2);
            fill_random(b, 2, -2, 2);
            fill_random(grad, 3);
            const double beta = 0.5;
            std::vector<double> value, slope;
            for (int64_t i = 0; i < n; ++i) {
                const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
                const double g = static_cast<double>(grad[i]);
                const bool inside = std::fabs(d) < beta;
                value.push_back(inside ? d * d / (2 * beta) : std::fabs(d) - beta / 2);
                slope.push_back(g * (inside ? d / beta : (d > 0 ? 1 : -1)));
            }
            table.smooth_l1(context, dst.data(), a.data(), b.data(), T(beta), n);
            CHECK_NEAR(dst.data(), value, within(8 * epsilon<T>()));
            table.smooth_l1_backward(context, dst.data(), grad.data(), a.data(), b.data(), T(beta),
                                     n);
            CHECK_NEAR(dst.data(), slope, within(8 * epsilon<T>()));
        }
        // The absolute value where beta is 0; NaN stays NaN.
        T a[4] = {1, 2, 3, std::numeric_limits<T>::quiet_NaN()}, b[4] = {1, 4, 1, 0},
          g[4] = {1, 1, 1, 1}, dst[4];
        table.smooth_l1(context, dst, a, b, T(0), 4);
        CHECK(dst[0] == 0);
        CHECK(dst[1] == 2);
        CHECK(std::isnan(dst[3]));
        table.smooth_l1_backward(context, dst, g, a, b, T(0), 4);
        CHECK(dst[0] == 0);
        CHECK(dst[1] == -1);
        CHECK(dst[2] == 1);
        CHECK(std::isnan(dst[3]));
    });
}

TEST_CASE("softmax does not depend on the number of threads") {
    Backend b;
    softmax_kernels(b);
    constexpr int64_t rows = 301, cols = 513;
    std::vector<float> x(rows * cols);
    fill_random(x.data(), rows * cols, 3, -9, 9);
    check_thread_counts<float>(rows * cols, [&](Context& context, float* out) {
        b.f32.softmax(context, out, x.data(), rows, cols);
    });
}

}  // namespace
}  // namespace mc::testing
