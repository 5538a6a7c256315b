// Convolutions against direct loops; gradients against the transposed loops.
#include <doctest/doctest.h>

#include <vector>

#include "tests/kernels/conv_test_util.h"

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

template <class T>
void both_thread_counts(const ConvShape& s, bool with_bias = true, bool relu = false) {
    static testing::TestContext one(1), two(2);
    const auto a = testing::run_conv<T>(table<T>(), s, with_bias, relu, one, testing::Check::each);
    CHECK((a == testing::run_conv<T>(table<T>(), s, with_bias, relu, two, testing::Check::none)));
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
    table<float>().conv1d(context, none.data(), x.data(), w.data(), nullptr, nullptr, false, s);
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
