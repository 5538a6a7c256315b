#include "autograd/tape.h"

namespace mc {
namespace {

thread_local Tape* current_tape = nullptr;

}  // namespace

Tape* Tape::current() {
    return current_tape;
}

Tape::Recording::Recording(Tape& tape) : previous_(current_tape) {
    current_tape = &tape;
}
Tape::Recording::~Recording() {
    current_tape = previous_;
}
Tape::Pause::Pause() : previous_(current_tape) {
    current_tape = nullptr;
}
Tape::Pause::~Pause() {
    current_tape = previous_;
}

Var Tape::record(std::unique_ptr<Node> node, Tensor value) {
    Var out(std::move(value), requires_grad);
    node->output = out.slot();
    nodes_.push_back(std::move(node));
    return out;
}

bool Tape::takes_dropout(const std::shared_ptr<GradSlot>& slot, double p,
                         const RandomStream& stream) {
    // Two holders: the node and the caller.
    return !nodes_.empty() && nodes_.back()->output == slot && slot.use_count() == 2 &&
           nodes_.back()->takes_dropout(p, stream);
}

void Tape::backward(const Var& loss) {
    if (loss.numel() != 1)
        throw Error("[backward] the loss has shape " + loss.shape().str() + ", want one element");
    backward(loss, Tensor::full(loss.shape(), 1, loss.dtype(), loss.value().device()));
}

void Tape::clear() {
    for (const auto& node : nodes_) node->output->spent = true;
    nodes_.clear();
}

void Tape::backward(const Var& output, Tensor grad) {
    if (!output.has_grad_slot())
        throw Error(
            "[backward] the loss depends on nothing that is differentiated; was it recorded?");
    if (!(grad.shape() == output.shape()))
        throw Error("[backward] gradient " + grad.shape().str() + " for an output of shape " +
                    output.shape().str());
    if (grad.dtype() != output.dtype())
        throw Error(std::string("[backward] a gradient in ") + name_of(grad.dtype()) +
                    " for an output in " + name_of(output.dtype()));
    Pause pause;
    struct Emptied {  // also if a node throws: what is left belongs to no later step
        Tape& tape;
        ~Emptied() { tape.clear(); }
    } emptied{*this};
    accumulate(output.slot(), std::move(grad));
    while (!nodes_.empty()) {
        std::unique_ptr<Node> node = std::move(nodes_.back());
        nodes_.pop_back();
        node->output->spent = true;
        if (!node->output->grad.defined()) continue;
        Tensor arrived = node->output->grad.contiguous();
        node->output->grad = Tensor();
        node->backward(std::move(arrived));
    }
}

namespace {

void check_open(const GradSlot& slot) {
    if (slot.spent)
        throw Error("[backward] a value of shape " + slot.shape.str() +
                    " was recorded before an earlier backward, which has used the recording up; "
                    "compute it anew, or take its value() as a constant");
}

}  // namespace

void accumulate(const std::shared_ptr<GradSlot>& slot, Tensor grad) {
    if (!slot || !grad.defined()) return;
    check_open(*slot);
    if (!(grad.shape() == slot->shape))
        throw Error("[accumulate] gradient " + grad.shape().str() + " for a value of shape " +
                    slot->shape.str());
    if (!slot->grad.defined()) {
        slot->grad = std::move(grad);
        return;
    }
    if (!slot->grad.is_sole()) std::swap(slot->grad, grad);  // perhaps that one can take the sum
    const Tensor add = grad.contiguous();
    Tensor sum = grad_buffer(slot);
    dispatch_float(sum.dtype(), "accumulate", [&](auto zero) {
        using T = decltype(zero);
        backend(sum.device())
            .table<T>()
            .axpy(default_context(sum.device()), sum.ptr<T>(), add.ptr<T>(), T{1}, sum.numel());
    });
}

Tensor grad_buffer(const std::shared_ptr<GradSlot>& slot) {
    check_open(*slot);
    Tensor& grad = slot->grad;
    if (!grad.defined())
        grad = Tensor::zeros(slot->shape, slot->dtype, slot->device);
    else if (!grad.is_sole() || !grad.is_contiguous())
        grad = grad.clone();
    return grad;
}

Tensor reduce_to(const Tensor& grad, const Shape& shape) {
    if (grad.shape() == shape) return grad;
    Tensor g = grad.contiguous();
    auto sum_axis = [&](int axis, bool keep) {
        int64_t outer = 1, inner = 1;
        Shape reduced;
        for (int i = 0; i < g.dims(); ++i) {
            if (i < axis) outer *= g.size(i);
            if (i > axis) inner *= g.size(i);
            if (i != axis)
                reduced.push_back(g.size(i));
            else if (keep)
                reduced.push_back(1);
        }
        Tensor out = Tensor::empty(reduced, g.dtype(), g.device());
        dispatch_float(g.dtype(), "reduce_to", [&](auto zero) {
            using T = decltype(zero);
            backend(g.device())
                .table<T>()
                .sum(default_context(g.device()), out.ptr<T>(), g.ptr<T>(), T{1}, outer,
                     g.size(axis), inner);
        });
        g = out;
    };
    while (g.dims() > shape.size()) sum_axis(0, false);
    for (int i = 0; i < shape.size(); ++i)
        if (shape[i] == 1 && g.size(i) != 1) sum_axis(i, true);
    if (!(g.shape() == shape))
        throw Error("[reduce_to] " + grad.shape().str() + " does not reduce to " + shape.str());
    return g;
}

}  // namespace mc
