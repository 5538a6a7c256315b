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
            // Over x: the sum, the result, and the result that held the sum.
            const std::vector<T> alone = y.copy(), input = x.copy(), total = sum.copy();
            const auto over_x = [&](T* to, T* sums, const T* other) {
                std::copy(input.begin(), input.end(), x.data());
                table.layer_norm(context, {to, nullptr, nullptr, sums, x.data(), other, nullptr,
                                           nullptr, rows, cols, 1e-5});
            };
            over_x(x.data(), nullptr, nullptr);
            CHECK(x.copy() == alone);
            over_x(y.data(), x.data(), residual.data());
            CHECK(x.copy() == total);
            over_x(x.data(), nullptr, residual.data());
            CHECK(x.copy() == y.copy());
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

TEST_CASE("layer_norm_backward: what a row's last vector lacks has no part in it") {
    // Far from 0, where 0 as an element of the row would be infinitely many deviations away.
    for_each_table<float>(norm_kernels, [](KernelTable<float>& table, Context& context) {
        for (int64_t cols : {1, 3, 17, 35}) {
            GuardedBuffer<float> x(cols), dy(cols), y(cols), mean(1), rstd(1), dx(cols);
            x.fill(0x1p120f);
            fill_random(dy, 1);
            table.layer_norm(context, {y.data(), mean.data(), rstd.data(), nullptr, x.data(),
                                       nullptr, nullptr, nullptr, 1, cols, 1e-5});
            table.layer_norm_backward(context, {dx.data(), nullptr, nullptr, dy.data(), x.data(),
                                                mean.data(), rstd.data(), nullptr, 1, cols});
            double mean_dy = 0;
            for (int64_t c = 0; c < cols; ++c)
                mean_dy += static_cast<double>(dy[c]) / static_cast<double>(cols);
            std::vector<double> want;
            for (int64_t c = 0; c < cols; ++c)
                want.push_back((static_cast<double>(dy[c]) - mean_dy) / std::sqrt(1e-5));
            CHECK_NEAR(dx.data(), want, within(1e-3));  // of 300 or so: a few roundings
        }
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
                // dx over dy, with all and with parts left out.
                const std::vector<T> separate = dx.copy(), given = dy.copy(), dw_once = dw.copy(),
                                     db_once = db.copy();
                dw.fill(T(0.5));
                db.fill(T(-0.25));
                table.layer_norm_backward(
                    context, {dy.data(), dw.data(), db.data(), dy.data(), x.data(), mean.data(),
                              rstd.data(), weighted ? w.data() : nullptr, rows, cols});
                CHECK(dy.copy() == separate);
                CHECK(dw.copy() == dw_once);
                CHECK(db.copy() == db_once);
                std::copy(given.begin(), given.end(), dy.data());
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

// ---- Group and batch norm: against loops over (batch, channels, length) in double ---------------

struct ChannelShape {
    int64_t batch, channels, length, groups;  // groups 0: batch norm
    int64_t size() const { return batch * channels * length; }
    int64_t sets() const { return groups > 0 ? batch * groups : channels; }
    int64_t set(int64_t n, int64_t c) const {
        return groups > 0 ? n * groups + c / (channels / groups) : c;
    }
};

struct ChannelReference {
    std::vector<double> y, mean, variance;  // variance biased
};

// statistics: null, or mean and variance that are used instead of those of x.
ChannelReference reference_channel_norm(const ChannelShape& s, const std::vector<double>& x,
                                        const std::vector<double>& weight,
                                        const std::vector<double>& bias, double eps,
                                        const ChannelReference* statistics = nullptr) {
    ChannelReference r;
    const auto each = [&](auto f) {
        size_t i = 0;
        for (int64_t n = 0; n < s.batch; ++n)
            for (int64_t c = 0; c < s.channels; ++c)
                for (int64_t t = 0; t < s.length; ++t, ++i)
                    f(i, static_cast<size_t>(s.set(n, c)), static_cast<size_t>(c));
    };
    const auto sets = static_cast<size_t>(s.sets());
    const double count = static_cast<double>(s.size()) / static_cast<double>(s.sets());
    r.mean.resize(sets);
    r.variance.resize(sets);
    if (statistics) {
        r.mean = statistics->mean;
        r.variance = statistics->variance;
    } else {
        each([&](size_t i, size_t set, size_t) { r.mean[set] += x[i] / count; });
        each([&](size_t i, size_t set, size_t) {
            r.variance[set] += (x[i] - r.mean[set]) * (x[i] - r.mean[set]) / count;
        });
    }
    r.y.resize(x.size());
    each([&](size_t i, size_t set, size_t c) {
        r.y[i] = (x[i] - r.mean[set]) / std::sqrt(r.variance[set] + eps) *
                     (weight.empty() ? 1 : weight[c]) +
                 (bias.empty() ? 0 : bias[c]);
    });
    return r;
}

// Lengths around a vector and a warp, one channel, one sample, groups of one channel and of all.
std::vector<ChannelShape> channel_shapes() {
    std::vector<ChannelShape> shapes;
    for (int64_t length : {1, 2, 3, 7, 8, 9, 16, 17, 31, 32, 33, 65, 257}) {
        shapes.push_back({3, 6, length, 0});
        for (int64_t groups : {1, 2, 3, 6}) shapes.push_back({3, 6, length, groups});
    }
    for (int64_t groups : {0, 1}) {
        shapes.push_back({5, 1, 1, groups});
        shapes.push_back({2, 1, 9, groups});
        shapes.push_back({1, 5, 7, groups});
    }
    shapes.push_back({70, 67, 1, 0});  // several blocks of sets, shares of their rows
    shapes.push_back({70, 66, 1, 3});
    return shapes;
}

template <class T>
typename NormKernels<T>::ChannelNormArgs channel_args(const ChannelShape& s, GuardedBuffer<T>& y,
                                                      GuardedBuffer<T>& mean,
                                                      GuardedBuffer<T>& rstd,
                                                      const GuardedBuffer<T>& x, const T* weight,
                                                      const T* bias, double eps) {
    return {y.data(), mean.data(), rstd.data(), x.data(), weight,
            bias,     s.batch,     s.channels,  s.length, eps};
}

template <class T>
void run_channel_norm(KernelTable<T>& table, Context& context, const ChannelShape& s,
                      const typename NormKernels<T>::ChannelNormArgs& args, T* running_mean,
                      T* running_var, int64_t* batches, bool training) {
    if (s.groups > 0) {
        typename NormKernels<T>::GroupNormArgs a;
        static_cast<typename NormKernels<T>::ChannelNormArgs&>(a) = args;
        a.groups = s.groups;
        return table.group_norm(context, a);
    }
    typename NormKernels<T>::BatchNormArgs a;
    static_cast<typename NormKernels<T>::ChannelNormArgs&>(a) = args;
    a.running_mean = running_mean;
    a.running_var = running_var;
    a.batches = batches;
    a.momentum = 0.3;
    a.training = training;
    table.batch_norm(context, a);
}

TEST_CASE_TEMPLATE("group_norm and batch_norm are the textbook's at every length", T, float,
                   double) {
    for_each_table<T>(norm_kernels, [&](KernelTable<T>& table, Context& context) {
        for (const ChannelShape& s : channel_shapes()) {
            CAPTURE(s.batch);
            CAPTURE(s.channels);
            CAPTURE(s.length);
            CAPTURE(s.groups);
            if (s.size() == s.sets()) continue;  // one value a set has no variance
            GuardedBuffer<T> x(s.size(), 1), y(s.size(), 2), w(s.channels, 1), b(s.channels),
                mean(s.sets()), rstd(s.sets(), 1), running_mean(s.channels),
                running_var(s.channels, 1);
            fill_random(x, 1, 2, 4);
            fill_random(w, 3);
            fill_random(b, 4);
            fill_random(running_mean, 5);
            fill_random(running_var, 6, 0.5, 1);
            x[s.size() - 1] = 50;  // an outlier
            const std::vector<double> xd = as_double(x), wd = as_double(w), bd = as_double(b),
                                      mean_before = as_double(running_mean),
                                      var_before = as_double(running_var);
            // Values of size 20 in normal units at most, sums of up to 4690 terms.
            const double bound = 100 * epsilon<T>();
            const auto want = reference_channel_norm(s, xd, wd, bd, 1e-3);
            int64_t batches = 7;
            run_channel_norm(table, context, s,
                             channel_args(s, y, mean, rstd, x, w.data(), b.data(), 1e-3),
                             running_mean.data(), running_var.data(), &batches, true);
            CHECK_NEAR(y.data(), want.y, within(bound));
            CHECK_NEAR(mean.data(), want.mean, within(bound));
            for (int64_t i = 0; i < s.sets(); ++i)
                CHECK(static_cast<double>(rstd[i]) ==
                      doctest::Approx(1 / std::sqrt(want.variance[static_cast<size_t>(i)] + 1e-3))
                          .epsilon(bound));
            if (s.groups == 0) {
                const double n = static_cast<double>(s.batch * s.length);
                std::vector<double> next_mean, next_var;
                for (size_t c = 0; c < mean_before.size(); ++c) {
                    next_mean.push_back(0.7 * mean_before[c] + 0.3 * want.mean[c]);
                    next_var.push_back(0.7 * var_before[c] + 0.3 * want.variance[c] * n / (n - 1));
                }
                CHECK_NEAR(running_mean.data(), next_mean, within(bound));
                CHECK_NEAR(running_var.data(), next_var, within(1000 * bound));  // up to 1e3
                CHECK(batches == 8);
                // Outside training: by the running ones, which stay.
                const std::vector<T> kept = running_var.copy();
                const ChannelReference running{{}, as_double(running_mean), as_double(running_var)};
                run_channel_norm(table, context, s,
                                 channel_args(s, y, mean, rstd, x, w.data(), b.data(), 1e-3),
                                 running_mean.data(), running_var.data(), &batches, false);
                CHECK_NEAR(y.data(), reference_channel_norm(s, xd, wd, bd, 1e-3, &running).y,
                           within(bound));
                CHECK(running_var.copy() == kept);
                CHECK(batches == 8);
            }
            // In place, without weight and bias.
            run_channel_norm(table, context, s,
                             channel_args<T>(s, x, mean, rstd, x, nullptr, nullptr, 1e-3),
                             running_mean.data(), running_var.data(), nullptr, true);
            CHECK_NEAR(x.data(), reference_channel_norm(s, xd, {}, {}, 1e-3).y, within(bound));
        }
    });
}

TEST_CASE("group_norm and batch_norm keep their digits under a large offset") {
    for_each_table<float>(norm_kernels, [](KernelTable<float>& table, Context& context) {
        for (const ChannelShape& s : {ChannelShape{3, 4, 97, 2}, {3, 4, 97, 0}, {97, 4, 1, 0}}) {
            GuardedBuffer<float> x(s.size()), y(s.size()), mean(s.sets()), rstd(s.sets()),
                running_mean(4), running_var(4);
            running_mean.fill(0);
            running_var.fill(1);
            for (int64_t i = 0; i < s.size(); ++i) x[i] = 10000.0f + static_cast<float>(i % 7);
            run_channel_norm(table, context, s,
                             channel_args<float>(s, y, mean, rstd, x, nullptr, nullptr, 1e-5),
                             running_mean.data(), running_var.data(), nullptr, true);
            CHECK_NEAR(y.data(), reference_channel_norm(s, as_double(x), {}, {}, 1e-5).y,
                       within(2e-3));  // the mean is rounded to 2^-11, the deviation is 2
        }
    });
}

TEST_CASE_TEMPLATE("group_norm_backward and batch_norm_backward are the derivatives", T, float,
                   double) {
    for_each_table<T>(norm_kernels, [&](KernelTable<T>& table, Context& context) {
        for (const ChannelShape& s : {ChannelShape{2, 6, 5, 1},
                                      {2, 6, 5, 3},
                                      {2, 6, 1, 2},
                                      {2, 6, 5, 0},
                                      {5, 3, 1, 0},
                                      {1, 2, 33, 0},
                                      {1, 2, 33, 2},
                                      {3, 1, 4, 0}})
            for (bool weighted : {true, false})
                for (bool training : {true, false}) {
                    if (s.groups > 0 && !training) continue;
                    GuardedBuffer<T> x(s.size(), 1), dy(s.size()), w(s.channels, 1), b(s.channels),
                        mean(s.sets()), rstd(s.sets()), y(s.size()), dx(s.size(), 2),
                        dw(s.channels, 1), db(s.channels, 1), running_mean(s.channels),
                        running_var(s.channels);
                    fill_random(x, 1, -2, 2);
                    fill_random(dy, 2);
                    fill_random(w, 3);
                    fill_random(b, 4);
                    fill_random(running_mean, 5);
                    fill_random(running_var, 6, 0.5, 1);
                    dw.fill(T(0.5));
                    db.fill(T(-0.25));
                    const ChannelReference running{
                        {}, as_double(running_mean), as_double(running_var)};
                    const T* weight = weighted ? w.data() : nullptr;
                    run_channel_norm(table, context, s,
                                     channel_args(s, y, mean, rstd, x, weight,
                                                  static_cast<const T*>(b.data()), 1e-3),
                                     running_mean.data(), running_var.data(), nullptr, training);
                    const auto backward = [&](T* to, T* weights, T* biases) {
                        const typename NormKernels<T>::ChannelNormBackwardArgs a{
                            to,          weights, biases,  dy.data(),  x.data(), mean.data(),
                            rstd.data(), weight,  s.batch, s.channels, s.length};
                        if (s.groups > 0)
                            table.group_norm_backward(context, a, s.groups);
                        else
                            table.batch_norm_backward(context, a, training);
                    };
                    backward(dx.data(), dw.data(), db.data());
                    std::vector<double> xd = as_double(x), bd = as_double(b), dyd = as_double(dy);
                    std::vector<double> wd =
                        weighted ? as_double(w)
                                 : std::vector<double>(static_cast<size_t>(s.channels), 1);
                    const auto scalar = [&] {
                        const auto r = reference_channel_norm(s, xd, wd, bd, 1e-3,
                                                              training ? nullptr : &running);
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
                    // dx over dy; parts left out.
                    const std::vector<T> separate = dx.copy(), given = dy.copy(),
                                         dw_once = dw.copy(), db_once = db.copy();
                    dw.fill(T(0.5));
                    db.fill(T(-0.25));
                    backward(dy.data(), dw.data(), db.data());
                    CHECK(dy.copy() == separate);
                    CHECK(dw.copy() == dw_once);
                    CHECK(db.copy() == db_once);
                    std::copy(given.begin(), given.end(), dy.data());
                    backward(nullptr, dw.data(), nullptr);
                    backward(dy.data(), nullptr, nullptr);
                    CHECK(dy.copy() == separate);
                }
    });
}

TEST_CASE("group_norm and batch_norm do not depend on the number of threads") {
    Backend b;
    norm_kernels(b);
    for (const ChannelShape& s :
         {ChannelShape{9, 80, 301, 8}, {9, 130, 201, 0}, {3001, 65, 1, 0}}) {
        const auto n = static_cast<size_t>(s.size()), sets = static_cast<size_t>(s.sets()),
                   channels = static_cast<size_t>(s.channels);
        std::vector<float> x(n), dy(n), mean(sets), rstd(sets), running(2 * channels);
        fill_random(x.data(), s.size(), 1);
        fill_random(dy.data(), s.size(), 2);
        check_thread_counts<float>(
            2 * s.size() + 2 * s.channels, [&](Context& context, float* out) {
                run_channel_norm<float>(b.f32, context, s,
                                        {out, mean.data(), rstd.data(), x.data(), nullptr, nullptr,
                                         s.batch, s.channels, s.length, 1e-5},
                                        running.data(), running.data() + channels, nullptr, true);
                float *dx = out + s.size(), *dw = dx + s.size();
                const NormKernels<float>::ChannelNormBackwardArgs a{
                    dx,          dw,      dw + s.channels, dy.data(),  x.data(), mean.data(),
                    rstd.data(), nullptr, s.batch,         s.channels, s.length};
                if (s.groups > 0)
                    b.f32.group_norm_backward(context, a, s.groups);
                else
                    b.f32.batch_norm_backward(context, a, true);
            });
    }
}

}  // namespace
}  // namespace mc::testing
