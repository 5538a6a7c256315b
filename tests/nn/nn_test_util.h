// What nn tests share: a module's parameters as inputs of a gradient check, naive layers in f64.
#pragma once

#include "nn/transformer.h"
#include "tests/autograd/autograd_test_util.h"

namespace mc::testing {

// Every parameter random: an initialised bias is zero and a norm's weight one, which hides errors.
inline void randomise(nn::Module& module, uint64_t seed, double scale = 0.5) {
    for (auto& [name, parameter] : module.parameters())
        parameter->value().copy_(random(parameter->shape(), seed++, -scale, scale));
}

// The gradient of run(x) with respect to x and to every parameter of the module, against
// differences, in f64.
inline void gradcheck_module(const char* name, nn::Module& module, const Tensor& x,
                             const std::function<Var(const Var&)>& run) {
    module.to(DType::f64);
    const auto parameters = module.parameters();
    std::vector<Var> own;
    std::vector<Tensor> inputs{x};
    for (auto& [parameter_name, parameter] : parameters) {
        own.push_back(*parameter);
        inputs.push_back(parameter->value());
    }
    CHECK_NOTHROW(gradcheck(name, inputs, [&](const std::vector<Var>& v) {
        for (size_t i = 0; i < parameters.size(); ++i) *parameters[i].second = v[i + 1];
        return run(v[0]);
    }));
    for (size_t i = 0; i < parameters.size(); ++i) *parameters[i].second = own[i];
}

// x (..., in) W^T + b.
inline Array naive_linear(const Array& x, const Var& weight, const Var& bias) {
    const Array w(weight.value()), b(bias.value());
    Shape shape = x.shape;
    shape[shape.size() - 1] = w.shape[0];
    return filled(shape, [&](std::vector<int64_t> i) {
        const int64_t n = i.back();
        double total = b.at({n});
        for (int64_t k = 0; k < w.shape[1]; ++k) {
            i.back() = k;
            total += x.at(i) * w.at({n, k});
        }
        return total;
    });
}

inline Array naive_norm(const Array& x, const nn::LayerNorm& norm) {
    const Array w(norm.weight.value()), b(norm.bias.value());
    const int64_t cols = x.shape.back();
    return filled(x.shape, [&](std::vector<int64_t> i) {
        const int64_t own = i.back();
        auto at = [&](int64_t c) {
            i.back() = c;
            return x.at(i);
        };
        double mean = 0, variance = 0;
        for (int64_t c = 0; c < cols; ++c) mean += at(c) / static_cast<double>(cols);
        for (int64_t c = 0; c < cols; ++c)
            variance += std::pow(at(c) - mean, 2) / static_cast<double>(cols);
        return (at(own) - mean) / std::sqrt(variance + norm.eps) * w.at({own}) + b.at({own});
    });
}

inline Array plus(const Array& a, const Array& b) {
    return filled(a.shape, [&](const std::vector<int64_t>& i) { return a.at(i) + b.at(i); });
}

template <class F>
Array mapped(Array x, F&& f) {
    for (double& value : x.v) value = f(value);
    return x;
}

// Self-attention, x (B, L, D), key_padding and causal of the options alone.
inline Array naive_self_attention(const Array& x, const nn::MultiheadAttention& attention,
                                  const AttentionOptions& o) {
    const Array qkv = naive_linear(x, attention.in_proj_weight, attention.in_proj_bias);
    const int64_t length = x.shape[1], model = x.shape[2], width = model / attention.heads;
    Array mixed(x.shape);
    for_each_index({x.shape[0], attention.heads, length}, [&](const std::vector<int64_t>& at) {
        const int64_t b = at[0], h = at[1], i = at[2];
        double total = 0;
        std::vector<double> p(static_cast<size_t>(length), 0.0);
        for (int64_t j = 0; j < length; ++j) {
            if ((o.causal && j > i) ||
                (o.key_padding.defined() && o.key_padding.item<bool>({b, j})))
                continue;
            double score = 0;
            for (int64_t d = h * width; d < (h + 1) * width; ++d)
                score += qkv.at({b, i, d}) * qkv.at({b, j, model + d});
            total += p[static_cast<size_t>(j)] =
                std::exp(score / std::sqrt(static_cast<double>(width)));
        }
        for (int64_t j = 0; j < length; ++j)
            for (int64_t d = h * width; d < (h + 1) * width; ++d)
                mixed.at({b, i, d}) +=
                    p[static_cast<size_t>(j)] / total * qkv.at({b, j, 2 * model + d});
    });
    return naive_linear(mixed, attention.out_proj.weight, attention.out_proj.bias);
}

}  // namespace mc::testing
