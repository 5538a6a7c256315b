// Convolutions against direct loops; gradients against the transposed loops.
#include <doctest/doctest.h>

#include <vector>

#include "tests/kernels/kernel_test_util.h"

namespace mc {
namespace {

using testing::GuardedBuffer;

template <class T>
KernelTable<T>& table() {
    static Backend backend = [] {
        Backend b;
        testing::conv_kernels(b);
        return b;
    }();
    return backend.table<T>();
}

// Calls f(y index, x index, w index) for every product of the convolution.
template <class F>
void each_product(const ConvShape& s, F&& f) {
    for (int64_t b = 0; b < s.batch; ++b)
        for (int64_t t = 0; t < s.t_out(); ++t)
            for (int64_t co = 0; co < s.c_out; ++co)
                for (int64_t k = 0; k < s.kernel; ++k) {
                    const int64_t at = t * s.stride - s.padding + k * s.dilation;
                    if (at < 0 || at >= s.t_in) continue;
                    for (int64_t ci = 0; ci < s.c_in; ++ci)
                        f((b * s.t_out() + t) * s.c_out + co, (b * s.t_in + at) * s.c_in + ci,
                          (co * s.c_in + ci) * s.kernel + k);
                }
}

template <class T>
struct Result {
    std::vector<T> y, dx, dw, dbias;
    bool operator==(const Result&) const = default;
};

template <class T>
Result<T> run(const ConvShape& s, bool with_bias, bool relu, testing::TestContext& context,
              bool check) {
    CAPTURE(s.batch);
    CAPTURE(s.t_in);
    CAPTURE(s.c_in);
    CAPTURE(s.c_out);
    CAPTURE(s.kernel);
    CAPTURE(s.stride);
    CAPTURE(s.padding);
    CAPTURE(s.dilation);
    const int64_t ny = s.batch * std::max<int64_t>(s.t_out(), 0) * s.c_out;
    const int64_t nx = s.batch * s.t_in * s.c_in, nw = s.c_out * s.c_in * s.kernel;
    const int64_t shift = (s.c_in + s.t_in) % 2;  // aligned, as kernels can make use of, and not
    GuardedBuffer<T> y(ny, shift), x(nx, shift), w(nw, 3), bias(s.c_out), dy(ny, shift),
        dx(nx, shift), dw(nw, 1), dbias(s.c_out, 1);
    testing::fill_random(x, 1);
    testing::fill_random(w, 2);
    testing::fill_random(bias, 3);
    testing::fill_random(dy, 4);
    testing::fill_random(dw, 5);
    testing::fill_random(dbias, 6);
    std::vector<double> want_y(static_cast<size_t>(ny)), size_y(want_y.size());
    std::vector<double> want_dx(static_cast<size_t>(nx)), size_dx(want_dx.size());
    std::vector<double> want_dw(static_cast<size_t>(nw)), size_dw(want_dw.size());
    std::vector<double> want_db(static_cast<size_t>(s.c_out)), size_db(want_db.size());
    if (check) {
        const auto add = [](std::vector<double>& sum, std::vector<double>& size, int64_t i,
                            double v) {
            sum[static_cast<size_t>(i)] += v;
            size[static_cast<size_t>(i)] += std::fabs(v);
        };
        for (int64_t i = 0; i < ny; ++i) {
            if (with_bias) add(want_y, size_y, i, static_cast<double>(bias[i % s.c_out]));
            add(want_db, size_db, i % s.c_out, static_cast<double>(dy[i]));
        }
        for (int64_t i = 0; i < s.c_out; ++i)
            add(want_db, size_db, i, static_cast<double>(dbias[i]));
        for (int64_t i = 0; i < nw; ++i) add(want_dw, size_dw, i, static_cast<double>(dw[i]));
        each_product(s, [&](int64_t iy, int64_t ix, int64_t iw) {
            const double xv = static_cast<double>(x[ix]), wv = static_cast<double>(w[iw]),
                         g = static_cast<double>(dy[iy]);
            add(want_y, size_y, iy, xv * wv);
            add(want_dx, size_dx, ix, g * wv);
            add(want_dw, size_dw, iw, g * xv);
        });
        if (relu)
            for (double& v : want_y) v = std::max(v, 0.0);
    }
    table<T>().conv1d(context, y.data(), x.data(), w.data(), with_bias ? bias.data() : nullptr,
                      relu, s);
    table<T>().conv1d_backward(context, dx.data(), dw.data(), dbias.data(), dy.data(), x.data(),
                               w.data(), s);
    if (check) {
        for (auto* size : {&size_y, &size_dx, &size_dw, &size_db})
            for (double& v : *size) v = v * 20 * testing::epsilon<T>() + 1e-300;
        CHECK_NEAR(y.data(), want_y, size_y);
        CHECK_NEAR(dx.data(), want_dx, size_dx);
        CHECK_NEAR(dw.data(), want_dw, size_dw);
        CHECK_NEAR(dbias.data(), want_db, size_db);
    }
    return {y.copy(), dx.copy(), dw.copy(), dbias.copy()};
}

template <class T>
void both_thread_counts(const ConvShape& s, bool with_bias = true, bool relu = false) {
    static testing::TestContext one(1), two(2);
    const Result<T> a = run<T>(s, with_bias, relu, one, true);
    CHECK((a == run<T>(s, with_bias, relu, two, false)));
}

}  // namespace

TEST_CASE_TEMPLATE("conv1d: shapes of the project, made small", T, float, double) {
    for (int64_t batch : {1, 3})
        for (int64_t t : {1, 2, 5, 16, 21})
            for (int64_t ci : {1, 5, 16, 19})
                for (int64_t co : {1, 8, 13}) {
                    both_thread_counts<T>({batch, t, ci, co, 3, 1, 1, 1});
                    both_thread_counts<T>({batch, t, ci, co, 3, 1, 9, 9}, true, true);
                    both_thread_counts<T>({batch, t, ci, co, 3, 1, 3, 3}, false);
                    both_thread_counts<T>({batch, t, ci, co, 4, 2, 1, 1}, true, true);
                    both_thread_counts<T>({batch, t, ci, co, 1, 1, 0, 1});
                    both_thread_counts<T>({batch, t, ci, co, 1, 2, 1, 1});
                }
}

TEST_CASE("conv1d: more than one block of samples") {
    both_thread_counts<float>({20, 64, 600, 8, 3, 1, 1, 1});
}

TEST_CASE("conv1d: an input shorter than the kernel, nothing to skip") {
    testing::TestContext context(1);
    const ConvShape s{2, 2, 3, 4, 4, 1, 0, 1};  // t_out -1
    CHECK(s.t_out() <= 0);
    GuardedBuffer<float> x(12), w(48), dx(12), dw(48), db(4), none(0);
    dw.fill(1);
    db.fill(1);
    table<float>().conv1d(context, none.data(), x.data(), w.data(), nullptr, false, s);
    table<float>().conv1d_backward(context, dx.data(), dw.data(), db.data(), none.data(), x.data(),
                                   w.data(), s);
    for (int64_t i = 0; i < 12; ++i) CHECK(dx[i] == 0);
    for (int64_t i = 0; i < 48; ++i) CHECK(dw[i] == 1);
}

TEST_CASE("conv1d_backward: each output may be left out") {
    testing::TestContext context(2);
    const ConvShape s{2, 9, 5, 6, 3, 1, 1, 1};
    std::vector<float> x(90), w(90), dy(108), dx(90), dw(90, 0), db(6, 0), dx1(90), dw1(90, 0),
        db1(6, 0);
    testing::fill_random(x.data(), 90, 1);
    testing::fill_random(w.data(), 90, 2);
    testing::fill_random(dy.data(), 108, 3);
    const auto& k = table<float>();
    k.conv1d_backward(context, dx.data(), dw.data(), db.data(), dy.data(), x.data(), w.data(), s);
    k.conv1d_backward(context, dx1.data(), nullptr, nullptr, dy.data(), x.data(), w.data(), s);
    k.conv1d_backward(context, nullptr, dw1.data(), nullptr, dy.data(), x.data(), w.data(), s);
    k.conv1d_backward(context, nullptr, nullptr, db1.data(), dy.data(), x.data(), w.data(), s);
    CHECK(dx == dx1);
    CHECK(dw == dw1);
    CHECK(db == db1);
}

TEST_CASE_TEMPLATE("upsample2 and its gradient", T, float, double) {
    testing::TestContext context(2);
    for (int64_t frames : {0, 1, 7})
        for (int64_t channels : {0, 1, 9, 64}) {
            const int64_t n = 3 * frames * channels;
            GuardedBuffer<T> x(n, 1), y(2 * n, 1), dx(n, 1);
            testing::fill_random(x, 1);
            table<T>().upsample2(context, y.data(), x.data(), 3, frames, channels);
            table<T>().upsample2_backward(context, dx.data(), y.data(), 3, frames, channels);
            for (int64_t t = 0; t < 3 * frames; ++t)
                for (int64_t c = 0; c < channels; ++c) {
                    const T v = x[t * channels + c];
                    CHECK(y[2 * t * channels + c] == v);
                    CHECK(y[(2 * t + 1) * channels + c] == v);
                    CHECK(dx[t * channels + c] == v + v);
                }
        }
}

}  // namespace mc
