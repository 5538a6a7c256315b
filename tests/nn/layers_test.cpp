#include "nn/layers.h"

#include "tests/nn/nn_test_util.h"

using namespace mc;
using namespace mc::testing;

namespace {

struct Statistics {
    double mean = 0, std = 0, low = kInf, high = -kInf;
    explicit Statistics(const Var& parameter) {
        const std::vector<double> values = values_of(parameter.value());
        const double n = static_cast<double>(values.size());
        for (double x : values) {
            mean += x / n;
            low = std::min(low, x);
            high = std::max(high, x);
        }
        for (double x : values) std += (x - mean) * (x - mean) / n;
        std = std::sqrt(std);
    }
};

// Uniform in +-bound: no value outside, both ends nearly reached, mean and deviation within five
// standard errors (n values of a uniform: bound / sqrt(3 n), about half of it for the deviation).
void check_uniform(const Var& parameter, double bound) {
    const Statistics s(parameter);
    const double error = bound / std::sqrt(3.0 * static_cast<double>(parameter.numel()));
    CHECK(s.low >= -bound);
    CHECK(s.high <= bound);
    CHECK(s.low < -0.95 * bound);
    CHECK(s.high > 0.95 * bound);
    CHECK(std::abs(s.mean) < 5 * error);
    CHECK(std::abs(s.std - bound / std::sqrt(3.0)) < 5 * error);
}

bool all(const Var& parameter, double value) {
    for (double x : values_of(parameter.value()))
        if (x != value) return false;
    return true;
}

}  // namespace

TEST_CASE("linear: forward, activation, no bias, gradients") {
    nn::Linear layer(5, 3, nullptr);
    randomise(layer, 1);
    const Tensor x = random({2, 4, 5}, 9);
    gradcheck_module("Linear", layer, x, [&](const Var& v) { return layer(v); });
    gradcheck_module("Linear, tanh", layer, x,
                     [&](const Var& v) { return layer(v, UnaryOp::tanh); });
    const Array want = naive_linear(Array(x), layer.weight, layer.bias);
    check_near(layer(Var(x)).value(), want, 1e-13, "Linear");
    check_near(layer(Var(x), UnaryOp::leaky_relu, 0.1).value(),
               mapped(want, [](double y) { return y > 0 ? y : 0.1 * y; }), 1e-13, "leaky");
    nn::Linear plain(5, 3, nullptr, false);
    CHECK_FALSE(plain.bias.defined());
    CHECK(plain.parameters().size() == 1);
    plain.to(DType::f64);
    plain.weight.value().copy_(layer.weight.value());
    layer.bias.value().fill_(0);
    CHECK(same_bits(plain(Var(x)).value(), layer(Var(x)).value()));
}

TEST_CASE("layer norm: forward with and without a residual, gradients") {
    nn::LayerNorm layer(6);
    CHECK(all(layer.weight, 1));
    CHECK(all(layer.bias, 0));
    CHECK(layer.eps == 1e-5);
    randomise(layer, 1);
    const Tensor x = random({2, 3, 6}, 9), r = random({2, 3, 6}, 10);
    gradcheck_module("LayerNorm", layer, x, [&](const Var& v) { return layer(v); });
    gradcheck_module("LayerNorm, residual", layer, x,
                     [&](const Var& v) { return layer(square(v), v); });
    check_near(layer(Var(x)).value(), naive_norm(Array(x), layer), 1e-13, "LayerNorm");
    check_near(layer(Var(x), Var(r)).value(), naive_norm(plus(Array(x), Array(r)), layer), 1e-13,
               "residual");
}

TEST_CASE("embedding: rows, gradients") {
    nn::Embedding layer(5, 3, 0.02, nullptr);
    CHECK(all(layer.weight, 0));
    randomise(layer, 1);
    const Tensor ids = Tensor::from_ids({4, 0, 0, -1}, {2, 2});
    gradcheck_module("Embedding", layer, random({2, 2, 3}, 2),
                     [&](const Var& v) { return layer(ids) * v; });
    const Array rows(layer.weight.value());
    check_near(layer(ids).value(),
               filled({2, 2, 3},
                      [&](const std::vector<int64_t>& i) {
                          const int64_t id = ids.item<int64_t>({i[0], i[1]});
                          return id < 0 ? 0.0 : rows.at({id, i[2]});
                      }),
               0, "Embedding");
}

TEST_CASE("conv1d: forward, gradients") {
    nn::Conv1d layer(3, 4, 3, {.stride = 2, .padding = 1}, nullptr);
    randomise(layer, 1);
    const Tensor x = random({2, 7, 3}, 9);
    gradcheck_module("Conv1d", layer, x, [&](const Var& v) { return layer(v); });
    const Array in(x), w(layer.weight.value()), b(layer.bias.value());
    check_near(layer(Var(x)).value(),
               filled({2, 4, 4},
                      [&](const std::vector<int64_t>& i) {
                          double total = b.at({i[2]});
                          for (int64_t k = 0; k < 3; ++k)
                              for (int64_t c = 0; c < 3; ++c)
                                  if (const int64_t t = 2 * i[1] - 1 + k; t >= 0 && t < 7)
                                      total += in.at({i[0], t, c}) * w.at({i[2], c, k});
                          return total;
                      }),
               1e-13, "Conv1d");
}

TEST_CASE("group norm and batch norm: PyTorch's names and defaults, gradients") {
    nn::GroupNorm group(2, 6);
    nn::BatchNorm1d batch(6);
    std::string names;
    for (nn::Module* layer : {static_cast<nn::Module*>(&group), static_cast<nn::Module*>(&batch)})
        for (const auto& [name, tensor] : layer->state())
            names += name + " " + tensor.shape().str();
    CHECK(names ==
          "bias (6)weight (6)bias (6)num_batches_tracked ()running_mean (6)running_var (6)weight "
          "(6)");
    CHECK(all(group.weight, 1));
    CHECK(all(batch.weight, 1));
    CHECK(all(batch.bias, 0));
    CHECK(all(Var(batch.running.mean), 0));
    CHECK(all(Var(batch.running.var), 1));
    CHECK(batch.running.batches.item<int64_t>() == 0);
    CHECK(batch.momentum == 0.1);
    CHECK(batch.eps == 1e-5);
    randomise(group, 1);
    randomise(batch, 2);
    const Tensor x = random({3, 6, 4}, 9);
    gradcheck_module("GroupNorm", group, x, [&](const Var& v) { return group(v); });
    for (bool training : {true, false})
        gradcheck_module("BatchNorm1d", batch, x,
                         [&](const Var& v) { return batch(v, {.training = training}); });
    CHECK(batch.running.batches.item<int64_t>() > 0);
    CHECK(batch.running.batches.dtype() == DType::i64);
    // A state dict that is saved, loaded and used gives the same.
    nn::BatchNorm1d other(6);
    other.to(DType::f64);
    other.load(batch.state());
    CHECK(same_bits(other(Var(x), {}).value(), batch(Var(x), {}).value()));
    CHECK(other.running.batches.item<int64_t>() == batch.running.batches.item<int64_t>());
}

TEST_CASE("multihead attention: forward, masks, gradients") {
    nn::MultiheadAttention layer(6, 3, 0, nullptr);
    randomise(layer, 1);
    const Tensor x = random({2, 4, 6}, 9);
    AttentionOptions plain, masked;
    masked.causal = true;
    masked.key_padding = Tensor::from_bools({0, 0, 0, 0, 0, 0, 1, 1}, {2, 4});
    for (const AttentionOptions& options : {plain, masked}) {
        gradcheck_module("MultiheadAttention", layer, x,
                         [&](const Var& v) { return layer(v, options, {}); });
        check_near(layer(Var(x), options, {}).value(),
                   naive_self_attention(Array(x), layer, options), 1e-13, "MultiheadAttention");
    }
}

TEST_CASE("multihead attention: dropout in training alone, and only with a generator") {
    Generator init(1);
    nn::MultiheadAttention layer(6, 2, 0.5, &init);
    const Var x(Tensor(random({2, 9, 6}, 1)).to(DType::f32));
    Generator draws(2);
    const Tensor quiet = layer(x, {}, {}).value();
    CHECK(same_bits(layer(x, {}, {.training = false, .generator = &draws}).value(), quiet));
    CHECK(draws.position() == 0);
    CHECK_FALSE(same_bits(layer(x, {}, {.training = true, .generator = &draws}).value(), quiet));
    CHECK(draws.position() == 1);
    CHECK_ERROR(layer(x, {}, {.training = true}), "[attention]", "generator");
}

TEST_CASE("dropout: the identity outside training or with p = 0") {
    const Var x(random({50}, 1));
    Generator draws(2);
    CHECK(same_bits(nn::dropout(x, 0.5, {}).value(), x.value()));
    CHECK(same_bits(nn::dropout(x, 0, {.training = true}).value(), x.value()));
    CHECK_FALSE(
        same_bits(nn::dropout(x, 0.5, {.training = true, .generator = &draws}).value(), x.value()));
    CHECK_ERROR(nn::dropout(x, 0.5, {.training = true}), "[dropout]", "generator");
}

TEST_CASE("initialisers: bounds and moments of PyTorch's defaults, zeros without a generator") {
    Generator init(7);
    nn::Linear linear(64, 100, &init);
    check_uniform(linear.weight, 1.0 / 8);
    CHECK(Statistics(linear.bias).high <= 1.0 / 8);
    CHECK(Statistics(linear.bias).std > 0.05);
    nn::Conv1d conv(16, 50, 4, {}, &init);
    check_uniform(conv.weight, 1.0 / 8);  // fan in 16 x 4
    CHECK(Statistics(conv.bias).high <= 1.0 / 8);
    nn::MultiheadAttention attention(48, 4, 0, &init);
    check_uniform(attention.in_proj_weight, std::sqrt(6.0 / (48 + 3 * 48)));
    check_uniform(attention.out_proj.weight, 1 / std::sqrt(48.0));
    CHECK(all(attention.in_proj_bias, 0));
    CHECK(all(attention.out_proj.bias, 0));
    nn::Embedding embedding(100, 80, 0.02, &init);
    const Statistics s(embedding.weight);
    const double error = 0.02 / std::sqrt(8000.0);
    CHECK(std::abs(s.mean) < 5 * error);
    CHECK(std::abs(s.std - 0.02) < 5 * error);
    CHECK(s.high > 3 * 0.02);  // of 8000 normal values about ten lie above
    CHECK(s.low < -3 * 0.02);
    nn::Linear empty(64, 100, nullptr);
    CHECK(all(empty.weight, 0));
    Generator again(7);
    nn::Linear same(64, 100, &again);
    CHECK(same_bits(same.weight.value(), linear.weight.value()));
}

TEST_CASE("sinusoidal positions: sines and cosines by turns, odd widths too") {
    for (auto [length, width] :
         {std::pair<int64_t, int64_t>(60, 16), std::pair<int64_t, int64_t>(7, 5)}) {
        const Tensor pe = nn::sinusoidal_positions(length, width);
        REQUIRE(pe.shape() == Shape{length, width});
        for (int64_t p = 0; p < length; ++p)
            for (int64_t c = 0; c < width; ++c) {
                const double angle = static_cast<double>(p) *
                                     std::exp(-std::log(10000.0) * static_cast<double>(c / 2 * 2) /
                                              static_cast<double>(width));
                // The exponent (up to 9.2), the frequency and the angle are rounded to fp32.
                CHECK(
                    std::abs(pe.item<float>({p, c}) - (c % 2 ? std::cos(angle) : std::sin(angle))) <
                    1e-7 * (2 + 10 * angle));
            }
    }
}
