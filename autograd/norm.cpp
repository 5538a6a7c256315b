#include "autograd/common.h"

namespace mc {
using namespace detail;

namespace {

struct LayerNormNode : Node {
    Slot x, residual, weight, bias;
    Saved x_value;  // (R, C), the sum where there is a residual
    Saved weight_value;
    Tensor mean, rstd;  // (R)
    const char* name() const override { return "layer_norm"; }
    void backward(const Tensor& grad) override {
        const Tensor source = x_value.get("layer_norm");
        const Tensor w = weight_value.get("layer_norm");
        Tensor dx;
        if (x || residual) dx = empty_like(grad);
        dispatch_float(grad.dtype(), "layer_norm", [&](auto zero) {
            using T = decltype(zero);
            typename NormKernels<T>::LayerNormBackwardArgs args;
            args.dx = dx.defined() ? dx.ptr<T>() : nullptr;
            args.dweight = grad_or_null<T>(weight);
            args.dbias = grad_or_null<T>(bias);
            args.dy = grad.ptr<T>();
            args.x = source.ptr<T>();
            args.mean = mean.ptr<T>();
            args.rstd = rstd.ptr<T>();
            args.weight = data_or_null<T>(w);
            args.rows = rows_of(grad);
            args.cols = grad.size(-1);
            table<T>(grad).layer_norm_backward(context(grad), args);
        });
        accumulate(x, dx);
        accumulate(residual, dx);
    }
};

Var normed(const Var& x, const Var& residual, const Var& weight, const Var& bias, double eps) {
    dim_of("layer_norm", x.value(), -1);
    if (residual.defined()) {
        check_alike("layer_norm", x.value(), residual.value());
        if (!(x.shape() == residual.shape()))
            throw Error("[layer_norm] got " + x.shape().str() + " and residual " +
                        residual.shape().str());
    }
    for (const Var* p : {&weight, &bias}) {
        if (!p->defined()) continue;
        check_alike("layer_norm", x.value(), p->value());
        if (!(p->shape() == Shape{x.size(-1)}))
            throw Error("[layer_norm] got input " + x.shape().str() + " and parameter " +
                        p->shape().str());
    }
    const Tensor scale = contiguous_or_none(weight.value()),
                 shift = contiguous_or_none(bias.value());
    const Tensor source = x.value().contiguous();
    const Tensor other = residual.defined() ? residual.value().contiguous() : Tensor();
    const int64_t rows = rows_of(source), cols = source.size(-1);
    Tensor out = empty_like(source), mean, rstd, total;
    const bool record = recording(x, residual, weight, bias);
    if (record) {
        mean = Tensor::empty({rows}, source.dtype(), source.device());
        rstd = Tensor::empty({rows}, source.dtype(), source.device());
        if (other.defined()) total = empty_like(source);
    }
    dispatch_float(source.dtype(), "layer_norm", [&](auto zero) {
        using T = decltype(zero);
        typename NormKernels<T>::LayerNormArgs args;
        args.y = out.ptr<T>();
        args.mean = record ? mean.ptr<T>() : nullptr;
        args.rstd = record ? rstd.ptr<T>() : nullptr;
        args.sum = total.defined() ? total.ptr<T>() : nullptr;
        args.x = source.ptr<T>();
        args.residual = data_or_null<T>(other);
        args.weight = data_or_null<T>(scale);
        args.bias = data_or_null<T>(shift);
        args.rows = rows;
        args.cols = cols;
        args.eps = eps;
        table<T>(source).layer_norm(context(source), args);
    });
    if (!record) return out;
    auto node = std::make_unique<LayerNormNode>();
    node->x = x.slot();
    node->residual = residual.slot();
    node->weight = weight.slot();
    node->bias = bias.slot();
    node->x_value = Saved(total.defined() ? total : source);
    node->weight_value = Saved(scale);
    node->mean = mean;
    node->rstd = rstd;
    return Tape::current()->record(std::move(node), out);
}

struct L2NormalizeNode : Node {
    Slot x;
    Saved y;
    Tensor norm;  // (R)
    double eps;
    const char* name() const override { return "l2_normalize"; }
    void backward(const Tensor& grad) override {
        Tensor dx = empty_like(grad);
        dispatch_float(grad.dtype(), "l2_normalize", [&](auto zero) {
            using T = decltype(zero);
            table<T>(grad).l2_normalize_backward(context(grad), dx.ptr<T>(), grad.ptr<T>(),
                                                 y.get("l2_normalize").ptr<T>(), norm.ptr<T>(),
                                                 rows_of(grad), grad.size(-1), eps);
        });
        accumulate(x, dx);
    }
};

}  // namespace

Var layer_norm(const Var& x, const Var& weight, const Var& bias, double eps) {
    return normed(x, Var(), weight, bias, eps);
}
Var layer_norm_residual(const Var& x, const Var& residual, const Var& weight, const Var& bias,
                        double eps) {
    return normed(x, residual, weight, bias, eps);
}

Var l2_normalize(const Var& x, double eps) {
    dim_of("l2_normalize", x.value(), -1);
    const Tensor source = x.value().contiguous();
    Tensor out = empty_like(source),
           norm = Tensor::empty({rows_of(source)}, source.dtype(), source.device());
    dispatch_float(source.dtype(), "l2_normalize", [&](auto zero) {
        using T = decltype(zero);
        table<T>(source).l2_normalize(context(source), out.ptr<T>(), norm.ptr<T>(), source.ptr<T>(),
                                      rows_of(source), source.size(-1), eps);
    });
    if (!recording(x)) return out;
    auto node = std::make_unique<L2NormalizeNode>();
    node->x = x.slot();
    node->y = Saved(out);
    node->norm = norm;
    node->eps = eps;
    return Tape::current()->record(std::move(node), out);
}

}  // namespace mc
