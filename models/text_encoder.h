// Prompts to embeddings. CLIP, MoCLIP and the small default are the same class with other weights;
// a generator never knows which it got: that is the paper's drop-in replacement.
#pragma once

#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace mc {

class TextEncoder {
  public:
    virtual ~TextEncoder() = default;
    virtual int64_t width() const = 0;
    // (prompts, width) f32, not normalised. Equal prompts are computed once.
    virtual Tensor encode(const std::vector<std::string>& prompts) = 0;
};

}  // namespace mc
