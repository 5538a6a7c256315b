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
    void backward(Tensor grad) override {
        const Tensor source = x_value.get("layer_norm");
        const Tensor w = weight_value.get("layer_norm");
        Tensor dx;
        if (x || residual) dx = over_or_empty_like(grad);
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

Var normed(Var x, const Var& residual, const Var& weight, const Var& bias, double eps) {
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
    const Tensor source = x.take_value().contiguous();
    const Tensor other = residual.defined() ? residual.value().contiguous() : Tensor();
    const int64_t rows = rows_of(source), cols = source.size(-1);
    const bool record = recording(x, residual, weight, bias);
    Tensor out = record ? empty_like(source) : over_or_empty_like(source), mean, rstd, total;
    if (record) {
        mean = Tensor::empty({rows}, source.dtype(), source.device());
        rstd = Tensor::empty({rows}, source.dtype(), source.device());
        if (other.defined()) total = over_or_empty_like(source);
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
    void backward(Tensor grad) override {
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

struct ChannelNormNode : Node {
    Slot x, weight, bias;
    Saved x_value, weight_value;
    Tensor mean, rstd;      // (sets)
    int64_t groups = 0;     // 0: batch norm
    bool training = false;  // of batch norm
    const char* name() const override { return groups > 0 ? "group_norm" : "batch_norm"; }
    void backward(Tensor grad) override {
        const Tensor source = x_value.get(name()), w = weight_value.get(name());
        Tensor dx;
        if (x) dx = over_or_empty_like(grad);
        dispatch_float(grad.dtype(), name(), [&](auto zero) {
            using T = decltype(zero);
            typename NormKernels<T>::ChannelNormBackwardArgs args;
            args.dx = dx.defined() ? dx.ptr<T>() : nullptr;
            args.dweight = grad_or_null<T>(weight);
            args.dbias = grad_or_null<T>(bias);
            args.dy = grad.ptr<T>();
            args.x = source.ptr<T>();
            args.mean = mean.ptr<T>();
            args.rstd = rstd.ptr<T>();
            args.weight = data_or_null<T>(w);
            set_sizes(args, grad);
            if (groups > 0)
                table<T>(grad).group_norm_backward(context(grad), args, groups);
            else
                table<T>(grad).batch_norm_backward(context(grad), args, training);
        });
        accumulate(x, dx);
    }
    template <class Args>
    static void set_sizes(Args& args, const Tensor& t) {
        args.batch = t.size(0);
        args.channels = t.size(1);
        args.length = t.dims() == 3 ? t.size(2) : 1;
    }
};

// Input (N, C) or (N, C, T), and what has a value a channel.
void check_channels(const char* op, const Tensor& x, std::initializer_list<const Tensor*> others) {
    const std::string prefix = std::string("[") + op + "] got input " + x.shape().str();
    if (x.dims() != 2 && x.dims() != 3) throw Error(prefix + ", want (N, C) or (N, C, T)");
    for (const Tensor* other : others) {
        if (!other->defined()) continue;
        check_alike(op, x, *other);
        if (!(other->shape() == Shape{x.size(1)}))
            throw Error(prefix + " and parameter " + other->shape().str() + ", want (" +
                        std::to_string(x.size(1)) + "), one value a channel");
    }
}

// run(args) for the args that both norms share; recorded as `node`, whose own members are
// set.
template <class Run>
Var channel_normed(const Var& x, const Var& weight, const Var& bias, int64_t sets, double eps,
                   std::unique_ptr<ChannelNormNode> node, Run&& run) {
    const Tensor source = x.value().contiguous(), scale = contiguous_or_none(weight.value()),
                 shift = contiguous_or_none(bias.value());
    const Tensor out = empty_like(source),
                 mean = Tensor::empty({sets}, source.dtype(), source.device()),
                 rstd = Tensor::empty({sets}, source.dtype(), source.device());
    dispatch_float(source.dtype(), node->name(), [&](auto zero) {
        using T = decltype(zero);
        typename NormKernels<T>::ChannelNormArgs args;
        args.y = out.ptr<T>();
        args.mean = mean.ptr<T>();
        args.rstd = rstd.ptr<T>();
        args.x = source.ptr<T>();
        args.weight = data_or_null<T>(scale);
        args.bias = data_or_null<T>(shift);
        args.eps = eps;
        ChannelNormNode::set_sizes(args, source);
        run(args);
    });
    if (!recording(x, weight, bias)) return out;
    node->x = x.slot();
    node->weight = weight.slot();
    node->bias = bias.slot();
    node->x_value = Saved(source);
    node->weight_value = Saved(scale);
    node->mean = mean;
    node->rstd = rstd;
    return Tape::current()->record(std::move(node), out);
}

}  // namespace

Var group_norm(const Var& x, int64_t groups, const Var& weight, const Var& bias, double eps) {
    check_channels("group_norm", x.value(), {&weight.value(), &bias.value()});
    if (groups < 1 || x.size(1) % groups != 0)
        throw Error("[group_norm] got input " + x.shape().str() + " and " + std::to_string(groups) +
                    " groups, want a divisor of the channels");
    auto node = std::make_unique<ChannelNormNode>();
    node->groups = groups;
    return channel_normed(x, weight, bias, x.size(0) * groups, eps, std::move(node),
                          [&]<class Args>(const Args& shared) {
                              using T = std::remove_reference_t<decltype(*shared.y)>;
                              typename NormKernels<T>::GroupNormArgs args;
                              static_cast<Args&>(args) = shared;
                              args.groups = groups;
                              table<T>(x.value()).group_norm(context(x.value()), args);
                          });
}

Var batch_norm(const Var& x, const RunningStatistics& running, const Var& weight, const Var& bias,
               const BatchNormOptions& options) {
    check_channels("batch_norm", x.value(),
                   {&running.mean, &running.var, &weight.value(), &bias.value()});
    for (const Tensor* t : {&running.mean, &running.var, &running.batches})
        if (!t->defined() || !t->is_contiguous() || t->device() != x.value().device())
            throw Error(
                "[batch_norm] running statistics are written to: want contiguous tensors "
                "on the input's device");
    if (options.training && x.numel() < 2 * x.size(1))
        throw Error("[batch_norm] got input " + x.shape().str() +
                    ", want at least two values a channel in training");
    auto node = std::make_unique<ChannelNormNode>();
    node->training = options.training;
    const Var y = channel_normed(x, weight, bias, x.size(1), options.eps, std::move(node),
                                 [&]<class Args>(const Args& shared) {
                                     using T = std::remove_reference_t<decltype(*shared.y)>;
                                     typename NormKernels<T>::BatchNormArgs args;
                                     static_cast<Args&>(args) = shared;
                                     args.running_mean = running.mean.ptr<T>();
                                     args.running_var = running.var.ptr<T>();
                                     args.batches = running.batches.ptr<int64_t>();
                                     args.momentum = options.momentum;
                                     args.training = options.training;
                                     table<T>(x.value()).batch_norm(context(x.value()), args);
                                 });
    if (options.training)
        for (const Tensor* t : {&running.mean, &running.var, &running.batches}) t->bump_version();
    return y;
}

Var layer_norm(Var x, const Var& weight, const Var& bias, double eps) {
    return normed(std::move(x), Var(), weight, bias, eps);
}
Var layer_norm_residual(Var x, const Var& residual, const Var& weight, const Var& bias,
                        double eps) {
    return normed(std::move(x), residual, weight, bias, eps);
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
