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
    // The device that computes; at first the CPU, where prompts' embeddings come back to.
    virtual void to(DeviceType device) = 0;
    virtual int64_t width() const = 0;
    // (prompts, width) f32, not normalised. Equal prompts are computed once.
    virtual Tensor encode(const std::vector<std::string>& prompts) = 0;

    // Word features, for generators that attend to them (generators.md 2.6): (prompts, context,
    // word_width) f32, one row a position, those after the end included.
    virtual int64_t word_width() const = 0;
    virtual Tensor words(const std::vector<std::string>& prompts) = 0;

    // No prompts but these will be asked for, of encode() and where `words` is set of words(): they
    // are encoded now, each alone, and the weights are freed. Nothing where those take less memory.
    virtual void keep_only(const std::vector<std::string>&, bool /*words*/) {}

    // What the last call of encode() or words() had to change, a line a prompt: those that are too
    // long.
    virtual const std::vector<std::string>& warnings() const = 0;
};

}  // namespace mc
