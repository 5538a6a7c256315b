// The ascending order of rows: equal values in increasing position, NaN last.
#pragma once

#include "tensor/tensor.h"

namespace mc {

// x (..., n) f32 or f64 -> (..., n) i64 on the same device: the position of what stands at each
// place of the order.
Tensor argsort(const Tensor& x);
// The other way around: the place of each position.
Tensor ranks(const Tensor& x);

}  // namespace mc
