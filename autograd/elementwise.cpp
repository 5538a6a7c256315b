#include "autograd/common.h"

namespace mc {
using namespace detail;

namespace {

Tensor binary_values(BinaryOp op, const char* name, const Tensor& a, const Tensor& b) {
    check_alike(name, a, b);
    const Shape shape = broadcast_shapes(a.shape(), b.shape(), name);
    Tensor out = Tensor::empty(shape, a.dtype(), a.device());
    dispatch_float(a.dtype(), name, [&](auto zero) {
        using T = decltype(zero);
        table<T>(a).binary(context(a), op, out.ptr<T>(), a.ptr<T>(), b.ptr<T>(),
                           broadcast_loop(shape, a, b));
    });
    return out;
}

Tensor affine_values(const Tensor& x, double alpha, double beta) {
    const Tensor source = x.contiguous();
    Tensor out = empty_like(source);
    dispatch_float(x.dtype(), "affine", [&](auto zero) {
        using T = decltype(zero);
        table<T>(x).affine(context(x), out.ptr<T>(), source.ptr<T>(), static_cast<T>(alpha),
                           static_cast<T>(beta), x.numel());
    });
    return out;
}

struct AddNode : Node {
    Slot a, b;
    double sign;  // of b: +1 add, -1 sub
    const char* name() const override { return sign > 0 ? "add" : "sub"; }
    void backward(const Tensor& grad) override {
        if (a) accumulate(a, reduce_to(grad, a->shape));
        if (b) {
            const Tensor g = reduce_to(grad, b->shape);
            accumulate(b, sign > 0 ? g : affine_values(g, -1, 0));
        }
    }
};

struct MulNode : Node {
    Slot a, b;
    Saved a_value, b_value;
    const char* name() const override { return "mul"; }
    void backward(const Tensor& grad) override {
        if (a)
            accumulate(a, reduce_to(binary_values(BinaryOp::mul, "mul", grad, b_value.get("mul")),
                                    a->shape));
        if (b)
            accumulate(b, reduce_to(binary_values(BinaryOp::mul, "mul", grad, a_value.get("mul")),
                                    b->shape));
    }
};

struct DivNode : Node {
    Slot a, b;
    Saved b_value, y_value;
    const char* name() const override { return "div"; }
    void backward(const Tensor& grad) override {
        const Tensor ga = binary_values(BinaryOp::div, "div", grad, b_value.get("div"));  // d a
        if (a) accumulate(a, reduce_to(ga, a->shape));
        if (b) {
            const Tensor gb = binary_values(BinaryOp::mul, "div", ga, y_value.get("div"));
            accumulate(b, affine_values(reduce_to(gb, b->shape), -1, 0));
        }
    }
};

struct UnaryNode : Node {
    UnaryOp op;
    double param;
    Slot x;
    Saved x_value;
    const char* name() const override { return "unary"; }
    void backward(const Tensor& grad) override {
        const Tensor value = x_value.get("unary");
        Tensor out = empty_like(grad);
        dispatch_float(grad.dtype(), "unary", [&](auto zero) {
            using T = decltype(zero);
            table<T>(grad).unary_backward(context(grad), op, static_cast<T>(param), out.ptr<T>(),
                                          grad.ptr<T>(), value.ptr<T>(), grad.numel());
        });
        accumulate(x, out);
    }
};

struct AffineNode : Node {
    double alpha;
    Slot x;
    const char* name() const override { return "affine"; }
    void backward(const Tensor& grad) override { accumulate(x, affine_values(grad, alpha, 0)); }
};

Tensor select_values(const Tensor& cond, const Tensor& a, const Tensor& b) {
    Tensor out = empty_like(a);
    dispatch_float(a.dtype(), "select", [&](auto zero) {
        using T = decltype(zero);
        table<T>(a).select(context(a), out.ptr<T>(), cond.ptr<bool>(), a.ptr<T>(), b.ptr<T>(),
                           a.numel());
    });
    return out;
}

struct SelectNode : Node {
    Saved cond;  // bool
    Slot a, b;
    const char* name() const override { return "select"; }
    void backward(const Tensor& grad) override {
        const Tensor none = Tensor::zeros(grad.shape(), grad.dtype(), grad.device());
        const Tensor mask = cond.get("select");
        if (a) accumulate(a, select_values(mask, grad, none));
        if (b) accumulate(b, select_values(mask, none, grad));
    }
};

Tensor dropout_values(const Tensor& x, double p, RandomStream stream) {
    Tensor out = empty_like(x);
    dispatch_float(x.dtype(), "dropout", [&](auto zero) {
        using T = decltype(zero);
        table<T>(x).dropout(context(x), out.ptr<T>(), x.ptr<T>(), p, stream, x.numel());
    });
    return out;
}

struct DropoutNode : Node {
    Slot x;
    double p;
    RandomStream stream;  // instead of the mask
    const char* name() const override { return "dropout"; }
    void backward(const Tensor& grad) override { accumulate(x, dropout_values(grad, p, stream)); }
};

Var add_or_sub(const Var& a, const Var& b, bool subtract) {
    Tensor out = binary_values(subtract ? BinaryOp::sub : BinaryOp::add, subtract ? "sub" : "add",
                               a.value(), b.value());
    if (!recording(a, b)) return out;
    auto node = std::make_unique<AddNode>();
    node->a = a.slot();
    node->b = b.slot();
    node->sign = subtract ? -1 : 1;
    return Tape::current()->record(std::move(node), out);
}

}  // namespace

Var add(const Var& a, const Var& b) {
    return add_or_sub(a, b, false);
}
Var sub(const Var& a, const Var& b) {
    return add_or_sub(a, b, true);
}

Var mul(const Var& a, const Var& b) {
    Tensor out = binary_values(BinaryOp::mul, "mul", a.value(), b.value());
    if (!recording(a, b)) return out;
    auto node = std::make_unique<MulNode>();
    node->a = a.slot();
    node->b = b.slot();
    if (node->b) node->a_value = Saved(a.value());
    if (node->a) node->b_value = Saved(b.value());
    return Tape::current()->record(std::move(node), out);
}

Var div(const Var& a, const Var& b) {
    Tensor out = binary_values(BinaryOp::div, "div", a.value(), b.value());
    if (!recording(a, b)) return out;
    auto node = std::make_unique<DivNode>();
    node->a = a.slot();
    node->b = b.slot();
    node->b_value = Saved(b.value());
    if (node->b) node->y_value = Saved(out);
    return Tape::current()->record(std::move(node), out);
}

Var unary(UnaryOp op, const Var& x, double param) {
    const Tensor source = x.value().contiguous();
    Tensor out = empty_like(source);
    dispatch_float(source.dtype(), "unary", [&](auto zero) {
        using T = decltype(zero);
        table<T>(source).unary(context(source), op, static_cast<T>(param), out.ptr<T>(),
                               source.ptr<T>(), source.numel());
    });
    if (!recording(x)) return out;
    auto node = std::make_unique<UnaryNode>();
    node->op = op;
    node->param = param;
    node->x = x.slot();
    node->x_value = Saved(source);
    return Tape::current()->record(std::move(node), out);
}

Var affine(const Var& x, double alpha, double beta) {
    Tensor out = affine_values(x.value(), alpha, beta);
    if (!recording(x)) return out;
    auto node = std::make_unique<AffineNode>();
    node->alpha = alpha;
    node->x = x.slot();
    return Tape::current()->record(std::move(node), out);
}

Var select(const Tensor& cond, const Var& a, const Var& b) {
    check_alike("select", a.value(), b.value());
    if (!(cond.shape() == a.shape()) || !(a.shape() == b.shape()))
        throw Error("[select] shapes " + cond.shape().str() + ", " + a.shape().str() + ", " +
                    b.shape().str() + " differ");
    const Tensor mask = index_on(a.value().device(), cond);
    Tensor out = select_values(mask, a.value().contiguous(), b.value().contiguous());
    if (!recording(a, b)) return out;
    auto node = std::make_unique<SelectNode>();
    node->cond = Saved(mask);
    node->a = a.slot();
    node->b = b.slot();
    return Tape::current()->record(std::move(node), out);
}

Var dropout(const Var& x, double p, Generator& generator) {
    if (p < 0 || p >= 1)
        throw Error("[dropout] probability " + std::to_string(p) + ", want [0, 1)");
    if (p == 0) return x;
    const RandomStream stream = generator.stream();
    Tensor out = dropout_values(x.value().contiguous(), p, stream);
    if (!recording(x)) return out;
    auto node = std::make_unique<DropoutNode>();
    node->x = x.slot();
    node->p = p;
    node->stream = stream;
    return Tape::current()->record(std::move(node), out);
}

Var operator+(const Var& a, const Var& b) {
    return add(a, b);
}
Var operator-(const Var& a, const Var& b) {
    return sub(a, b);
}
Var operator*(const Var& a, const Var& b) {
    return mul(a, b);
}

}  // namespace mc
