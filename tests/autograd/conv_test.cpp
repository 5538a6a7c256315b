#include "tests/autograd/autograd_test_util.h"

using namespace mc;
using namespace mc::testing;

namespace {

// x (B, T, Cin), w (Cout, Cin, K), bias (Cout) or null, before the relu.
Array naive_conv(const Array& x, const Array& w, const Array* bias, const ConvOptions& o) {
    const int64_t frames = x.shape[1], kernel = w.shape[2];
    const int64_t out = (frames + 2 * o.padding - o.dilation * (kernel - 1) - 1) / o.stride + 1;
    return filled({x.shape[0], out, w.shape[0]}, [&](const std::vector<int64_t>& i) {
        double total = bias ? bias->at({i[2]}) : 0;
        for (int64_t k = 0; k < kernel; ++k) {
            const int64_t t = i[1] * o.stride - o.padding + k * o.dilation;
            if (t < 0 || t >= frames) continue;
            for (int64_t c = 0; c < w.shape[1]; ++c)
                total += x.at({i[0], t, c}) * w.at({i[2], c, k});
        }
        return total;
    });
}

void check_conv(const Shape& x_shape, int64_t c_out, int64_t kernel, const ConvOptions& o) {
    for (bool with_bias : {true, false}) {
        Tensor x, w, b;
        Array want{Shape{}};
        // With relu, values too near to its kink are drawn anew.
        double nearest = 0;
        for (uint64_t seed = 1; nearest < 0.012; seed += 3) {
            x = random(x_shape, seed);
            w = random({c_out, x_shape[2], kernel}, seed + 1);
            b = random({c_out}, seed + 2);
            const Array bias(b);
            want = naive_conv(Array(x), Array(w), with_bias ? &bias : nullptr, o);
            nearest = kInf;
            if (o.relu)
                for (double y : want.v)
                    if (y != 0) nearest = std::min(nearest, std::abs(y));
        }
        if (o.relu)
            for (double& y : want.v) y = std::max(y, 0.0);
        std::vector<Tensor> inputs{x, w};
        if (with_bias) inputs.push_back(b);
        const std::string name = "conv1d " + x_shape.str() + " kernel " + std::to_string(kernel) +
                                 " stride " + std::to_string(o.stride) + " padding " +
                                 std::to_string(o.padding) + " dilation " +
                                 std::to_string(o.dilation) + (o.relu ? " relu" : "");
        check_op(
            name.c_str(), inputs,
            [=](const std::vector<Var>& v) {
                return conv1d(v[0], v[1], with_bias ? v[2] : Var(), o);
            },
            want, 1e-5);
    }
}

}  // namespace

TEST_CASE("conv1d: stride, padding, dilation, kernels of one to four, relu") {
    for (bool relu : {false, true}) {
        check_conv({2, 7, 3}, 4, 1, {.relu = relu});
        check_conv({2, 7, 3}, 4, 3, {.relu = relu});
        check_conv({2, 7, 3}, 2, 3, {.padding = 1, .relu = relu});
        check_conv({2, 8, 3}, 2, 4, {.stride = 2, .padding = 1, .relu = relu});
        check_conv({1, 9, 2}, 3, 3, {.stride = 3, .padding = 2, .relu = relu});
        check_conv({2, 9, 2}, 3, 3, {.padding = 3, .dilation = 3, .relu = relu});
        check_conv({1, 11, 2}, 3, 3, {.stride = 2, .padding = 1, .dilation = 2, .relu = relu});
        check_conv({1, 1, 2}, 3, 3, {.padding = 1, .relu = relu});
    }
    check_conv({1, 2, 2}, 3, 3, {.padding = 9, .dilation = 9});  // most taps outside
    check_conv({2, 33, 17}, 18, 3, {.padding = 1});
}

TEST_CASE("conv1d: expanded input and weight, one weight used twice") {
    CHECK_NOTHROW(gradcheck(
        "expanded",
        {random({1, 5, 1}, 1).expand({2, 5, 3}), random({2, 1, 3}, 2).expand({2, 3, 3}),
         random({1}, 3).expand({2})},
        [](const std::vector<Var>& v) { return conv1d(v[0], v[1], v[2], {.padding = 1}); }));
    CHECK_NOTHROW(gradcheck("twice", {random({1, 5, 2}, 1), random({2, 2, 3}, 2), random({2}, 3)},
                            [](const std::vector<Var>& v) {
                                const Var y = conv1d(v[0], v[1], v[2], {.padding = 1});
                                return conv1d(y, v[1], v[2], {.padding = 2, .dilation = 2});
                            }));
}

TEST_CASE("upsample2: every frame twice") {
    for (const Shape& shape : {Shape{2, 3, 5}, Shape{1, 1, 1}, Shape{3, 7, 2}}) {
        const Tensor x = random(shape, 1);
        const Array in(x);
        check_op(
            "upsample2", {x}, [](const std::vector<Var>& v) { return upsample2(v[0]); },
            filled({shape[0], 2 * shape[1], shape[2]}, [&](const std::vector<int64_t>& i) {
                return in.at({i[0], i[1] / 2, i[2]});
            }));
    }
}

TEST_CASE("conv1d and upsample2: errors name operation and shapes") {
    auto var = [](const Shape& shape) { return Var(random(shape, 1)); };
    CHECK_ERROR(conv1d(var({2, 7, 3}), var({4, 2, 3}), Var(), {}), "[conv1d]", "(2, 7, 3)",
                "(4, 2, 3)");
    CHECK_ERROR(conv1d(var({7, 3}), var({4, 3, 3}), Var(), {}), "[conv1d]", "(7, 3)");
    CHECK_ERROR(conv1d(var({2, 7, 3}), var({4, 3, 3}), var({3}), {}), "[conv1d]", "(3)",
                "(4, 3, 3)");
    CHECK_ERROR(conv1d(var({2, 2, 3}), var({4, 3, 3}), Var(), {}), "[conv1d]", "2 frames");
    CHECK_ERROR(conv1d(var({2, 7, 3}), Var(Tensor::zeros({4, 3, 3})), Var(), {}), "[conv1d]",
                "f32");
    CHECK_ERROR(conv1d(var({2, 7, 3}), var({4, 3, 3}), Var(), {.stride = 0}), "[conv1d]",
                "stride 0");
    CHECK_ERROR(conv1d(var({2, 7, 3}), var({4, 3, 3}), Var(), {.dilation = 0}), "[conv1d]",
                "dilation 0");
    CHECK_ERROR(conv1d(var({2, 7, 3}), var({4, 3, 3}), Var(), {.padding = -1}), "[conv1d]",
                "padding -1");
    CHECK_ERROR(conv1d(var({2, 7, 3}), var({4, 3, 0}), Var(), {}), "[conv1d]", "kernel 0");
    CHECK_ERROR(upsample2(var({2, 3})), "[upsample2]", "(2, 3)");
}
