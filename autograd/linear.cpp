#include "autograd/common.h"
#include "autograd/inference.h"

namespace mc {
using namespace detail;

namespace {

// A matrix operand as the kernel takes it: contiguous, or contiguous after one transposition.
struct Operand {
    Tensor tensor;  // (rows, cols) or (B, rows, cols) as stored, contiguous rows
    bool transposed;
    int64_t rows, cols;  // after the transposition asked for
    int64_t batch, stride, ld;
};

Operand operand(const char* op, const Tensor& t, bool transpose) {
    if (t.dims() != 2 && t.dims() != 3)
        throw Error(std::string("[") + op + "] got " + t.shape().str() +
                    ", want 2 or 3 dimensions");
    Operand o;
    o.tensor = t.contiguous();
    o.transposed = transpose;
    o.batch = t.dims() == 3 ? t.size(0) : 1;
    o.ld = t.size(-1);
    o.stride = t.dims() == 3 ? t.size(-2) * t.size(-1) : 0;
    o.rows = transpose ? t.size(-1) : t.size(-2);
    o.cols = transpose ? t.size(-2) : t.size(-1);
    return o;
}

// c = op(a) op(b); `into` defined: added to it (2-D results).
Tensor product(const Tensor& a_in, bool ta, const Tensor& b_in, bool tb, Tensor into = {}) {
    check_alike("matmul", a_in, b_in);
    const Operand a = operand("matmul", a_in, ta), b = operand("matmul", b_in, tb);
    const int64_t batch = a_in.dims() == 3 ? a.batch : b.batch;
    if (a.cols != b.rows || (a_in.dims() == 3 && b_in.dims() == 3 && a.batch != b.batch))
        throw Error("[matmul] got " + a_in.shape().str() + (ta ? "^T" : "") + " times " +
                    b_in.shape().str() + (tb ? "^T" : "") + ": the inner sizes or batches differ");
    const bool batched = a_in.dims() == 3 || b_in.dims() == 3;
    const bool accumulate = into.defined();
    Tensor c = accumulate
                   ? into
                   : Tensor::empty(batched ? Shape{batch, a.rows, b.cols} : Shape{a.rows, b.cols},
                                   a_in.dtype(), a_in.device());
    dispatch_float(a_in.dtype(), "matmul", [&](auto zero) {
        using T = decltype(zero);
        MatmulArgs<T> args;
        args.c = c.ptr<T>();
        args.a = a.tensor.ptr<T>();
        args.b = b.tensor.ptr<T>();
        args.m = a.rows;
        args.n = b.cols;
        args.k = a.cols;
        args.ldc = b.cols;
        args.lda = a.ld;
        args.ldb = b.ld;
        args.trans_a = ta;
        args.trans_b = tb;
        args.batch = batch;
        args.stride_c = a.rows * b.cols;
        args.stride_a = a.stride;
        args.stride_b = b.stride;
        args.accumulate = accumulate;
        table<T>(a_in).matmul(context(a_in), args);
    });
    return c;
}

// d op(a) is grad op(b)^T: laid out as a itself, and summed over a batch that a did not have.
void push_left(const std::shared_ptr<GradSlot>& a, bool ta, const Tensor& grad, const Tensor& b,
               bool tb) {
    if (!a) return;
    Tensor g = ta ? product(b, tb, grad, true) : product(grad, false, b, !tb);
    accumulate(a, reduce_to(g, a->shape));
}

struct MatmulNode : Node {
    Slot a, b;
    Saved a_value, b_value;
    bool ta, tb;
    const char* name() const override { return "matmul"; }
    void backward(Tensor grad) override {
        if (a) push_left(a, ta, grad, b_value.get("matmul"), tb);
        if (b) {
            const Tensor& av = a_value.get("matmul");
            Tensor g = tb ? product(grad, true, av, ta) : product(av, !ta, grad, false);
            accumulate(b, reduce_to(g, b->shape));
        }
    }
};

struct LinearNode : Node {
    Slot x, w, b;
    Saved x_value;  // (R, K)
    Saved w_value;  // (N, K)
    Saved before;   // (R, N) input of the activation, if there is one
    std::optional<UnaryOp> activation;
    double param;
    double dropout = 0;  // after it
    RandomStream random;
    const char* name() const override { return "linear"; }
    bool takes_dropout(double p, const RandomStream& stream) override {
        if (dropout > 0) return false;
        dropout = p;
        random = stream;
        return true;
    }
    void backward(Tensor grad) override {
        grad = grad.reshape({rows_of(grad), grad.size(-1)});
        const Tensor z = before.get("linear");
        const bool changes = z.defined() || dropout > 0;
        const Tensor dz = changes ? over_or_empty_like(grad) : grad;
        if (changes || b)
            dispatch_float(grad.dtype(), "linear", [&](auto zero) {
                using T = decltype(zero);
                typename ElementwiseKernels<T>::EpilogueBackwardArgs args;
                args.dz = changes ? dz.ptr<T>() : nullptr;
                args.dbias = grad_or_null<T>(b);
                args.dy = grad.ptr<T>();
                args.z = data_or_null<T>(z);
                args.op = activation.value_or(UnaryOp::neg);
                args.param = static_cast<T>(param);
                args.p = dropout;
                args.random = random;
                args.rows = grad.size(0);
                args.cols = grad.size(1);
                table<T>(grad).epilogue_backward(context(grad), args);
            });
        if (x) add_product(x, dz, false, w_value.get("linear"));
        if (w) add_product(w, dz, true, x_value.get("linear"));
    }

  private:
    // The slot's gradient, as a matrix, += op(a) b: by the product itself.
    static void add_product(const Slot& slot, const Tensor& a, bool ta, const Tensor& b) {
        if (slot->grad.defined())
            product(a, ta, b, false, grad_buffer(slot));
        else
            accumulate(slot, product(a, ta, b, false).reshape(slot->shape));
    }
};

}  // namespace

Var matmul(const Var& a, const Var& b, bool ta, bool tb) {
    Tensor out = product(a.value(), ta, b.value(), tb);
    if (!recording(a, b)) return out;
    auto node = std::make_unique<MatmulNode>();
    node->a = a.slot();
    node->b = b.slot();
    node->ta = ta;
    node->tb = tb;
    if (node->b) node->a_value = Saved(a.value());
    if (node->a) node->b_value = Saved(b.value());
    return Tape::current()->record(std::move(node), out);
}

Var linear(const Var& x, const Var& w, const Var& b, std::optional<UnaryOp> activation,
           double param) {
    check_alike("linear", x.value(), w.value());
    if (w.dims() != 2 || x.dims() < 1 || x.size(-1) != w.size(1))
        throw Error("[linear] got input " + x.shape().str() + " and weight " + w.shape().str() +
                    ", want (..., K) and (N, K)");
    if (b.defined() && !(b.shape() == Shape{w.size(0)}))
        throw Error("[linear] got bias " + b.shape().str() + ", want (" +
                    std::to_string(w.size(0)) + ")");
    if (b.defined()) check_alike("linear", x.value(), b.value());
    const Tensor source = x.value().reshape({rows_of(x.value()), x.size(-1)});
    const Tensor weight = w.value().contiguous(), bias = contiguous_or_none(b.value());
    const int64_t rows = source.size(0), k = source.size(1), n = weight.size(0);
    Shape shape = x.shape();
    shape[shape.size() - 1] = n;
    Tensor out = Tensor::empty(shape, source.dtype(), source.device());
    const bool record = recording(x, w, b);
    Tensor before;
    if (record && activation) before = Tensor::empty({rows, n}, source.dtype(), source.device());
    dispatch_float(source.dtype(), "linear", [&](auto zero) {
        using T = decltype(zero);
        MatmulArgs<T> args;
        args.c = out.ptr<T>();
        args.a = source.ptr<T>();
        args.b = weight.ptr<T>();
        args.m = rows;
        args.n = args.ldc = n;
        args.k = args.lda = args.ldb = k;
        args.trans_b = true;
        args.epilogue.bias = data_or_null<T>(bias);
        args.epilogue.activate = activation.has_value();
        if (activation) args.epilogue.op = *activation;
        args.epilogue.param = static_cast<T>(param);
        if constexpr (std::is_same_v<T, float>)
            if (!record) args.packed_b = Inference::packed(w.value());
        if (before.defined()) args.epilogue.before_activation = before.ptr<T>();
        table<T>(source).matmul(context(source), args);
    });
    if (!record) return out;
    auto node = std::make_unique<LinearNode>();
    node->x = x.slot();
    node->w = w.slot();
    node->b = b.slot();
    if (node->w) node->x_value = Saved(source);
    if (node->x) node->w_value = Saved(weight);
    node->before = Saved(before);
    node->activation = activation;
    node->param = param;
    return Tape::current()->record(std::move(node), out);
}

}  // namespace mc
