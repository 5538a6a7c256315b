#include "autograd/common.h"

namespace mc {
using namespace detail;

namespace {

struct SumNode : Node {
    Slot x;
    double factor;  // 1 for a sum, 1/n for a mean
    Shape kept;     // the output's shape with reduced dimensions as 1
    const char* name() const override { return factor == 1 ? "sum" : "mean"; }
    void backward(Tensor grad) override {
        const Tensor g = factor == 1 ? grad : affine(Var(grad), factor, 0).value();
        accumulate(x, g.reshape(kept).expand(x->shape).contiguous());
    }
};

// x seen as (outer, n, inner), n its dimension `dim`.
struct Axis {
    int64_t outer = 1, n, inner = 1;
    Axis(const Shape& shape, int dim) : n(shape[dim]) {
        for (int i = 0; i < dim; ++i) outer *= shape[i];
        for (int i = dim + 1; i < shape.size(); ++i) inner *= shape[i];
    }
};

Tensor running_sum(const Tensor& source, int dim, bool reverse) {
    const Axis axis(source.shape(), dim);
    Tensor y = empty_like(source);
    dispatch_float(source.dtype(), "cumsum", [&](auto zero) {
        using T = decltype(zero);
        table<T>(source).cumsum(context(source), y.ptr<T>(), source.ptr<T>(), axis.outer, axis.n,
                                axis.inner, reverse);
    });
    return y;
}

// An element is in the sums from it on.
struct CumsumNode : Node {
    Slot x;
    int dim;
    const char* name() const override { return "cumsum"; }
    void backward(Tensor grad) override { accumulate(x, running_sum(grad, dim, true)); }
};

Var reduced(const Var& x, int64_t outer, int64_t n, int64_t inner, double factor, const Shape& kept,
            const Shape& out) {
    const Tensor source = x.value().contiguous();
    Tensor y = Tensor::empty(out, x.dtype(), source.device());
    dispatch_float(x.dtype(), "sum", [&](auto zero) {
        using T = decltype(zero);
        table<T>(source).sum(context(source), y.ptr<T>(), source.ptr<T>(), static_cast<T>(factor),
                             outer, n, inner);
    });
    if (!recording(x)) return y;
    auto node = std::make_unique<SumNode>();
    node->x = x.slot();
    node->factor = factor;
    node->kept = kept;
    return Tape::current()->record(std::move(node), y);
}

Var over_all(const Var& x, double factor) {
    Shape kept;
    for (int i = 0; i < x.dims(); ++i) kept.push_back(1);
    return reduced(x, 1, x.numel(), 1, factor, kept, Shape{});
}

Var over_dim(const Var& x, int dim, bool keep, bool mean) {
    dim = dim_of(mean ? "mean" : "sum", x.value(), dim);
    const Axis axis(x.shape(), dim);
    Shape kept = x.shape(), out;
    kept[dim] = 1;
    for (int i = 0; i < x.dims(); ++i)
        if (i != dim) out.push_back(x.size(i));
    return reduced(x, axis.outer, axis.n, axis.inner,
                   mean ? 1.0 / static_cast<double>(axis.n) : 1.0, kept, keep ? kept : out);
}

}  // namespace

Var sum(const Var& x) {
    return over_all(x, 1);
}
Var mean(const Var& x) {
    return over_all(x, 1.0 / static_cast<double>(x.numel()));
}
Var sum(const Var& x, int dim, bool keep) {
    return over_dim(x, dim, keep, false);
}
Var mean(const Var& x, int dim, bool keep) {
    return over_dim(x, dim, keep, true);
}

Var cumsum(const Var& x, int dim) {
    dim = dim_of("cumsum", x.value(), dim);
    const Tensor y = running_sum(x.value().contiguous(), dim, false);
    if (!recording(x)) return y;
    auto node = std::make_unique<CumsumNode>();
    node->x = x.slot();
    node->dim = dim;
    return Tape::current()->record(std::move(node), y);
}

}  // namespace mc
