#include "autograd/common.h"

namespace mc {
using namespace detail;

namespace {

struct SoftmaxNode : Node {
    Slot x;
    Saved y;
    bool log;
    const char* name() const override { return log ? "log_softmax" : "softmax"; }
    void backward(Tensor grad) override {
        Tensor dx = over_or_empty_like(grad);
        const Tensor value = y.get(name());
        dispatch_float(grad.dtype(), name(), [&](auto zero) {
            using T = decltype(zero);
            auto& kernel =
                log ? table<T>(grad).log_softmax_backward : table<T>(grad).softmax_backward;
            kernel(context(grad), dx.ptr<T>(), grad.ptr<T>(), value.ptr<T>(), rows_of(grad),
                   grad.size(-1));
        });
        accumulate(x, dx);
    }
};

Var softmax_of(const Var& x, bool log) {
    dim_of(log ? "log_softmax" : "softmax", x.value(), -1);
    const Tensor source = x.value().contiguous();
    Tensor out = empty_like(source);
    dispatch_float(source.dtype(), log ? "log_softmax" : "softmax", [&](auto zero) {
        using T = decltype(zero);
        auto& kernel = log ? table<T>(source).log_softmax : table<T>(source).softmax;
        kernel(context(source), out.ptr<T>(), source.ptr<T>(), rows_of(source), source.size(-1));
    });
    if (!recording(x)) return out;
    auto node = std::make_unique<SoftmaxNode>();
    node->x = x.slot();
    node->y = Saved(out);
    node->log = log;
    return Tape::current()->record(std::move(node), out);
}

// The gradient () of a mean as each element's part of it. Of a mean of nothing no element has a use
// for it.
Tensor each_of(const Tensor& grad, int64_t counted, const Shape& shape) {
    return affine(Var(grad), 1.0 / static_cast<double>(counted), 0)
        .value()
        .expand(shape)
        .contiguous();
}

struct CrossEntropyNode : Node {
    Slot x;
    Saved logits, labels;
    Tensor lse;  // (R)
    int64_t ignore, counted;
    double smoothing;
    const char* name() const override { return "cross_entropy"; }
    void backward(Tensor grad) override {
        const Tensor value = logits.get("cross_entropy");
        Tensor dx = empty_like(value);
        dispatch_float(value.dtype(), "cross_entropy", [&](auto zero) {
            using T = decltype(zero);
            const Tensor factor = each_of(grad, counted, {value.size(0)});
            typename SoftmaxKernels<T>::CrossEntropyBackwardArgs args;
            args.dx = dx.ptr<T>();
            args.scale = factor.ptr<T>();
            args.x = value.ptr<T>();
            args.lse = lse.ptr<T>();
            args.label = labels.get("cross_entropy").ptr<int64_t>();
            args.rows = value.size(0);
            args.cols = value.size(1);
            args.ignore = ignore;
            args.smoothing = smoothing;
            table<T>(value).cross_entropy_backward(context(value), args);
        });
        accumulate(x, dx);
    }
};

struct SmoothL1Node : Node {
    Slot a, b;
    Saved a_value, b_value;
    double beta;
    const char* name() const override { return "smooth_l1"; }
    void backward(Tensor grad) override {
        const Tensor av = a_value.get("smooth_l1"), bv = b_value.get("smooth_l1");
        Tensor da = empty_like(av);
        dispatch_float(av.dtype(), "smooth_l1", [&](auto zero) {
            using T = decltype(zero);
            const Tensor factor = each_of(grad, av.numel(), av.shape());
            table<T>(av).smooth_l1_backward(context(av), da.ptr<T>(), factor.ptr<T>(), av.ptr<T>(),
                                            bv.ptr<T>(), static_cast<T>(beta), av.numel());
        });
        accumulate(a, da);
        if (b) accumulate(b, affine(Var(da), -1, 0).value());
    }
};

}  // namespace

Var softmax(const Var& x) {
    return softmax_of(x, false);
}
Var log_softmax(const Var& x) {
    return softmax_of(x, true);
}

Var cross_entropy(const Var& logits, const Tensor& labels, int64_t ignore, double smoothing) {
    if (logits.dims() != 2 || !(labels.shape() == Shape{logits.size(0)}))
        throw Error("[cross_entropy] got logits " + logits.shape().str() + " and labels " +
                    labels.shape().str() + ", want (R, C) and (R)");
    const Tensor source = logits.value().contiguous(), label = labels.cpu().contiguous();
    const int64_t rows = source.size(0), cols = source.size(1);
    int64_t counted = 0;
    for (int64_t r = 0; r < rows; ++r) {
        const int64_t l = label.data<int64_t>()[r];
        if (l == ignore) continue;
        if (l < 0 || l >= cols)
            throw Error("[cross_entropy] label " + std::to_string(l) + " of row " +
                        std::to_string(r) + " with " + std::to_string(cols) + " classes");
        ++counted;
    }
    const DeviceType device = source.device();
    const Tensor classes = index_on(device, label);
    Tensor loss = Tensor::empty({rows}, source.dtype(), device),
           lse = Tensor::empty({rows}, source.dtype(), device);
    Tensor out = Tensor::zeros({}, source.dtype(), device);
    dispatch_float(source.dtype(), "cross_entropy", [&](auto zero) {
        using T = decltype(zero);
        typename SoftmaxKernels<T>::CrossEntropyArgs args;
        args.loss = loss.ptr<T>();
        args.lse = lse.ptr<T>();
        args.x = source.ptr<T>();
        args.label = classes.ptr<int64_t>();
        args.rows = rows;
        args.cols = cols;
        args.ignore = ignore;
        args.smoothing = smoothing;
        table<T>(source).cross_entropy(context(source), args);
        if (counted)
            table<T>(source).sum(context(source), out.ptr<T>(), loss.ptr<T>(),
                                 static_cast<T>(1.0 / static_cast<double>(counted)), 1, rows, 1);
    });
    if (!recording(logits)) return out;
    auto node = std::make_unique<CrossEntropyNode>();
    node->x = logits.slot();
    node->logits = Saved(source);
    node->labels = Saved(classes);
    node->lse = lse;
    node->ignore = ignore;
    node->counted = counted;
    node->smoothing = smoothing;
    return Tape::current()->record(std::move(node), out);
}

Var smooth_l1(const Var& a, const Var& b, double beta) {
    check_alike("smooth_l1", a.value(), b.value());
    if (!(a.shape() == b.shape()))
        throw Error("[smooth_l1] shapes " + a.shape().str() + " and " + b.shape().str() +
                    " differ");
    const Tensor av = a.value().contiguous(), bv = b.value().contiguous();
    Tensor each = empty_like(av), out = Tensor::empty({}, av.dtype(), av.device());
    dispatch_float(av.dtype(), "smooth_l1", [&](auto zero) {
        using T = decltype(zero);
        table<T>(av).smooth_l1(context(av), each.ptr<T>(), av.ptr<T>(), bv.ptr<T>(),
                               static_cast<T>(beta), av.numel());
        table<T>(av).sum(context(av), out.ptr<T>(), each.ptr<T>(),
                         static_cast<T>(1.0 / static_cast<double>(av.numel())), 1, av.numel(), 1);
    });
    if (!recording(a, b)) return out;
    auto node = std::make_unique<SmoothL1Node>();
    node->a = a.slot();
    node->b = b.slot();
    node->a_value = Saved(av);
    node->b_value = Saved(bv);
    node->beta = beta;
    return Tape::current()->record(std::move(node), out);
}

Var mse(const Var& a, const Var& b) {
    if (!(a.shape() == b.shape()))
        throw Error("[mse] shapes " + a.shape().str() + " and " + b.shape().str() + " differ");
    return mean(square(sub(a, b)));
}

}  // namespace mc
