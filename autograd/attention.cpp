#include "autograd/common.h"

namespace mc {
using namespace detail;

namespace {

// Where q, k and v lie: views of one packed tensor or three tensors. All (B, L, D) with contiguous
// rows.
struct Operands {
    Tensor q, k, v;
};

Operands thirds(const Tensor& qkv) {
    const int64_t d = qkv.size(-1) / 3;
    return {qkv.slice(-1, 0, d), qkv.slice(-1, d, 2 * d), qkv.slice(-1, 2 * d, 3 * d)};
}

template <class T>
AttentionArgs<T> arguments(const Operands& in, const Tensor& out, const Tensor& lse,
                           const AttentionOptions& options, RandomStream stream) {
    AttentionArgs<T> args;
    args.out = out.ptr<T>();
    args.lse = lse.defined() ? lse.ptr<T>() : nullptr;
    args.q = in.q.ptr<T>();
    args.k = in.k.ptr<T>();
    args.v = in.v.ptr<T>();
    args.batch = in.q.size(0);
    args.heads = options.heads;
    args.head_dim = in.q.size(2) / options.heads;
    args.lq = in.q.size(1);
    args.lk = in.k.size(1);
    args.q_batch = in.q.strides()[0];
    args.q_row = in.q.strides()[1];
    args.k_batch = in.k.strides()[0];
    args.k_row = in.k.strides()[1];
    args.v_batch = in.v.strides()[0];
    args.v_row = in.v.strides()[1];
    args.out_batch = out.strides()[0];
    args.out_row = out.strides()[1];
    args.scale = 1.0 / std::sqrt(static_cast<double>(args.head_dim));
    args.causal = options.causal;
    args.key_padding = data_or_null<bool>(options.key_padding);
    args.mask = data_or_null<bool>(options.mask);
    args.mask_batch = options.mask.defined() && options.mask.dims() == 3 ? args.lq * args.lk : 0;
    args.dropout = options.dropout;
    args.random = stream;
    return args;
}

struct AttentionNode : Node {
    Slot packed;   // qkv, or
    Slot q, k, v;  // three
    Saved q_value, k_value, v_value, out_value;
    Tensor lse;  // (B, H, Lq)
    AttentionOptions options;
    RandomStream stream;
    const char* name() const override { return "attention"; }
    void backward(Tensor grad) override {
        const Operands in{q_value.get("attention"), k_value.get("attention"),
                          v_value.get("attention")};
        Operands d;
        Tensor dqkv;
        if (packed) {
            dqkv = Tensor::empty(packed->shape, grad.dtype(), grad.device());
            d = thirds(dqkv);
        } else {
            d = {empty_like(in.q), empty_like(in.k), empty_like(in.v)};
        }
        dispatch_float(grad.dtype(), "attention", [&](auto zero) {
            using T = decltype(zero);
            AttentionBackwardArgs<T> args;
            args.forward = arguments<T>(in, out_value.get("attention"), lse, options, stream);
            args.dout = grad.ptr<T>();
            args.dq = d.q.ptr<T>();
            args.dk = d.k.ptr<T>();
            args.dv = d.v.ptr<T>();
            table<T>(grad).attention_backward(context(grad), args);
        });
        if (packed) {
            accumulate(packed, dqkv);
        } else {
            accumulate(q, d.q);
            accumulate(k, d.k);
            accumulate(v, d.v);
        }
    }
};

void check(const Operands& in, const AttentionOptions& options) {
    const int64_t b = in.q.size(0), lq = in.q.size(1), lk = in.k.size(1);
    if (options.heads < 1 || in.q.size(2) % options.heads != 0)
        throw Error("[attention] width " + std::to_string(in.q.size(2)) + " is no multiple of " +
                    std::to_string(options.heads) + " heads");
    if (!(in.k.shape() == in.v.shape()) || in.k.size(0) != b || in.k.size(2) != in.q.size(2))
        throw Error("[attention] got q " + in.q.shape().str() + ", k " + in.k.shape().str() +
                    ", v " + in.v.shape().str());
    if (options.key_padding.defined() && !(options.key_padding.shape() == Shape{b, lk}))
        throw Error("[attention] key padding " + options.key_padding.shape().str() + ", want " +
                    Shape{b, lk}.str());
    if (options.mask.defined() && !(options.mask.shape() == Shape{lq, lk}) &&
        !(options.mask.shape() == Shape{b, lq, lk}))
        throw Error("[attention] mask " + options.mask.shape().str() + ", want " +
                    Shape{lq, lk}.str() + " or " + Shape{b, lq, lk}.str());
    check_alike("attention", in.q, in.k);
    check_alike("attention", in.q, in.v);
    if (options.dropout < 0 || options.dropout >= 1)
        throw Error("[attention] dropout " + std::to_string(options.dropout) + ", want [0, 1)");
    if (options.dropout > 0 && !options.generator)
        throw Error("[attention] dropout without a generator");
}

struct Result {
    Tensor out, lse;
    AttentionOptions options;
    RandomStream stream;
};

Result forward(const Operands& in, const AttentionOptions& wanted, bool record) {
    check(in, wanted);
    Result r;
    r.options = wanted;
    for (Tensor* mask : {&r.options.key_padding, &r.options.mask})
        if (mask->defined()) *mask = index_on(in.q.device(), *mask);
    if (wanted.dropout > 0) r.stream = wanted.generator->stream();
    r.options.generator = nullptr;
    r.out = Tensor::empty(in.q.shape(), in.q.dtype(), in.q.device());
    if (record)
        r.lse =
            Tensor::empty({in.q.size(0), wanted.heads, in.q.size(1)}, in.q.dtype(), in.q.device());
    dispatch_float(in.q.dtype(), "attention", [&](auto zero) {
        using T = decltype(zero);
        table<T>(in.q).attention(context(in.q),
                                 arguments<T>(in, r.out, r.lse, r.options, r.stream));
    });
    return r;
}

std::unique_ptr<AttentionNode> node_of(const Operands& in, const Result& r) {
    auto node = std::make_unique<AttentionNode>();
    node->q_value = Saved(in.q);
    node->k_value = Saved(in.k);
    node->v_value = Saved(in.v);
    node->out_value = Saved(r.out);
    node->lse = r.lse;
    node->options = r.options;
    node->stream = r.stream;
    return node;
}

}  // namespace

Var attention(const Var& qkv, const AttentionOptions& options) {
    if (qkv.dims() != 3 || qkv.size(2) % 3 != 0)
        throw Error("[attention] got " + qkv.shape().str() + ", want (B, L, 3 D)");
    const Operands in = thirds(qkv.value().contiguous());
    const bool record = recording(qkv);
    const Result r = forward(in, options, record);
    if (!record) return r.out;
    auto node = node_of(in, r);
    node->packed = qkv.slot();
    return Tape::current()->record(std::move(node), r.out);
}

Var attention(const Var& q, const Var& k, const Var& v, const AttentionOptions& options) {
    if (q.dims() != 3 || k.dims() != 3 || v.dims() != 3)
        throw Error("[attention] got q " + q.shape().str() + ", k " + k.shape().str() + ", v " +
                    v.shape().str() + ", want (B, L, D) each");
    const bool record = recording(q, k, v);
    const auto operand = [&](const Tensor& t) {
        return !record && t.strides()[2] == 1 ? t : t.contiguous();
    };
    const Operands in{operand(q.value()), operand(k.value()), operand(v.value())};
    const Result r = forward(in, options, record);
    if (!record) return r.out;
    auto node = node_of(in, r);
    node->q = q.slot();
    node->k = k.slot();
    node->v = v.slot();
    return Tape::current()->record(std::move(node), r.out);
}

}  // namespace mc
