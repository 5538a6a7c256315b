// The layers that models are built of, with PyTorch's parameter names and default initialisation.
#pragma once

#include "nn/init.h"
#include "nn/module.h"

namespace mc::nn {

// y = x W^T + b, W (out, in).
struct Linear : Module {
    Var weight, bias;  // (out, in), (out) or undefined
    Linear(int64_t in, int64_t out, Generator* init, bool with_bias = true);
    Var operator()(const Var& x) const {
        return linear(x, weight, bias);
    }  // (..., in) -> (..., out)
    Var operator()(const Var& x, UnaryOp activation, double param = 0) const {
        return linear(x, weight, bias, activation, param);
    }
};

struct LayerNorm : Module {
    Var weight, bias;  // (width)
    double eps;
    explicit LayerNorm(int64_t width, double eps = 1e-5);
    Var operator()(Var x) const { return layer_norm(std::move(x), weight, bias, eps); }
    // LayerNorm(x + residual)
    Var operator()(Var x, const Var& residual) const {
        return layer_norm_residual(std::move(x), residual, weight, bias, eps);
    }
};

// x (N, C) or (N, C, T): channels second, as PyTorch has them.
struct GroupNorm : Module {
    Var weight, bias;  // (channels)
    int64_t groups;
    double eps;
    GroupNorm(int64_t groups, int64_t channels, double eps = 1e-5);
    Var operator()(const Var& x) const { return group_norm(x, groups, weight, bias, eps); }
};

// x (N, C) or (N, C, T). A training pass goes by the statistics of x and moves the running ones.
struct BatchNorm1d : Module {
    Var weight, bias;           // (channels)
    RunningStatistics running;  // running_mean, running_var, num_batches_tracked in the state
    double eps, momentum;
    explicit BatchNorm1d(int64_t channels, double eps = 1e-5, double momentum = 0.1);
    Var operator()(const Var& x, const Pass& pass) const {
        return batch_norm(x, running, weight, bias,
                          {.training = pass.training, .momentum = momentum, .eps = eps});
    }
};

struct Embedding : Module {
    Var weight;  // (rows, width)
    Embedding(int64_t rows, int64_t width, double std, Generator* init);
    Var operator()(const Tensor& ids) const {
        return embedding(weight, ids);
    }  // (...) -> (..., width)
};

// Channels last: (B, T, in) -> (B, T', out); weight in PyTorch's layout.
struct Conv1d : Module {
    Var weight, bias;  // (out, in, kernel), (out)
    ConvOptions options;
    Conv1d(int64_t in, int64_t out, int64_t kernel, const ConvOptions& options, Generator* init);
    Var operator()(const Var& x) const { return conv1d(x, weight, bias, options); }
};

// Keys and values (B, L, D) of rows that were computed before: in inference, on the CPU.
struct KeyValues {
    Tensor keys, values;
};

// Rows that self-attention, and a block around it, need not compute. Both maps are of (B, L, W) for
// any W; one that is empty is the identity. With `kept` there are no maps: x (B, m, D) are rows
// [first, first + m) and attend rows [0, seen) of what is kept, themselves among them.
struct RowMaps {
    using Map = std::function<Var(const Var&)>;
    Map spread;  // to (B', L', W): rows that several sequences share come once, and are projected
                 // to q, k and v before they are put in each
    Map wanted;  // then to (B', Lq, W): these attend; of the others only k and v are computed
    const KeyValues* kept = nullptr;
    int64_t first = 0, seen = 0;
    Var attended(const Var& x) const { return spread ? spread(x) : x; }  // (B', L', W)
    Var own(const Var& x) const {
        return wanted ? wanted(attended(x)) : attended(x);
    }  // (B', Lq, W)
    // Of new rows' q, k and v (B, m, D): what they attend.
    Var attention_to_kept(const Var& q, const Var& k, const Var& v,
                          const AttentionOptions& options) const;
};

// Self-attention as torch.nn.MultiheadAttention: one packed projection, thirds q, k, v.
struct MultiheadAttention : Module {
    Var in_proj_weight, in_proj_bias;  // (3 D, D), (3 D)
    Linear out_proj;                   // (D, D)
    int64_t heads;
    double dropout;  // on the probabilities, in training
    MultiheadAttention(int64_t width, int64_t heads, double dropout, Generator* init);
    // x (B, L, D) -> (B', Lq, D); options.heads and dropout are filled in here.
    Var operator()(const Var& x, AttentionOptions options, const Pass& pass,
                   const RowMaps& rows = {}) const;
};

Var dropout(Var x, double p, const Pass& pass);  // the identity outside training

// out(dropout(act(in(x)))), the two layers of a transformer's block.
Var feed_forward(const Linear& in, UnaryOp activation, const Linear& out, const Var& x,
                 double p = 0, const Pass& pass = {});

// pe (length, width): sin at even columns, cos at odd, frequencies exp(-2i ln(10000)/width),
// computed in fp32.
Tensor sinusoidal_positions(int64_t length, int64_t width);

}  // namespace mc::nn
