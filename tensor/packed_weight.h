// A weight as matrix products read it: NOTE [ Packed right operands ] in kernels/matmul.h.
#pragma once

#include "tensor/tensor.h"

namespace mc {

// w (N, K), contiguous f32, packed in `precision` (one that its device has: f32, bf16 or int16 on
// the CPU, bf16 or f16 on a GPU) for products x w^T, and anew when w was written to since; kept and
// freed with w's storage. As f32 it is packed when it is asked for the second time, and nothing (w
// itself will do) the first: a weight that is used once would only cost its memory twice.
PackedMatrix packed_weight(const Tensor& w, Precision precision);

}  // namespace mc
