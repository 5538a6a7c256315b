#include "autograd/common.h"

namespace mc {
using namespace detail;

namespace {

// Over a or b where the caller gave it away.
Tensor binary_values(BinaryOp op, const char* name, Tensor a, Tensor b) {
    check_alike(name, a, b);
    const Shape shape = broadcast_shapes(a.shape(), b.shape(), name);
    const auto takes_it = [&](const Tensor& t) {
        return t.is_sole() && t.shape() == shape && t.is_contiguous();
    };
    Tensor out = takes_it(a)   ? over_or_empty_like(a)
                 : takes_it(b) ? over_or_empty_like(b)
                               : Tensor::empty(shape, a.dtype(), a.device());
    dispatch_float(a.dtype(), name, [&](auto zero) {
        using T = decltype(zero);
        table<T>(a).binary(context(a), op, out.ptr<T>(), a.ptr<T>(), b.ptr<T>(),
                           broadcast_loop(shape, a, b));
    });
    return out;
}

Tensor affine_values(Tensor x, double alpha, double beta) {
    x = x.contiguous();
    Tensor out = over_or_empty_like(x);
    dispatch_float(x.dtype(), "affine", [&](auto zero) {
        using T = decltype(zero);
        table<T>(x).affine(context(x), out.ptr<T>(), x.ptr<T>(), static_cast<T>(alpha),
                           static_cast<T>(beta), x.numel());
    });
    return out;
}

struct AddNode : Node {
    Slot a, b;
    double sign;  // of b: +1 add, -1 sub
    const char* name() const override { return sign > 0 ? "add" : "sub"; }
    void backward(Tensor grad) override {
        if (a) accumulate(a, reduce_to(grad, a->shape));
        if (b) {
            Tensor g = reduce_to(grad, b->shape);
            accumulate(b, sign > 0 ? g : affine_values(std::move(g), -1, 0));
        }
    }
};

struct MulNode : Node {
    Slot a, b;
    Saved a_value, b_value;
    const char* name() const override { return "mul"; }
    void backward(Tensor grad) override {
        if (a)
            accumulate(a, reduce_to(binary_values(BinaryOp::mul, "mul", grad, b_value.get("mul")),
                                    a->shape));
        if (b)
            accumulate(b, reduce_to(binary_values(BinaryOp::mul, "mul", std::move(grad),
                                                  a_value.get("mul")),
                                    b->shape));
    }
};

struct DivNode : Node {
    Slot a, b;
    Saved b_value, y_value;
    const char* name() const override { return "div"; }
    void backward(Tensor grad) override {
        Tensor ga = binary_values(BinaryOp::div, "div", std::move(grad), b_value.get("div"));
        if (a) accumulate(a, reduce_to(ga, a->shape));
        if (b) {
            const Tensor gb =
                binary_values(BinaryOp::mul, "div", std::move(ga), y_value.get("div"));
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
    void backward(Tensor grad) override {
        const Tensor value = x_value.get("unary");
        Tensor out = over_or_empty_like(grad);
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
    void backward(Tensor grad) override { accumulate(x, affine_values(std::move(grad), alpha, 0)); }
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
    void backward(Tensor grad) override {
        const Tensor none = Tensor::zeros(grad.shape(), grad.dtype(), grad.device());
        const Tensor mask = cond.get("select");
        if (a) accumulate(a, select_values(mask, grad, none));
        if (b) accumulate(b, select_values(mask, none, grad));
    }
};

Tensor dropout_values(Tensor x, double p, RandomStream stream) {
    x = x.contiguous();
    Tensor out = over_or_empty_like(x);
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
    void backward(Tensor grad) override {
        accumulate(x, dropout_values(std::move(grad), p, stream));
    }
};

Var add_or_sub(Var a, Var b, bool subtract) {
    Tensor out = binary_values(subtract ? BinaryOp::sub : BinaryOp::add, subtract ? "sub" : "add",
                               a.take_value(), b.take_value());
    if (!recording(a, b)) return out;
    auto node = std::make_unique<AddNode>();
    node->a = a.slot();
    node->b = b.slot();
    node->sign = subtract ? -1 : 1;
    return Tape::current()->record(std::move(node), out);
}

}  // namespace

Var add(Var a, Var b) {
    return add_or_sub(std::move(a), std::move(b), false);
}
Var sub(Var a, Var b) {
    return add_or_sub(std::move(a), std::move(b), true);
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

Var unary(UnaryOp op, Var x, double param) {
    const bool record = recording(x);
    const Tensor source = x.take_value().contiguous();
    Tensor out = record ? empty_like(source) : over_or_empty_like(source);
    dispatch_float(source.dtype(), "unary", [&](auto zero) {
        using T = decltype(zero);
        table<T>(source).unary(context(source), op, static_cast<T>(param), out.ptr<T>(),
                               source.ptr<T>(), source.numel());
    });
    if (!record) return out;
    auto node = std::make_unique<UnaryNode>();
    node->op = op;
    node->param = param;
    node->x = x.slot();
    node->x_value = Saved(source);
    return Tape::current()->record(std::move(node), out);
}

Var affine(Var x, double alpha, double beta) {
    Tensor out = affine_values(x.take_value(), alpha, beta);
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

Var dropout(Var x, double p, Generator& generator) {
    if (p < 0 || p >= 1)
        throw Error("[dropout] probability " + std::to_string(p) + ", want [0, 1)");
    if (p == 0) return x;
    const RandomStream stream = generator.stream();
    Tensor out = dropout_values(x.take_value(), p, stream);
    if (!recording(x)) return out;
    if (Tape::current()->takes_dropout(x.slot(), p, stream)) return Var(out, x.slot());
    auto node = std::make_unique<DropoutNode>();
    node->x = x.slot();
    node->p = p;
    node->stream = stream;
    return Tape::current()->record(std::move(node), out);
}

Var operator+(Var a, Var b) {
    return add(std::move(a), std::move(b));
}
Var operator-(Var a, Var b) {
    return sub(std::move(a), std::move(b));
}
Var operator*(const Var& a, const Var& b) {
    return mul(a, b);
}

}  // namespace mc
