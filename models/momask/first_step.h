// The first step of a generation knows the text, the length and the tokens that stay, and nothing
// of the seed. So candidates of one prompt begin with the same logits, and all motions of a length
// with the same unconditional ones: they are kept.
#pragma once

#include <functional>
#include <list>
#include <mutex>

#include "kernels/dtype.h"
#include "models/momask/trunk.h"

namespace mc::momask {

class FirstStep {
  public:
    static constexpr size_t kMost = 64;  // inputs; MoMask has 49 lengths

    // What the step reads, on the CPU: ids i64 and padding bool (B, n), cond (B, clip_dim).
    struct Input {
        Tensor ids, padding, cond;
        bool guided;
    };
    // The logits of `input`. compute(both) makes what is not held: both branches, or the
    // conditional one alone. `weights`: the fingerprint of what they are computed with; all is
    // dropped when it is not the time before's.
    Branches operator()(const Input& input, const std::vector<uint64_t>& weights,
                        const std::function<Branches(bool both)>& compute);

  private:
    struct Entry {
        Input input;
        Precision products;
        Branches logits;
    };
    std::list<Entry>::iterator find(const Input& input, Precision products,
                                    const std::vector<uint64_t>& weights);

    std::mutex mutex_;
    std::vector<uint64_t> weights_;
    std::list<Entry> entries_;  // used last first
};

}  // namespace mc::momask
