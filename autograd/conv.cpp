#include "autograd/common.h"
#include "autograd/inference.h"

namespace mc {
using namespace detail;

namespace {

struct ConvNode : Node {
    Slot x, w, b;
    Saved x_value, w_value;
    Saved y_value;  // with relu alone: where it was positive
    ConvShape shape;
    const char* name() const override { return "conv1d"; }
    void backward(Tensor grad) override {
        const Tensor input = x_value.get("conv1d"), weight = w_value.get("conv1d"),
                     y = y_value.get("conv1d");
        Tensor dx;
        if (x) dx = empty_like(input);
        dispatch_float(grad.dtype(), "conv1d", [&](auto zero) {
            using T = decltype(zero);
            if (y.defined()) {
                const Tensor out = over_or_empty_like(grad);
                table<T>(y).unary_backward(context(y), UnaryOp::relu, T{0}, out.ptr<T>(),
                                           grad.ptr<T>(), y.ptr<T>(), y.numel());
                grad = out;
            }
            table<T>(grad).conv1d_backward(context(grad), dx.defined() ? dx.ptr<T>() : nullptr,
                                           grad_or_null<T>(w), grad_or_null<T>(b), grad.ptr<T>(),
                                           input.ptr<T>(), weight.ptr<T>(), shape);
        });
        accumulate(x, dx);
    }
};

struct UpsampleNode : Node {
    Slot x;
    const char* name() const override { return "upsample2"; }
    void backward(Tensor grad) override {
        Tensor dx = Tensor::empty(x->shape, grad.dtype(), grad.device());
        dispatch_float(grad.dtype(), "upsample2", [&](auto zero) {
            using T = decltype(zero);
            table<T>(grad).upsample2_backward(context(grad), dx.ptr<T>(), grad.ptr<T>(), dx.size(0),
                                              dx.size(1), dx.size(2));
        });
        accumulate(x, dx);
    }
};

}  // namespace

Var conv1d(const Var& x, const Var& w, const Var& b, const ConvOptions& options) {
    check_alike("conv1d", x.value(), w.value());
    if (x.dims() != 3 || w.dims() != 3 || x.size(2) != w.size(1))
        throw Error("[conv1d] got input " + x.shape().str() + " and weight " + w.shape().str() +
                    ", want (B, T, Cin) and (Cout, Cin, K)");
    if (b.defined() && !(b.shape() == Shape{w.size(0)}))
        throw Error("[conv1d] got bias " + b.shape().str() + " for weight " + w.shape().str());
    if (b.defined()) check_alike("conv1d", x.value(), b.value());
    if (w.size(2) < 1 || options.stride < 1 || options.dilation < 1 || options.padding < 0)
        throw Error("[conv1d] got kernel " + std::to_string(w.size(2)) + ", stride " +
                    std::to_string(options.stride) + ", dilation " +
                    std::to_string(options.dilation) + ", padding " +
                    std::to_string(options.padding) + ", want at least 1, 1, 1, 0");
    const Tensor input = x.value().contiguous(), weight = w.value().contiguous(),
                 bias = contiguous_or_none(b.value());
    ConvShape shape;
    shape.batch = input.size(0);
    shape.t_in = input.size(1);
    shape.c_in = input.size(2);
    shape.c_out = weight.size(0);
    shape.kernel = weight.size(2);
    shape.stride = options.stride;
    shape.padding = options.padding;
    shape.dilation = options.dilation;
    if (shape.t_in + 2 * shape.padding < shape.dilation * (shape.kernel - 1) + 1)
        throw Error("[conv1d] " + std::to_string(shape.t_in) +
                    " frames are fewer than the kernel spans");
    Tensor out =
        Tensor::empty({shape.batch, shape.t_out(), shape.c_out}, input.dtype(), input.device());
    const bool record = recording(x, w, b);
    dispatch_float(input.dtype(), "conv1d", [&](auto zero) {
        using T = decltype(zero);
        const void* packed = nullptr;
        if constexpr (std::is_same_v<T, float>)
            if (!record) packed = Inference::packed(w.value(), shape);
        table<T>(input).conv1d(context(input), out.ptr<T>(), input.ptr<T>(), weight.ptr<T>(),
                               packed, data_or_null<T>(bias), options.relu, shape);
    });
    if (!record) return out;
    auto node = std::make_unique<ConvNode>();
    node->x = x.slot();
    node->w = w.slot();
    node->b = b.slot();
    node->x_value = Saved(input);
    node->w_value = Saved(weight);
    if (options.relu) node->y_value = Saved(out);
    node->shape = shape;
    return Tape::current()->record(std::move(node), out);
}

Var upsample2(const Var& x) {
    if (x.dims() != 3) throw Error("[upsample2] got " + x.shape().str() + ", want (B, T, C)");
    const Tensor input = x.value().contiguous();
    Tensor out =
        Tensor::empty({x.size(0), 2 * x.size(1), x.size(2)}, input.dtype(), input.device());
    dispatch_float(input.dtype(), "upsample2", [&](auto zero) {
        using T = decltype(zero);
        table<T>(input).upsample2(context(input), out.ptr<T>(), input.ptr<T>(), x.size(0),
                                  x.size(1), x.size(2));
    });
    if (!recording(x)) return out;
    auto node = std::make_unique<UpsampleNode>();
    node->x = x.slot();
    return Tape::current()->record(std::move(node), out);
}

}  // namespace mc
