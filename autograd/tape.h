// Reverse-mode automatic differentiation on a flat tape.
//
//     Var w(Tensor::from({2, 3}, {2}), requires_grad);   // a leaf: its gradient is kept
//     Tape tape;
//     {
//         Tape::Recording recording(tape);               // without one, operations build nothing
//         Var loss = sum(square(w));
//         tape.backward(loss);                           // w.grad() is now 2 w
//     }
//
// Nodes stand in the order of execution, which is a topological order, and are walked from the end:
// no search, no recursion, no reference cycles (rejected: a graph of shared pointers, which
// overflows the stack on long chains and cannot say what it holds). A node keeps the gradient slots
// of its inputs and of its output, and as named members the values that its backward needs, nothing
// else; both go when its backward has run.
//
// NOTE [ Saved tensors and versions ]
// A saved tensor remembers its storage's version; writing to a storage (optimiser step, copy_,
// fill_) raises the version, and a backward that finds another version than it saved fails with the
// operation's name instead of a wrong gradient.
//
// "No gradient" differs from "zero gradient": a branch that received none is skipped, and its slot
// stays undefined.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tensor/generator.h"
#include "tensor/tensor.h"

namespace mc {

// Where a gradient is gathered.
struct GradSlot {
    Tensor grad;         // undefined: none yet
    bool spent = false;  // what made the value is no longer on a tape: no gradient goes further
    Shape shape;
    DType dtype = DType::f32;
    DeviceType device = DeviceType::cpu;
};

struct RequiresGrad {};
inline constexpr RequiresGrad requires_grad{};

// A value and, if it is differentiated, the slot of its gradient. Cheap to copy; copies share both.
class Var {
  public:
    Var() = default;
    Var(Tensor value) : value_(std::move(value)) {}  // a constant
    Var(Tensor value, RequiresGrad)
        : value_(std::move(value)), slot_(std::make_shared<GradSlot>()) {
        slot_->shape = value_.shape();
        slot_->dtype = value_.dtype();
        slot_->device = value_.device();
    }
    Var(Tensor value, std::shared_ptr<GradSlot> slot)
        : value_(std::move(value)), slot_(std::move(slot)) {}

    bool defined() const { return value_.defined(); }
    const Tensor& value() const { return value_; }
    Tensor take_value() { return std::move(value_); }  // the slot stays
    const Shape& shape() const { return value_.shape(); }
    int64_t size(int dim) const { return value_.size(dim); }
    int dims() const { return value_.dims(); }
    int64_t numel() const { return value_.numel(); }
    DType dtype() const { return value_.dtype(); }
    bool has_grad_slot() const { return slot_ != nullptr; }
    const std::shared_ptr<GradSlot>& slot() const { return slot_; }
    const Tensor& grad() const {  // undefined if none arrived
        static const Tensor none;
        return slot_ ? slot_->grad : none;
    }
    void clear_grad() const {
        if (slot_) slot_->grad = Tensor();
    }
    void set_requires_grad(bool wanted) {  // leaves alone: freezing and releasing parameters
        if (!wanted)
            slot_.reset();
        else if (!slot_)
            *this = Var(value_, mc::requires_grad);
    }

  private:
    Tensor value_;
    std::shared_ptr<GradSlot> slot_;
};

// A tensor kept for backward. See NOTE [ Saved tensors and versions ].
class Saved {
  public:
    Saved() = default;
    explicit Saved(Tensor tensor)
        : tensor_(std::move(tensor)), version_(tensor_.defined() ? tensor_.version() : 0) {}
    const Tensor& get(const char* op) const {
        if (tensor_.defined() && tensor_.version() != version_)
            throw Error(
                std::string("[") + op + "] a tensor of shape " + tensor_.shape().str() +
                " saved for backward was written to since; step the optimiser after backward");
        return tensor_;
    }
    bool defined() const { return tensor_.defined(); }

  private:
    Tensor tensor_;
    uint32_t version_ = 0;
};

class Node {
  public:
    virtual ~Node() = default;
    virtual const char* name() const = 0;
    // `grad` is the output's gradient, contiguous, of its shape. Where nobody else holds its memory
    // the node may write over it.
    virtual void backward(Tensor grad) = 0;
    // The output goes through this dropout before anybody sees it: true if backward does both.
    virtual bool takes_dropout(double p, const RandomStream& stream) {
        (void)p, (void)stream;
        return false;
    }

    std::shared_ptr<GradSlot> output;

  protected:
    using Slot = std::shared_ptr<GradSlot>;
};

// Adds a gradient to a slot (null: dropped). The first one is taken over, not copied.
void accumulate(const std::shared_ptr<GradSlot>& slot, Tensor grad);
// The slot's gradient as a contiguous buffer nobody else holds, zeros if there was none: for
// kernels that add to it.
Tensor grad_buffer(const std::shared_ptr<GradSlot>& slot);
// Sums `grad` down to `shape`: undoes every broadcast.
Tensor reduce_to(const Tensor& grad, const Shape& shape);

class Tape {
  public:
    // While one lives, this thread's operations on values with slots are recorded on the tape.
    class Recording {
      public:
        explicit Recording(Tape& tape);
        ~Recording();
        Recording(const Recording&) = delete;
        Recording& operator=(const Recording&) = delete;

      private:
        Tape* previous_;
    };
    // While one lives, nothing is recorded.
    class Pause {
      public:
        Pause();
        ~Pause();
        Pause(const Pause&) = delete;
        Pause& operator=(const Pause&) = delete;

      private:
        Tape* previous_;
    };

    Tape() = default;
    ~Tape() { clear(); }
    Tape(const Tape&) = delete;
    Tape& operator=(const Tape&) = delete;

    static Tape* current();

    Var record(std::unique_ptr<Node> node, Tensor value);
    // The dropout of a value that was recorded last and that nobody else has: true if the value's
    // own node takes it in, and needs no node of its own.
    bool takes_dropout(const std::shared_ptr<GradSlot>& slot, double p, const RandomStream& stream);
    // d loss / d every leaf, added to what the leaves hold. The loss has one element. The tape is
    // empty afterwards.
    void backward(const Var& loss);
    // The same from a given gradient of `output`.
    void backward(const Var& output, Tensor grad);
    size_t size() const { return nodes_.size(); }
    void clear();

  private:
    std::vector<std::unique_ptr<Node>> nodes_;
};

// True if an operation on these must be recorded.
template <class... Vars>
bool recording(const Vars&... vars) {
    return Tape::current() && (vars.has_grad_slot() || ...);
}

inline Var detach(const Var& x) {
    return Var(x.value());
}

}  // namespace mc
