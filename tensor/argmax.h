// Where the greatest value of each row stands.
#pragma once

#include "tensor/tensor.h"

namespace mc {

// x (..., C) f32 or f64 -> (...) i64 on the same device: the first of the greatest; NaN is greater
// than all.
Tensor argmax(const Tensor& x);

}  // namespace mc
