#include "nn/gru.h"

#include "tests/nn/nn_test_util.h"

using namespace mc;
using namespace mc::testing;

namespace {

// One direction for one row, in f64: states (steps, H) in the order they are computed.
std::vector<std::vector<double>> naive_states(const Array& x, int64_t row, int64_t length,
                                              std::vector<double> h, nn::TensorMap state,
                                              const std::string& suffix, bool backward) {
    const Array wi(state.at("weight_ih_l0" + suffix)), wh(state.at("weight_hh_l0" + suffix)),
        bi(state.at("bias_ih_l0" + suffix)), bh(state.at("bias_hh_l0" + suffix));
    const int64_t width = static_cast<int64_t>(h.size()), in = x.shape[2];
    const auto logistic = [](double v) { return 1 / (1 + std::exp(-v)); };
    std::vector<std::vector<double>> states;
    for (int64_t s = 0; s < length; ++s) {
        const int64_t t = backward ? length - 1 - s : s;
        std::vector<double> next(h.size());
        for (int64_t i = 0; i < width; ++i) {
            double from_input[3], from_state[3];
            for (int64_t gate = 0; gate < 3; ++gate) {
                const int64_t g = gate * width + i;
                from_input[gate] = bi.at({g});
                from_state[gate] = bh.at({g});
                for (int64_t c = 0; c < in; ++c)
                    from_input[gate] += wi.at({g, c}) * x.at({row, t, c});
                for (int64_t c = 0; c < width; ++c)
                    from_state[gate] += wh.at({g, c}) * h[static_cast<size_t>(c)];
            }
            const double r = logistic(from_input[0] + from_state[0]),
                         z = logistic(from_input[1] + from_state[1]),
                         n = std::tanh(from_input[2] + r * from_state[2]);
            next[static_cast<size_t>(i)] = (1 - z) * n + z * h[static_cast<size_t>(i)];
        }
        h = next;
        states.push_back(h);
    }
    return states;
}

std::vector<double> start_of(const Tensor& h0, int64_t direction, int64_t row) {
    std::vector<double> h;
    for (int64_t i = 0; i < h0.size(2); ++i)
        h.push_back(h0.item<double>({direction, h0.size(1) == 1 ? 0 : row, i}));
    return h;
}

Var all_of(const nn::Gru::States& s) {
    const int64_t batch = s.last_forward.size(0);
    return concat({s.last_forward, s.last_backward,
                   reshape(s.outputs, {batch, s.outputs.size(1) * s.outputs.size(2)})},
                  1);
}

}  // namespace

TEST_CASE("gru: both directions and padded rows as a plain loop says") {
    const int64_t batch = 4, steps = 5, in = 3, width = 2;
    nn::Gru gru(in, width, nullptr);
    gru.to(DType::f64);
    randomise(gru, 3);
    const std::vector<int64_t> lengths{5, 1, 3, 5};
    const Tensor x = random({batch, steps, in}, 1);
    for (const int64_t starts : {int64_t{1}, batch}) {
        const Tensor h0 = random({2, starts, width}, 2);
        const nn::Gru::States s = gru(Var(x), lengths, Var(h0), true);
        REQUIRE(s.outputs.shape() == Shape{batch, steps, 2 * width});
        for (int64_t b = 0; b < batch; ++b) {
            CAPTURE(b);
            const int64_t length = lengths[static_cast<size_t>(b)];
            const auto ahead = naive_states(Array(x), b, length, start_of(h0, 0, b), gru.state(),
                                            "", false),
                       back = naive_states(Array(x), b, length, start_of(h0, 1, b), gru.state(),
                                           "_reverse", true);
            const auto near = [](double a, double c) { CHECK(std::abs(a - c) < 1e-14); };
            for (int64_t i = 0; i < width; ++i) {
                const auto c = static_cast<size_t>(i);
                near(s.last_forward.value().item<double>({b, i}), ahead.back()[c]);
                near(s.last_backward.value().item<double>({b, i}), back.back()[c]);
                for (int64_t t = 0; t < steps; ++t) {
                    const bool on = t < length;
                    near(s.outputs.value().item<double>({b, t, i}),
                         on ? ahead[static_cast<size_t>(t)][c] : 0);
                    near(s.outputs.value().item<double>({b, t, width + i}),
                         on ? back[static_cast<size_t>(length - 1 - t)][c] : 0);
                }
            }
        }
    }
}

TEST_CASE("gru: what is in the padding does not count") {
    nn::Gru gru(3, 2, nullptr);
    randomise(gru, 3);
    const Tensor h0 = random({2, 1, 2}, 2).to(DType::f32);
    Tensor x = random({2, 4, 3}, 1).to(DType::f32);
    const nn::Gru::States before = gru(Var(x.clone()), {4, 2}, Var(h0), true);
    for (int64_t i = 4 * 3 + 2 * 3; i < x.numel(); ++i) x.data<float>()[i] = 1e6f;
    const nn::Gru::States after = gru(Var(x), {4, 2}, Var(h0), true);
    CHECK(same_bits(all_of(before).value(), all_of(after).value()));
}

TEST_CASE("gru: gradients of input, initial state and parameters agree with differences") {
    for (const auto& lengths : {std::vector<int64_t>{4, 4, 4}, std::vector<int64_t>{2, 4, 1}}) {
        nn::Gru gru(3, 2, nullptr);
        randomise(gru, 5);
        const Tensor h0 = random({2, 1, 2}, 9);
        gradcheck_module("gru", gru, random({3, 4, 3}, 1),
                         [&](const Var& x) { return all_of(gru(x, lengths, Var(h0), true)); });
        const Tensor x = random({3, 4, 3}, 1);
        CHECK_NOTHROW(gradcheck(
            "gru, initial state", {random({2, 1, 2}, 9)},
            [&](const std::vector<Var>& v) { return all_of(gru(Var(x), lengths, v[0], true)); }));
    }
}

TEST_CASE("gru: a gradient that is off by a factor of 1.0001 is told") {
    // The identity, whose backward lets a little more through.
    struct LeakNode : Node {
        std::shared_ptr<GradSlot> x;
        const char* name() const override { return "leak"; }
        void backward(Tensor grad) override {
            accumulate(x, scale(Var(grad), 1.0001).value());
        }
    };
    const auto leak = [](const Var& x) -> Var {
        if (!recording(x)) return x;
        auto node = std::make_unique<LeakNode>();
        node->x = x.slot();
        return Tape::current()->record(std::move(node), x.value());
    };
    nn::Gru gru(3, 2, nullptr);
    gru.to(DType::f64);
    randomise(gru, 5);
    const Tensor h0 = random({2, 1, 2}, 9);
    const Function f = [&](const std::vector<Var>& v) {
        return all_of(gru(leak(v[0]), {4, 2, 1}, Var(h0), true));
    };
    CHECK_THROWS_AS(gradcheck("gru", {random({3, 4, 3}, 1)}, f), Error);
}

TEST_CASE("gru: parameters have PyTorch's names; wrong shapes and lengths are errors") {
    Generator init(1);
    nn::Gru gru(3, 2, &init);
    const nn::TensorMap state = gru.state();
    CHECK(state.size() == 8);
    CHECK(state.at("weight_ih_l0").shape() == Shape{6, 3});
    CHECK(state.at("weight_hh_l0_reverse").shape() == Shape{6, 2});
    for (const float v : state.at("bias_hh_l0").to_vector<float>())
        CHECK(std::abs(v) <= 1 / std::sqrt(2.0f));
    const Var h0(Tensor::zeros({2, 1, 2})), x(Tensor::zeros({2, 4, 3}));
    CHECK_ERROR(gru(Var(Tensor::zeros({2, 4, 5})), {4, 4}, h0), "[gru]", "(2, 4, 5)", "(B, T, 3)");
    CHECK_ERROR(gru(x, {4, 5}, h0), "[gru]", "length 5", "4 steps");
    CHECK_ERROR(gru(x, {0, 4}, h0), "[gru]", "length 0");
    CHECK_ERROR(gru(x, {4}, h0), "[gru]", "1 lengths", "2 rows");
    CHECK_ERROR(gru(x, {4, 4}, Var(Tensor::zeros({2, 3, 2}))), "[gru]", "(2, 3, 2)");
}
