// A weight as matrix products and convolutions read it: a copy that is made once, kept and freed
// with the weight's storage, and made anew when that was written to since.
//
// As f32 a weight is packed when it is asked for the second time, and nothing (w itself will do)
// the first: a weight that is used once would only cost its memory twice.
#pragma once

#include "kernels/conv.h"
#include "tensor/tensor.h"

namespace mc {

// w (N, K), contiguous f32, packed in `precision` (one that its device has: f32, bf16 or int16 on
// the CPU, bf16 or f16 on a GPU) for products x w^T: NOTE [ Packed right operands ] in
// kernels/matmul.h.
PackedMatrix packed_weight(const Tensor& w, Precision precision);

// w (Cout, Cin, K), contiguous f32, as its device's conv1d wants it for `shape`; null: as it is.
const void* packed_weight(const Tensor& w, const ConvShape& shape);

}  // namespace mc
