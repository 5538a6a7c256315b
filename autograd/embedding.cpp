#include "autograd/common.h"

namespace mc {
using namespace detail;

namespace {

struct EmbeddingNode : Node {
    Slot rows;
    Saved ids;
    const char* name() const override { return "embedding"; }
    void backward(Tensor grad) override {
        Tensor sum = grad_buffer(rows);
        const Tensor id = ids.get("embedding");
        dispatch_float(grad.dtype(), "embedding", [&](auto zero) {
            using T = decltype(zero);
            table<T>(grad).scatter_add_rows(context(grad), sum.ptr<T>(), grad.ptr<T>(),
                                            id.ptr<int64_t>(), id.numel(), grad.size(-1),
                                            sum.size(0));
        });
    }
};

// Ids on a GPU are a kernel's own result (the nearest code, the greatest logit).
void check_ids(const Tensor& ids, const Tensor& rows) {
    if (ids.device() != DeviceType::cpu) return;
    const Tensor id = ids.contiguous();
    for (int64_t i = 0; i < id.numel(); ++i)
        if (id.data<int64_t>()[i] >= rows.size(0))
            throw Error("[embedding] id " + std::to_string(id.data<int64_t>()[i]) + " at " +
                        std::to_string(i) + " for a table " + rows.shape().str());
}

struct StraightThroughNode : Node {
    Slot x;
    double gain;
    const char* name() const override { return "straight_through"; }
    void backward(Tensor grad) override {
        accumulate(x, gain == 1 ? grad : affine(Var(grad), gain, 0).value());
    }
};

}  // namespace

Var embedding(const Var& rows, const Tensor& ids) {
    if (rows.dims() != 2)
        throw Error("[embedding] got a table " + rows.shape().str() + ", want (V, C)");
    const Tensor source = rows.value().contiguous();
    check_ids(ids, source);
    const Tensor id = index_on(source.device(), ids);
    const int64_t n = id.numel();
    Shape shape = id.shape();
    shape.push_back(source.size(1));
    Tensor out = Tensor::empty(shape, source.dtype(), source.device());
    dispatch_float(source.dtype(), "embedding", [&](auto zero) {
        using T = decltype(zero);
        table<T>(source).gather_rows(context(source), out.ptr<T>(), source.ptr<T>(),
                                     id.ptr<int64_t>(), n, source.size(1));
    });
    if (!recording(rows)) return out;
    auto node = std::make_unique<EmbeddingNode>();
    node->rows = rows.slot();
    node->ids = Saved(id);
    return Tape::current()->record(std::move(node), out);
}

Var straight_through(const Tensor& value, const Var& x, double gain) {
    if (!(value.shape() == x.shape()))
        throw Error("[straight_through] value " + value.shape().str() + " for " + x.shape().str());
    if (!recording(x)) return value;
    auto node = std::make_unique<StraightThroughNode>();
    node->x = x.slot();
    node->gain = gain;
    return Tape::current()->record(std::move(node), value);
}

}  // namespace mc
