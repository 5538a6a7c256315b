#include "autograd/common.h"
#include "tensor/communicator.h"

namespace mc {
using namespace detail;

namespace {

// Every rank's value depends on every rank's rows, so a row's gradient is the sum over the ranks
// of what each has for it: the sum of all gradients, of which each rank keeps its own rows.
struct AllGatherNode : Node {
    Slot x;
    Share share{};
    Communicator* ranks;
    const char* name() const override { return "all_gather"; }
    void backward(Tensor grad) override {
        const Tensor sum = grad.clone();  // the gradient may be shared with another node
        ranks->all_reduce(sum);
        accumulate(x, sum.slice(0, share.begin, share.end).contiguous());
    }
};

}  // namespace

Var all_gather(const Var& x, const Share& share, Communicator& ranks) {
    if (ranks.size() == 1) return x;
    Tensor out = ranks.all_gather(x.value().contiguous(), share);
    if (!recording(x)) return out;
    auto node = std::make_unique<AllGatherNode>();
    node->x = x.slot();
    node->share = share;
    node->ranks = &ranks;
    return Tape::current()->record(std::move(node), std::move(out));
}

}  // namespace mc
