#include "nn/layers.h"

#include <cstring>

namespace mc::nn {

Linear::Linear(int64_t in, int64_t out, Generator* init, bool with_bias)
    : weight(init::fan_in_uniform({out, in}, in, init)) {
    add_parameter("weight", weight);
    if (!with_bias) return;
    bias = init::fan_in_uniform({out}, in, init);
    add_parameter("bias", bias);
}

LayerNorm::LayerNorm(int64_t width, double eps_in)
    : weight(init::ones({width})), bias(init::zeros({width})), eps(eps_in) {
    add_parameter("weight", weight);
    add_parameter("bias", bias);
}

GroupNorm::GroupNorm(int64_t groups_in, int64_t channels, double eps_in)
    : weight(init::ones({channels})),
      bias(init::zeros({channels})),
      groups(groups_in),
      eps(eps_in) {
    add_parameter("weight", weight);
    add_parameter("bias", bias);
}

BatchNorm1d::BatchNorm1d(int64_t channels, double eps_in, double momentum_in)
    : weight(init::ones({channels})),
      bias(init::zeros({channels})),
      running{Tensor::zeros({channels}), Tensor::full({channels}, 1),
              Tensor::zeros({}, DType::i64)},
      eps(eps_in),
      momentum(momentum_in) {
    add_parameter("weight", weight);
    add_parameter("bias", bias);
    add_buffer("running_mean", running.mean);
    add_buffer("running_var", running.var);
    add_buffer("num_batches_tracked", running.batches);
}

Embedding::Embedding(int64_t rows, int64_t width, double std, Generator* init)
    : weight(init::normal({rows, width}, std, init)) {
    add_parameter("weight", weight);
}

Conv1d::Conv1d(int64_t in, int64_t out, int64_t kernel, const ConvOptions& options_in,
               Generator* init)
    : weight(init::fan_in_uniform({out, in, kernel}, in * kernel, init)),
      bias(init::fan_in_uniform({out}, in * kernel, init)),
      options(options_in) {
    add_parameter("weight", weight);
    add_parameter("bias", bias);
}

Var RowMaps::attention_to_kept(const Var& q, const Var& k, const Var& v,
                               const AttentionOptions& options) const {
    // Only the rows of `from` need be contiguous.
    const auto put = [&](const Tensor& all, const Tensor& from) {
        const size_t size = size_of(all.dtype()), row = static_cast<size_t>(all.size(2)) * size;
        for (int64_t b = 0; b < from.size(0); ++b)
            for (int64_t i = 0; i < from.size(1); ++i)
                std::memcpy(
                    all.raw() + static_cast<size_t>(b * all.size(1) + first + i) * row,
                    from.raw() +
                        static_cast<size_t>(b * from.strides()[0] + i * from.strides()[1]) * size,
                    row);
    };
    put(kept->keys, k.value());
    put(kept->values, v.value());
    return attention(q, Var(kept->keys.slice(1, 0, seen)), Var(kept->values.slice(1, 0, seen)),
                     options);
}

MultiheadAttention::MultiheadAttention(int64_t width, int64_t heads_in, double dropout_in,
                                       Generator* init)
    : in_proj_weight(init::xavier_uniform({3 * width, width}, init)),
      in_proj_bias(init::zeros({3 * width})),
      out_proj(width, width, init),
      heads(heads_in),
      dropout(dropout_in) {
    add_parameter("in_proj_weight", in_proj_weight);
    add_parameter("in_proj_bias", in_proj_bias);
    add("out_proj", out_proj);
    out_proj.bias.value().fill_(0);
}

Var MultiheadAttention::operator()(const Var& x, AttentionOptions options, const Pass& pass,
                                   const RowMaps& rows) const {
    options.heads = heads;
    if (pass.training && dropout > 0) {
        options.dropout = dropout;
        options.generator = pass.generator;
    }
    if (rows.kept) {
        const Var qkv = linear(x, in_proj_weight, in_proj_bias);
        const auto part = [&](int64_t i) {
            return slice(qkv, 2, i * x.size(2), (i + 1) * x.size(2));
        };
        return out_proj(rows.attention_to_kept(part(0), part(1), part(2), options));
    }
    if (!rows.wanted)
        return out_proj(attention(rows.attended(linear(x, in_proj_weight, in_proj_bias)), options));
    const auto third = [&](int64_t i, const Var& from) {
        const int64_t begin = i * x.size(2), end = begin + x.size(2);
        return linear(from, slice(in_proj_weight, 0, begin, end),
                      slice(in_proj_bias, 0, begin, end));
    };
    return out_proj(attention(third(0, rows.own(x)), rows.attended(third(1, x)),
                              rows.attended(third(2, x)), options));
}

Var dropout(Var x, double p, const Pass& pass) {
    if (!pass.training || p == 0) return x;
    if (!pass.generator) throw Error("[dropout] a training pass without a generator");
    return mc::dropout(std::move(x), p, *pass.generator);
}

Var feed_forward(const Linear& in, UnaryOp activation, const Linear& out, const Var& x, double p,
                 const Pass& pass) {
    return out(dropout(in(x, activation), p, pass));
}

Tensor sinusoidal_positions(int64_t length, int64_t width) {
    Tensor pe = Tensor::zeros({length, width});
    for (int64_t i = 0; 2 * i < width; ++i) {
        const float frequency =
            std::exp(static_cast<float>(2 * i) *
                     static_cast<float>(-std::log(10000.0) / static_cast<double>(width)));
        for (int64_t p = 0; p < length; ++p) {
            const float angle = static_cast<float>(p) * frequency;
            pe.data<float>()[p * width + 2 * i] = std::sin(angle);
            if (2 * i + 1 < width) pe.data<float>()[p * width + 2 * i + 1] = std::cos(angle);
        }
    }
    return pe;
}

}  // namespace mc::nn
