// A cuDNN for the emulation: the few calls of include/cudnn.h, with plain loops, and as strict as
// the library may be about what a caller promises. Linked into a program whose symbols are
// exported, it is what kernels/cuda/dnn.cu finds.
//
// What it has nothing for, so that both ways back to our kernels are walked: f64 gradients of a
// weight (no algorithm keeps the promises of dnn.h), and kernels of 4 taps over 13 channels out
// (found out when it is called).
#pragma once

#include <cstddef>

namespace simt {

// Convolutions that were put on a stream since the process began, by pass.
struct Convolutions {
    size_t forward = 0, data = 0, weight = 0;
    bool operator==(const Convolutions&) const = default;
};
Convolutions library_convolutions();

}  // namespace simt
