// A weight as matrix products read it: NOTE [ Packed right operands ] in kernels/matmul.h.
#pragma once

#include "tensor/tensor.h"

namespace mc {

// w (N, K), contiguous f32 on the CPU, packed as `dtype` (f32 or bf16) for products x w^T. Packed
// when first asked for, and anew when w was written to since; kept and freed with w's storage.
PackedMatrix packed_weight(const Tensor& w, DType dtype);

}  // namespace mc
