// Looks on while a model runs: intermediate values by name, for comparison with recorded runs and
// for debugging. A tensor handed to it may be written to afterwards; keep a clone.
#pragma once

#include <functional>
#include <string>

#include "tensor/tensor.h"

namespace mc {

using Watch = std::function<void(const std::string& name, const Tensor& value)>;

}  // namespace mc
