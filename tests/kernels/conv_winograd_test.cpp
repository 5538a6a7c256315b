// F(2,3) convolutions against direct loops, at shapes where the rule takes them and where not.
#include "kernels/cpu/conv_winograd.h"

#include <doctest/doctest.h>

#include "tests/kernels/conv_test_util.h"

namespace mc {
namespace {

using testing::Check;
using testing::GuardedBuffer;
using testing::TestContext;

template <class T>
const ConvKernels<T>& usual() {
    return backend(DeviceType::cpu).table<T>();
}

// The kernels with F(2,3) whatever the rule says; dbias is not its part.
template <class T>
const ConvKernels<T>& by_winograd() {
    static const ConvKernels<T> kernels = [] {
        ConvKernels<T> k;
        k.conv1d = [](Context& context, T* y, const T* x, const T* w, const void* packed,
                      const T* bias, bool relu, const ConvShape& s) {
            winograd_conv1d(context, y, x, w, packed, bias, relu, s);
        };
        if constexpr (std::is_same_v<T, float>) {
            k.conv1d_packing = [](const ConvShape& s) {
                const int64_t bytes = 4 * packed_bytes(Precision::f32, s.c_in, s.c_out);
                return ConvPacking{0, s.c_out > 4 ? bytes : 0};
            };
            k.pack_conv1d = winograd_pack;
        }
        k.conv1d_backward = [](Context& context, T* dx, T* dw, T* dbias, const T* dy, const T* x,
                               const T* w, const ConvShape& s) {
            usual<T>().conv1d_backward(context, nullptr, nullptr, dbias, dy, x, w, s);
            winograd_conv1d_backward(context, dx, dw, dy, x, w, s);
        };
        return k;
    }();
    return kernels;
}

template <class T>
void both_thread_counts(const ConvShape& s, bool with_bias = true, bool relu = false) {
    static TestContext one(1), two(2);
    if (s.t_out() < 1) return;
    const auto a = testing::run_conv<T>(by_winograd<T>(), s, with_bias, relu, one, Check::largest);
    CHECK((a == testing::run_conv<T>(by_winograd<T>(), s, with_bias, relu, two, Check::none)));
}

template <class T>
void small_shapes(const std::vector<int64_t>& frames) {
    for (int64_t batch : {1, 3})
        for (int64_t t : frames)
            for (int64_t ci : {1, 5, 19})
                for (int64_t co : {1, 8, 37}) {
                    both_thread_counts<T>({batch, t, ci, co, 3, 1, 1, 1});
                    both_thread_counts<T>({batch, t, ci, co, 3, 1, 9, 9}, true, true);
                    both_thread_counts<T>({batch, t, ci, co, 3, 1, 3, 3}, false);
                    both_thread_counts<T>({batch, t, ci, co, 3, 1, 0, 1}, false, true);
                    both_thread_counts<T>({batch, t, ci, co, 3, 1, 5, 2});
                }
}

// Random numbers for a shape's operands.
template <class T>
struct Operands {
    explicit Operands(const ConvShape& s)
        : x(static_cast<size_t>(s.batch * s.t_in * s.c_in)),
          w(static_cast<size_t>(s.c_out * s.c_in * 3)),
          bias(static_cast<size_t>(s.c_out)),
          y(static_cast<size_t>(s.batch * s.t_out() * s.c_out)),
          dy(y.size()),
          dx(x.size()),
          dw(w.size()) {
        uint64_t seed = 1;
        for (auto* v : {&x, &w, &bias, &dy})
            testing::fill_random(v->data(), static_cast<int64_t>(v->size()), seed++);
    }
    void run(const ConvKernels<T>& kernels, Context& context, const ConvShape& s) {
        kernels.conv1d(context, y.data(), x.data(), w.data(), nullptr, bias.data(), false, s);
        kernels.conv1d_backward(context, dx.data(), dw.data(), nullptr, dy.data(), x.data(),
                                w.data(), s);
    }
    std::vector<T> x, w, bias, y, dy, dx, dw;
};

template <class T>
std::vector<T> sample_of(const std::vector<T>& all, int64_t batch, int64_t b) {
    const auto one = static_cast<std::ptrdiff_t>(all.size()) / batch;
    return {all.begin() + b * one, all.begin() + (b + 1) * one};
}

double rms_difference(const std::vector<float>& a, const std::vector<double>& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) {
        const double gap = static_cast<double>(a[i]) - b[i];
        sum += gap * gap;
    }
    return std::sqrt(sum / static_cast<double>(a.size()));
}

}  // namespace

TEST_CASE_TEMPLATE("F(2,3): lengths, dilations and paddings, tiles cut off anywhere", T, float,
                   double) {
    small_shapes<T>({1, 2, 3, 5, 12, 16, 21});
}

TEST_CASE("F(2,3): every instruction set") {
    testing::for_each_target([] { small_shapes<float>({16}); });
}

TEST_CASE("F(2,3): more than one block of samples") {
    both_thread_counts<float>({30, 64, 8, 600, 3, 1, 1, 1});
    both_thread_counts<double>({30, 64, 8, 600, 3, 1, 3, 3});
}

TEST_CASE_TEMPLATE("F(2,3): taken for wide convolutions of enough frames", T, float, double) {
    TestContext context(2);
    for (const ConvShape& s : {ConvShape{2, 64, 140, 130, 3, 1, 1, 1},
                               {2, 24, 128, 140, 3, 1, 9, 9},
                               {3, 14, 129, 128, 3, 1, 0, 1}}) {
        CHECK(winograd_applies(s));
        Operands<T> a(s), b(s);
        a.run(usual<T>(), context, s);
        b.run(by_winograd<T>(), context, s);
        CHECK((a.y == b.y && a.dx == b.dx && a.dw == b.dw));
        testing::run_conv<T>(usual<T>(), s, true, true, context, Check::largest);
    }
    for (const ConvShape& s : {ConvShape{2, 64, 127, 512, 3, 1, 1, 1},
                               {2, 64, 512, 127, 3, 1, 1, 1},
                               {2, 64, 128, 128, 3, 2, 1, 1},
                               {2, 64, 128, 128, 4, 1, 1, 1},
                               {2, 10, 128, 128, 3, 1, 1, 1},
                               {2, 12, 128, 128, 3, 1, 9, 9},   // as many rows as without
                               {2, 12, 128, 128, 3, 1, 0, 9}})  // no output
        CHECK_FALSE(winograd_applies(s));
}

TEST_CASE("F(2,3): a sample's result is the same alone and anywhere in a batch") {
    TestContext context(2);
    for (const ConvShape& s : {ConvShape{3, 12, 130, 140, 3, 1, 1, 1},  // 6 tiles
                               {17, 16, 20, 24, 3, 1, 1, 1},
                               {30, 64, 8, 600, 3, 1, 1, 1}}) {  // several blocks
        Operands<float> all(s);
        all.run(by_winograd<float>(), context, s);
        ConvShape one = s;
        one.batch = 1;
        for (int64_t b = 0; b < s.batch; ++b) {
            Operands<float> alone(one);
            alone.w = all.w;
            alone.bias = all.bias;
            alone.x = sample_of(all.x, s.batch, b);
            alone.dy = sample_of(all.dy, s.batch, b);
            alone.run(by_winograd<float>(), context, one);
            CHECK((alone.y == sample_of(all.y, s.batch, b)));
            CHECK((alone.dx == sample_of(all.dx, s.batch, b)));
        }
    }
}

TEST_CASE("F(2,3): dx or dw or both may be left out") {
    TestContext context(2);
    const ConvShape s{2, 17, 20, 24, 3, 1, 3, 3};
    Operands<float> both(s), one(s);
    const auto backward = [&](float* dx, float* dw) {
        winograd_conv1d_backward(context, dx, dw, one.dy.data(), one.x.data(), one.w.data(), s);
    };
    both.run(by_winograd<float>(), context, s);
    backward(nullptr, nullptr);
    backward(one.dx.data(), nullptr);
    backward(nullptr, one.dw.data());
    CHECK(one.dx == both.dx);
    CHECK(one.dw == both.dw);
}

// As the header says: in y and dx the same elements as by the direct sum.
TEST_CASE("F(2,3): an infinite value reaches no further than the kernel") {
    TestContext context(1);
    const ConvShape s{2, 12, 16, 16, 3, 1, 1, 1};
    const auto finite = [](const std::vector<float>& v, int64_t t) {
        return std::all_of(v.begin() + t * 16, v.begin() + (t + 1) * 16,
                           [](float e) { return std::isfinite(e); });
    };
    for (int64_t at = 0; at < 12; ++at) {
        CAPTURE(at);
        Operands<float> o(s);
        o.x[static_cast<size_t>(at * 16)] = std::numeric_limits<float>::infinity();
        o.dy[static_cast<size_t>(at * 16)] = std::numeric_limits<float>::infinity();
        o.run(by_winograd<float>(), context, s);
        for (int64_t t = 0; t < s.batch * 12; ++t) {
            const bool far = t > 11 || std::abs(t - at) > 1;
            CHECK(finite(o.y, t) == far);
            CHECK(finite(o.dx, t) == far);
        }
    }
}

// The sums of V, U and M are rounded too, but a chain of products is a third as long. Measured
// here: y 1.0, dx 1.3, dw 1.0 times the direct sum's root mean square error.
TEST_CASE("F(2,3): the f32 error is less than twice the direct sum's") {
    TestContext context(2);
    for (const int64_t dilation : {1, 9}) {
        const ConvShape s{4, 64, 120, 120, 3, 1, dilation, dilation};
        Operands<double> exact(s);
        Operands<float> direct(s), tiles(s);
        for (size_t i = 0; i < exact.x.size(); ++i) exact.x[i] = static_cast<double>(direct.x[i]);
        for (size_t i = 0; i < exact.w.size(); ++i) exact.w[i] = static_cast<double>(direct.w[i]);
        for (size_t i = 0; i < exact.dy.size(); ++i)
            exact.dy[i] = static_cast<double>(direct.dy[i]);
        for (size_t i = 0; i < exact.bias.size(); ++i)
            exact.bias[i] = static_cast<double>(direct.bias[i]);
        REQUIRE_FALSE(winograd_applies(s));
        exact.run(usual<double>(), context, s);
        direct.run(usual<float>(), context, s);
        tiles.run(by_winograd<float>(), context, s);
        const double y = rms_difference(tiles.y, exact.y) / rms_difference(direct.y, exact.y),
                     dx = rms_difference(tiles.dx, exact.dx) / rms_difference(direct.dx, exact.dx),
                     dw = rms_difference(tiles.dw, exact.dw) / rms_difference(direct.dw, exact.dw);
        CHECK(y < 2);
        CHECK(dx < 2);
        CHECK(dw < 2);
    }
}

}  // namespace mc
