#include "kernels/norm.h"

#include "tests/kernels/table_test_util.h"

namespace mc::testing {
namespace {

struct NormReference {
    std::vector<double> y, mean, rstd;
};

// Layer norm in double by the textbook; weight and bias may be empty.
NormReference reference_layer_norm(const std::vector<double>& x, const std::vector<double>& weight,
                                   const std::vector<double>& bias, int64_t rows, int64_t cols,
                                   double eps) {
    NormReference r;
    for (int64_t row = 0; row < rows; ++row) {
        const double* v = x.data() + row * cols;
        double mean = 0, variance = 0;
        for (int64_t c = 0; c < cols; ++c) mean += v[c];
        mean /= static_cast<double>(cols);
        for (int64_t c = 0; c < cols; ++c) variance += (v[c] - mean) * (v[c] - mean);
        const double rstd = 1 / std::sqrt(variance / static_cast<double>(cols) + eps);
        for (int64_t c = 0; c < cols; ++c) {
            const size_t i = static_cast<size_t>(c);
            r.y.push_back((v[c] - mean) * rstd * (weight.empty() ? 1 : weight[i]) +
                          (bias.empty() ? 0 : bias[i]));
        }
        r.mean.push_back(mean);
        r.rstd.push_back(rstd);
    }
    return r;
}

TEST_CASE_TEMPLATE("layer_norm is the textbook's at every width and alignment", T, float, double) {
    for_each_table<T>(norm_kernels, [&](KernelTable<T>& table, Context& context) {
        for (int64_t cols : vector_sizes()) {
            if (cols == 0) continue;
            const int64_t rows = 3, shift = cols % 3;
            GuardedBuffer<T> x(rows * cols, shift), residual(rows * cols), w(cols, 1), b(cols, 2);
            GuardedBuffer<T> y(rows * cols, shift), sum(rows * cols, 1), mean(rows), rstd(rows);
            fill_random(x, 1, 2, 4);
            fill_random(residual, 2);
            fill_random(w, 3);
            fill_random(b, 4);
            x[rows * cols - 1] = 50;  // an outlier
            // The values are about 10 in normal units at most, the sums have up to 1023 terms.
            const double bound = 60 * epsilon<T>() * (cols == 1 ? 100 : 1);
            table.layer_norm(context, {y.data(), mean.data(), rstd.data(), nullptr, x.data(),
                                       nullptr, w.data(), b.data(), rows, cols, 1e-5});
            const auto plain =
                reference_layer_norm(as_double(x), as_double(w), as_double(b), rows, cols, 1e-5);
            CHECK_NEAR(y.data(), plain.y, within(bound));
            CHECK_NEAR(mean.data(), plain.mean, within(bound));
            for (int64_t r = 0; r < rows; ++r)
                CHECK(static_cast<double>(rstd[r]) ==
                      doctest::Approx(plain.rstd[static_cast<size_t>(r)]).epsilon(bound));

            table.layer_norm(context, {y.data(), nullptr, nullptr, sum.data(), x.data(),
                                       residual.data(), w.data(), nullptr, rows, cols, 1e-5});
            for (int64_t i = 0; i < rows * cols; ++i) CHECK(sum[i] == x[i] + residual[i]);
            const auto fused =
                reference_layer_norm(as_double(sum), as_double(w), {}, rows, cols, 1e-5);
            CHECK_NEAR(y.data(), fused.y, within(bound));
            // Without a place for the sum, and without weight.
            table.layer_norm(context, {y.data(), nullptr, nullptr, nullptr, x.data(),
                                       residual.data(), nullptr, b.data(), rows, cols, 1e-5});
            CHECK_NEAR(y.data(),
                       reference_layer_norm(as_double(sum), {}, as_double(b), rows, cols, 1e-5).y,
                       within(bound));
            table.layer_norm(context, {y.data(), nullptr, nullptr, nullptr, x.data(), nullptr,
                                       nullptr, nullptr, rows, cols, 1e-5});
            CHECK_NEAR(y.data(), reference_layer_norm(as_double(x), {}, {}, rows, cols, 1e-5).y,
                       within(bound));
        }
    });
}

TEST_CASE("layer_norm keeps its digits under a large offset") {
    // E[x^2] - E[x]^2 would lose everything here.
    for_each_table<float>(norm_kernels, [](KernelTable<float>& table, Context& context) {
        constexpr int64_t cols = 384;
        GuardedBuffer<float> x(cols), y(cols);
        for (int64_t c = 0; c < cols; ++c) x[c] = 10000.0f + static_cast<float>(c % 7);
        table.layer_norm(context, {y.data(), nullptr, nullptr, nullptr, x.data(), nullptr, nullptr,
                                   nullptr, 1, cols, 1e-5});
        CHECK_NEAR(y.data(), reference_layer_norm(as_double(x), {}, {}, 1, cols, 1e-5).y,
                   within(2e-3));
    });
}

TEST_CASE("layer_norm keeps a NaN in its row") {
    for_each_table<float>(norm_kernels, [](KernelTable<float>& table, Context& context) {
        GuardedBuffer<float> x(3 * 20), y(3 * 20);
        fill_random(x, 5);
        x[25] = std::nanf("");
        table.layer_norm(context, {y.data(), nullptr, nullptr, nullptr, x.data(), nullptr, nullptr,
                                   nullptr, 3, 20, 1e-5});
        for (int64_t i = 0; i < 60; ++i) CHECK(std::isnan(y[i]) == (i >= 20 && i < 40));
    });
}

TEST_CASE_TEMPLATE("layer_norm_backward is the derivative of layer_norm", T, float, double) {
    for_each_table<T>(norm_kernels, [&](KernelTable<T>& table, Context& context) {
        for (int64_t cols : {1, 2, 5, 8, 9, 17, 33}) {
            for (bool weighted : {true, false}) {
                const int64_t rows = 4;
                GuardedBuffer<T> x(rows * cols, 1), dy(rows * cols), w(cols, 1), b(cols),
                    mean(rows), rstd(rows), y(rows * cols), dx(rows * cols, 2), dw(cols, 1),
                    db(cols, 1);
                fill_random(x, 1, -2, 2);
                fill_random(dy, 2);
                fill_random(w, 3);
                fill_random(b, 4);
                dw.fill(T(0.5));
                db.fill(T(-0.25));
                table.layer_norm(context,
                                 {y.data(), mean.data(), rstd.data(), nullptr, x.data(), nullptr,
                                  weighted ? w.data() : nullptr, b.data(), rows, cols, 1e-3});
                table.layer_norm_backward(
                    context, {dx.data(), dw.data(), db.data(), dy.data(), x.data(), mean.data(),
                              rstd.data(), weighted ? w.data() : nullptr, rows, cols});
                std::vector<double> xd = as_double(x), bd = as_double(b), dyd = as_double(dy);
                std::vector<double> wd =
                    weighted ? as_double(w) : std::vector<double>(static_cast<size_t>(cols), 1);
                const auto scalar = [&] {
                    const auto r = reference_layer_norm(xd, wd, bd, rows, cols, 1e-3);
                    double sum = 0;
                    for (size_t i = 0; i < dyd.size(); ++i) sum += r.y[i] * dyd[i];
                    return sum;
                };
                const double bound = 1e-8 + 100 * epsilon<T>();
                std::vector<double> want_dw = differences(wd, scalar),
                                    want_db = differences(bd, scalar);
                for (double& v : want_dw) v += 0.5;  // added to
                for (double& v : want_db) v -= 0.25;
                CHECK_NEAR(dx.data(), differences(xd, scalar), within(bound));
                CHECK_NEAR(dw.data(), want_dw, within(bound));
                CHECK_NEAR(db.data(), want_db, within(bound));
                // dx over dy, parts left out.
                const std::vector<T> separate = dx.copy();
                table.layer_norm_backward(
                    context, {dy.data(), nullptr, nullptr, dy.data(), x.data(), mean.data(),
                              rstd.data(), weighted ? w.data() : nullptr, rows, cols});
                CHECK(dy.copy() == separate);
            }
        }
    });
}

TEST_CASE("layer_norm_backward adds partial sums in order, whatever the threads") {
    Backend b;
    norm_kernels(b);
    constexpr int64_t rows = 3001, cols = 65;
    std::vector<float> x(rows * cols), dy(rows * cols), w(cols), y(rows * cols), mean(rows),
        rstd(rows);
    fill_random(x.data(), rows * cols, 1);
    fill_random(dy.data(), rows * cols, 2);
    fill_random(w.data(), cols, 3);
    check_thread_counts<float>(rows * cols + 2 * cols, [&](Context& context, float* out) {
        b.f32.layer_norm(context, {y.data(), mean.data(), rstd.data(), nullptr, x.data(), nullptr,
                                   w.data(), nullptr, rows, cols, 1e-5});
        b.f32.layer_norm_backward(
            context, {out, out + rows * cols, out + rows * cols + cols, dy.data(), x.data(),
                      mean.data(), rstd.data(), w.data(), rows, cols});
        // Against plain sums.
        for (int64_t c = 0; c < cols; ++c) {
            double dw = 0, db = 0;
            for (int64_t r = 0; r < rows; ++r) {
                const size_t i = static_cast<size_t>(r * cols + c), j = static_cast<size_t>(r);
                dw += static_cast<double>(dy[i]) *
                      (static_cast<double>(x[i]) - static_cast<double>(mean[j])) *
                      static_cast<double>(rstd[j]);
                db += static_cast<double>(dy[i]);
            }
            // sqrt(rows) terms of size 1 stay after cancellation.
            CHECK(std::fabs(out[rows * cols + c] - dw) < 3e-5);
            CHECK(std::fabs(out[rows * cols + cols + c] - db) < 3e-5);
        }
    });
}

TEST_CASE_TEMPLATE("l2_normalize and its derivative", T, float, double) {
    for_each_table<T>(norm_kernels, [&](KernelTable<T>& table, Context& context) {
        for (int64_t cols : vector_sizes()) {
            const int64_t rows = 3;
            const double eps = 0.01;
            GuardedBuffer<T> x(rows * cols, 1), y(rows * cols), norm(rows), dy(rows * cols),
                dx(rows * cols, 1);
            fill_random(x, 1, 0.1, 1);
            fill_random(dy, 2);
            // The last row is shorter than eps.
            for (int64_t c = 0; c < cols; ++c) x[2 * cols + c] *= T(1e-5);
            table.l2_normalize(context, y.data(), norm.data(), x.data(), rows, cols, eps);
            std::vector<double> xd = as_double(x), dyd = as_double(dy);
            const auto forward = [&] {
                std::vector<double> result;
                for (int64_t r = 0; r < rows; ++r) {
                    double square = 0;
                    for (int64_t c = 0; c < cols; ++c)
                        square += std::pow(xd[static_cast<size_t>(r * cols + c)], 2);
                    for (int64_t c = 0; c < cols; ++c)
                        result.push_back(xd[static_cast<size_t>(r * cols + c)] /
                                         std::max(std::sqrt(square), eps));
                }
                return result;
            };
            CHECK_NEAR(y.data(), forward(), within(20 * epsilon<T>()));
            if (cols == 0 || cols > 20) continue;
            table.l2_normalize_backward(context, dx.data(), dy.data(), y.data(), norm.data(), rows,
                                        cols, eps);
            const auto want = differences(xd, [&] {
                const auto result = forward();
                double sum = 0;
                for (size_t i = 0; i < result.size(); ++i) sum += result[i] * dyd[i];
                return sum;
            });
            CHECK_NEAR(dx.data(), want, within(1e-6 + 1000 * epsilon<T>()));
        }
    });
}

TEST_CASE("norms of nothing") {
    Backend b;
    norm_kernels(b);
    TestContext context(1);
    float dw[2] = {1, 2}, db[2] = {3, 4};
    b.f32.layer_norm(context, {nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr,
                               nullptr, 0, 2, 1e-5});
    b.f32.layer_norm_backward(context,
                              {nullptr, dw, db, nullptr, nullptr, nullptr, nullptr, nullptr, 0, 2});
    CHECK(dw[1] == 2);
    CHECK(db[0] == 3);
}

}  // namespace
}  // namespace mc::testing
