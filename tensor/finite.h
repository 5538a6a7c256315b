// The first element of a tensor that is not a finite number.
#pragma once

#include <optional>
#include <string>

#include "tensor/tensor.h"

namespace mc {

struct NotFinite {
    Shape index;   // where, as many entries as the tensor has dimensions
    double value;  // NaN or an infinity
};

// The first NaN or infinity in row-major order; nothing for integers and booleans.
std::optional<NotFinite> find_not_finite(const Tensor& x);

// Error "NAME: nan at (3, 5) of shape (8, 16)" if there is one.
void check_finite(const std::string& name, const Tensor& x);

}  // namespace mc
