#include <algorithm>

#include "autograd/common.h"

namespace mc {
using namespace detail;

namespace {

struct ReshapeNode : Node {
    Slot x;
    const char* name() const override { return "reshape"; }
    void backward(Tensor grad) override { accumulate(x, grad.reshape(x->shape)); }
};

struct PermuteNode : Node {
    Slot x;
    int dims;
    int order[kMaxDims];  // output dimension i came from input dimension order[i]
    const char* name() const override { return "permute"; }
    void backward(Tensor grad) override {
        Tensor g = grad;
        // Undo by swaps: bring each input dimension home.
        int at[kMaxDims];
        for (int i = 0; i < dims; ++i) at[i] = order[i];
        for (int i = 0; i < dims; ++i)
            while (at[i] != i) {
                const int target = at[i];
                g = g.transpose(i, target);
                std::swap(at[i], at[target]);
            }
        accumulate(x, g.contiguous());
    }
};

struct SliceNode : Node {
    Slot x;
    int dim;
    int64_t begin, end;  // from either end, as the tensor's own slice takes them
    const char* name() const override { return "slice"; }
    void backward(Tensor grad) override {
        Tensor whole = grad_buffer(x);
        Tensor part = whole.slice(dim, begin, end);
        StridedLoop loop;  // part += grad, through a copy of the old part
        const Tensor sum = add(Var(part), Var(grad)).value();
        loop.dims = part.dims();
        for (int i = 0; i < part.dims(); ++i) {
            loop.size[i] = part.size(i);
            loop.stride_a[i] = part.strides()[i];
        }
        backend(grad.device())
            .copy.scatter_strided(context(grad), part.raw_ptr(), sum.raw_ptr(), loop,
                                  size_of(grad.dtype()));
    }
};

struct ExpandNode : Node {
    Slot x;
    const char* name() const override { return "expand"; }
    void backward(Tensor grad) override { accumulate(x, reduce_to(grad, x->shape)); }
};

struct ConcatNode : Node {
    std::vector<Slot> parts;
    std::vector<int64_t> sizes;
    int dim;
    const char* name() const override { return "concat"; }
    void backward(Tensor grad) override {
        int64_t at = 0;
        for (size_t i = 0; i < parts.size(); ++i) {
            if (parts[i]) accumulate(parts[i], grad.slice(dim, at, at + sizes[i]).contiguous());
            at += sizes[i];
        }
    }
};

Var permuted(const Var& x, const int* order) {
    Tensor out = x.value();
    int at[kMaxDims];
    const int dims = x.dims();
    for (int i = 0; i < dims; ++i) at[i] = i;
    for (int i = 0; i < dims; ++i) {
        int from = i;
        while (at[from] != order[i]) ++from;
        out = out.transpose(i, from);
        std::swap(at[i], at[from]);
    }
    if (!recording(x)) return out;
    auto node = std::make_unique<PermuteNode>();
    node->x = x.slot();
    node->dims = dims;
    std::copy_n(order, dims, node->order);
    return Tape::current()->record(std::move(node), out);
}

}  // namespace

Var reshape(const Var& x, const Shape& shape) {
    Tensor out = x.value().reshape(shape);
    if (!recording(x)) return out;
    auto node = std::make_unique<ReshapeNode>();
    node->x = x.slot();
    return Tape::current()->record(std::move(node), out);
}

Var transpose(const Var& x, int a, int b) {
    a = dim_of("transpose", x.value(), a);
    b = dim_of("transpose", x.value(), b);
    int order[kMaxDims];
    for (int i = 0; i < x.dims(); ++i) order[i] = i;
    std::swap(order[a], order[b]);
    return permuted(x, order);
}

Var permute(const Var& x, std::initializer_list<int> wanted) {
    x.value().permute(wanted);  // checks
    int order[kMaxDims];
    int i = 0;
    for (int from : wanted) order[i++] = x.value().wrap(from);
    return permuted(x, order);
}

Var slice(const Var& x, int dim, int64_t begin, int64_t end) {
    dim = dim_of("slice", x.value(), dim);
    Tensor out = x.value().slice(dim, begin, end);
    if (!recording(x)) return out;
    auto node = std::make_unique<SliceNode>();
    node->x = x.slot();
    node->dim = dim;
    node->begin = begin;
    node->end = end;
    return Tape::current()->record(std::move(node), out);
}

Var expand(const Var& x, const Shape& shape) {
    Tensor out = x.value().expand(shape);
    if (!recording(x)) return out;
    auto node = std::make_unique<ExpandNode>();
    node->x = x.slot();
    return Tape::current()->record(std::move(node), out);
}

Var concat(const std::vector<Var>& parts, int dim) {
    if (parts.empty()) throw Error("[concat] no parts");
    dim = dim_of("concat", parts[0].value(), dim);
    Shape shape = parts[0].shape();
    shape[dim] = 0;
    bool record = false;
    for (const Var& part : parts) {
        check_alike("concat", parts[0].value(), part.value());
        Shape want = parts[0].shape();
        if (part.dims() == want.size()) want[dim] = part.size(dim);
        if (!(part.shape() == want))
            throw Error("[concat] got " + part.shape().str() + ", want " + want.str() +
                        " but for dimension " + std::to_string(dim));
        shape[dim] += part.size(dim);
        record = record || part.has_grad_slot();
    }
    Tensor out = Tensor::empty(shape, parts[0].dtype(), parts[0].value().device());
    int64_t at = 0;
    for (const Var& part : parts) {
        const Tensor source = part.value().contiguous();
        const Tensor place = out.slice(dim, at, at + part.size(dim));
        StridedLoop loop;
        loop.dims = place.dims();
        for (int i = 0; i < place.dims(); ++i) {
            loop.size[i] = place.size(i);
            loop.stride_a[i] = place.strides()[i];
        }
        backend(out.device())
            .copy.scatter_strided(context(out), place.raw_ptr(), source.raw_ptr(), loop,
                                  size_of(out.dtype()));
        at += part.size(dim);
    }
    if (!Tape::current() || !record) return out;
    auto node = std::make_unique<ConcatNode>();
    node->dim = dim;
    for (const Var& part : parts) {
        node->parts.push_back(part.slot());
        node->sizes.push_back(part.size(dim));
    }
    return Tape::current()->record(std::move(node), out);
}

}  // namespace mc
