#include "autograd/common.h"

namespace mc {
using namespace detail;

namespace {

struct GruCellNode : Node {
    Slot input, state, h;
    Saved state_value, h_value;
    Tensor gates, on;
    const char* name() const override { return "gru_cell"; }
    void backward(Tensor grad) override {
        const Tensor from_state = state_value.get("gru_cell"), old = h_value.get("gru_cell");
        const Tensor dinput = empty_like(gates), dstate = empty_like(gates), dh = empty_like(grad);
        dispatch_float(grad.dtype(), "gru_cell", [&](auto zero) {
            using T = decltype(zero);
            typename GruKernels<T>::CellBackwardArgs args{};
            args.dinput = dinput.ptr<T>();
            args.dstate = dstate.ptr<T>();
            args.dh = dh.ptr<T>();
            args.dnext = grad.ptr<T>();
            args.gates = gates.ptr<T>();
            args.state = from_state.ptr<T>();
            args.h = old.ptr<T>();
            args.on = data_or_null<bool>(on);
            args.rows = grad.size(0);
            args.width = grad.size(1);
            table<T>(grad).gru_cell_backward(context(grad), args);
        });
        accumulate(input, dinput);
        accumulate(state, dstate);
        accumulate(h, dh);
    }
};

}  // namespace

Var gru_cell(const Var& input, const Var& state, const Var& h, const Tensor& on) {
    check_alike("gru_cell", input.value(), state.value());
    check_alike("gru_cell", input.value(), h.value());
    if (h.value().dims() != 2 || !(input.shape() == Shape{h.size(0), 3 * h.size(1)}) ||
        !(state.shape() == input.shape()) ||
        (on.defined() && (on.dtype() != DType::boolean || !(on.shape() == Shape{h.size(0)}))))
        throw Error("[gru_cell] got state " + h.shape().str() + ", gates " + input.shape().str() +
                    " and " + state.shape().str() +
                    (on.defined() ? ", rows " + on.shape().str() : "") +
                    "; want (B, H), (B, 3 H) twice, bool (B)");
    const Tensor from_input = input.value().contiguous(), from_state = state.value().contiguous(),
                 old = h.value().contiguous();
    const bool record = recording(input, state, h);
    const Tensor next = empty_like(old), gates = record ? empty_like(from_input) : Tensor(),
                 rows = on.defined() ? index_on(old.device(), on) : Tensor();
    dispatch_float(old.dtype(), "gru_cell", [&](auto zero) {
        using T = decltype(zero);
        typename GruKernels<T>::CellArgs args{};
        args.next = next.ptr<T>();
        args.gates = record ? gates.ptr<T>() : nullptr;
        args.input = from_input.ptr<T>();
        args.state = from_state.ptr<T>();
        args.h = old.ptr<T>();
        args.on = data_or_null<bool>(rows);
        args.rows = old.size(0);
        args.width = old.size(1);
        table<T>(old).gru_cell(context(old), args);
    });
    if (!record) return next;
    auto node = std::make_unique<GruCellNode>();
    node->input = input.slot();
    node->state = state.slot();
    node->h = h.slot();
    node->state_value = Saved(from_state);
    node->h_value = Saved(old);
    node->gates = gates;
    node->on = rows;
    return Tape::current()->record(std::move(node), next);
}

}  // namespace mc
