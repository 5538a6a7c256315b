// The differentiable operations. One line each: what, shapes. All take f32 or f64 (one dtype an
// operation, never mixed), any strides, and record on the current tape if a differentiated value
// goes in. Forward and backward of an operation stand side by side in the file of its family
// (elementwise.cpp, shape.cpp, ...).
//
// An operation that takes a Var by value writes its result over it where the caller gives away the
// last handle of that memory (a temporary, std::move) and backward does not need it.
//
// All values of an operation are on one device, where its result is. Ids, labels and masks
// (`Tensor` here, not `Var`) may also be on the CPU, where the program makes and the operation
// checks them: they are copied.
#pragma once

#include <cmath>
#include <initializer_list>
#include <optional>
#include <utility>
#include <vector>

#include "autograd/tape.h"
#include "tensor/communicator.h"

namespace mc {

// elementwise.cpp: broadcasting as in NumPy
Var add(Var a, Var b);
Var sub(Var a, Var b);
Var mul(const Var& a, const Var& b);
Var div(const Var& a, const Var& b);
Var unary(UnaryOp op, Var x, double param = 0);
Var affine(Var x, double alpha, double beta);  // alpha x + beta
inline Var neg(Var x) {
    return affine(std::move(x), -1, 0);
}
inline Var scale(Var x, double alpha) {
    return affine(std::move(x), alpha, 0);
}
inline Var exp(Var x) {
    return unary(UnaryOp::exp, std::move(x));
}
inline Var log(Var x) {
    return unary(UnaryOp::log, std::move(x));
}
inline Var sqrt(Var x) {
    return unary(UnaryOp::sqrt, std::move(x));
}
inline Var square(Var x) {
    return unary(UnaryOp::square, std::move(x));
}
inline Var tanh(Var x) {
    return unary(UnaryOp::tanh, std::move(x));
}
inline Var sigmoid(Var x) {
    return unary(UnaryOp::sigmoid, std::move(x));
}
inline Var relu(Var x) {
    return unary(UnaryOp::relu, std::move(x));
}
inline Var leaky_relu(Var x, double slope) {
    return unary(UnaryOp::leaky_relu, std::move(x), slope);
}
inline Var gelu(Var x) {
    return unary(UnaryOp::gelu, std::move(x));
}  // exact, erf
inline Var quick_gelu(Var x) {
    return unary(UnaryOp::quick_gelu, std::move(x));
}
// cond (bool, same shape) ? a : b; chooses in backward too, so 0 x NaN never arises.
Var select(const Tensor& cond, const Var& a, const Var& b);
// Zero with probability p, else x / (1 - p). p == 0: x itself. Draws one stream.
Var dropout(Var x, double p, Generator& generator);
Var operator+(Var a, Var b);
Var operator-(Var a, Var b);
Var operator*(const Var& a, const Var& b);

// shape.cpp: views where strides allow
Var reshape(const Var& x, const Shape& shape);
Var transpose(const Var& x, int a, int b);
Var permute(const Var& x, std::initializer_list<int> order);
Var slice(const Var& x, int dim, int64_t begin, int64_t end);
Var expand(const Var& x, const Shape& shape);
Var concat(const std::vector<Var>& parts, int dim);

// reduce.cpp
Var sum(const Var& x);                      // ()
Var mean(const Var& x);                     // ()
Var sum(const Var& x, int dim, bool keep);  // over one dimension
Var mean(const Var& x, int dim, bool keep);
Var cumsum(const Var& x, int dim);  // the sums up to and with each element

// linear.cpp
// a (M, K) or (B, M, K) times b, after the transposes asked for; a batch may stand on one side
// alone.
Var matmul(const Var& a, const Var& b, bool transpose_a = false, bool transpose_b = false);
// y (..., N) = act(x (..., K) w^T + b), w (N, K) as in PyTorch, b (N) or undefined. One node, one
// fused kernel. In an Inference (autograd/inference.h) w is packed once, in bf16 where asked for.
Var linear(const Var& x, const Var& w, const Var& b, std::optional<UnaryOp> activation = {},
           double param = 0);

// norm.cpp
// Over the last dimension; weight, bias (C) or undefined.
Var layer_norm(Var x, const Var& weight, const Var& bias, double eps);
// LayerNorm(x + residual) in one kernel (post-norm blocks).
Var layer_norm_residual(Var x, const Var& residual, const Var& weight, const Var& bias, double eps);
Var l2_normalize(const Var& x, double eps = 1e-12);  // rows of the last dimension
// x (N, C) or (N, C, T); weight, bias (C) or undefined. Over each of `groups` groups of channels of
// a sample.
Var group_norm(const Var& x, int64_t groups, const Var& weight, const Var& bias, double eps = 1e-5);
// Over each channel of all samples: in training by the statistics of x, which the running ones take
// in (they are written to); else by the running ones.
struct RunningStatistics {
    Tensor mean, var;  // (C), var unbiased
    Tensor batches;    // i64 (): how many were taken in
};
struct BatchNormOptions {
    bool training = false;
    double momentum = 0.1;  // the share of the new statistics
    double eps = 1e-5;
};
Var batch_norm(const Var& x, const RunningStatistics& running, const Var& weight, const Var& bias,
               const BatchNormOptions& options);

// gru.cpp
// One step of a gated recurrent unit: input and state (B, 3 H) are its products with its weights,
// gates in the order r, z, n; h (B, H) stays where `on`, bool (B), is false; undefined: all go on.
Var gru_cell(const Var& input, const Var& state, const Var& h, const Tensor& on = {});

// softmax.cpp
Var softmax(const Var& x);  // over the last dimension
Var log_softmax(const Var& x);
// Mean over the rows whose label is not `ignore` (0 if there is none). logits (R, C), labels i64
// (R).
Var cross_entropy(const Var& logits, const Tensor& labels, int64_t ignore = -100,
                  double smoothing = 0);
Var smooth_l1(const Var& a, const Var& b, double beta = 1);  // mean over all elements
Var mse(const Var& a, const Var& b);                         // mean over all elements

// attention.cpp
struct AttentionOptions {
    int64_t heads = 1;
    bool causal = false;
    Tensor key_padding;  // bool (B, L), true = not attended; undefined: none
    Tensor mask;         // bool (Lq, Lk) or (B, Lq, Lk), true = not attended; undefined: none
    double dropout = 0;  // on the probabilities; needs a generator
    Generator* generator = nullptr;
};
// qkv (B, L, 3 D): the output of a packed in_proj, thirds in the order q, k, v; result (B, L, D).
// Scale 1/sqrt(D / heads).
Var attention(const Var& qkv, const AttentionOptions& options);
// q (B, Lq, D), k and v (B, Lk, D).
Var attention(const Var& q, const Var& k, const Var& v, const AttentionOptions& options);

// gather.cpp
// Every rank's rows x (share.size(), ...) on each: (share.total, ...). Backward sums the gradients
// over the ranks; so where each rank goes on to the same loss L of all rows, the mean over the
// ranks of the parameters' gradients is L's own (each gets `size` times its rows' part). All ranks
// call it alike, differentiated or not.
Var all_gather(const Var& x, const Share& share, Communicator& ranks);

// conv.cpp: channels last
// x (B, T, Cin), w (Cout, Cin, K), b (Cout) or undefined -> (B, Tout, Cout), zero padding; relu
// fused if asked.
struct ConvOptions {
    int64_t stride = 1, padding = 0, dilation = 1;
    bool relu = false;
};
Var conv1d(const Var& x, const Var& w, const Var& b, const ConvOptions& options);
Var upsample2(const Var& x);  // (B, T, C) -> (B, 2T, C), nearest

// embedding.cpp
// table (V, C), ids i64 (...) -> (..., C). A negative id gives a zero row without gradient; id >= V
// is an error.
Var embedding(const Var& table, const Tensor& ids);
// Straight-through: the value given, the gradient of x times `gain` (van den Oord et al. 2017,
// section 3.2).
Var straight_through(const Tensor& value, const Var& x, double gain = 1);

}  // namespace mc
