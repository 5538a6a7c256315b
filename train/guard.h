// Stops a run at the first number that is not finite, with the step and the tensor named, before a
// checkpoint could keep it.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>

#include "tensor/finite.h"
#include "tensor/formats/safetensors.h"

namespace mc::train {

// A checkpoint may have been written between where a run went wrong and where that showed, and a
// run's settings are its own: another rate is another run.
inline constexpr const char* kDiverged =
    "; begin anew from an earlier checkpoint with --start and a lower learning rate (--set lr=...) "
    "in another --out folder";

// Error "step 120: loss is nan; ..." unless the value is finite.
inline void guard_value(int64_t step, const std::string& name, double value) {
    if (std::isfinite(value)) return;
    const char* what = std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
    throw Error("step " + std::to_string(step) + ": " + name + " is " + what + kDiverged);
}

// Error "step 120: gradient of w: nan at (0, 3) of shape (4, 4); ..." for the first such tensor.
// `kind` is what they are: "gradient", "weight".
inline void guard_tensors(int64_t step, const std::string& kind, const NamedTensors& tensors) {
    for (const auto& [name, tensor] : tensors) {
        if (!find_not_finite(tensor)) continue;
        try {
            check_finite(kind + " of " + name, tensor);
        } catch (const Error& e) {
            throw Error("step " + std::to_string(step) + ": " + e.what() + kDiverged);
        }
    }
}

}  // namespace mc::train
