// Gradient checks: what backward says against differences of what forward says, in f64.
//
//     gradcheck("mul", {a, b}, [](const std::vector<Var>& in) { return mul(in[0], in[1]); });
//
// Small problems (inputs x outputs <= kFullJacobian): every entry of the Jacobian. All problems:
// v^T J u for random v and u, three of them for each input. Differences are central and of fourth
// order, (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12h with h = 1e-3: both the truncation and the
// rounding error are below 1e-11 for well-scaled functions, so that the tolerances can be 1e-6
// relative and 1e-8 absolute, and a backward that is off by a factor of 1.0001 fails. Kinks
// (relu at 0) must be farther than 2h from every input.
//
// Besides, the function must give the same bits when called twice (make generators inside it), the
// same bits on strided inputs as on contiguous ones, and the same gradient bits when one input
// alone is differentiated.
#pragma once

#include <functional>
#include <vector>

#include "autograd/tape.h"

namespace mc {

inline constexpr int64_t kFullJacobian = 4096;

// `inputs`: f64, any strides; the gradient is with respect to their values as they appear. `f`
// returns a value of any shape. Throws mc::Error with `name`, the input, the element and both
// values on the first mismatch.
void gradcheck(const char* name, const std::vector<Tensor>& inputs,
               const std::function<Var(const std::vector<Var>&)>& f);

}  // namespace mc
