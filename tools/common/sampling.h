// How a generator samples, as the command line says it: what is not said stays the model's.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>

#include "models/motion_generator.h"

namespace mc::tools {

struct SamplingChoice {  // GenerationOptions
    std::optional<int64_t> candidates, steps;
    std::optional<double> guidance, residual_guidance, temperature, top_k;
    std::optional<bool> order_agnostic;
    void apply_to(GenerationOptions& options) const;
};

// --candidates, --steps, --guidance, --residual-guidance, --temperature, --top-k and
// --order-agnostic.
void add_sampling_options(CLI::App& app, SamplingChoice& choice);

}  // namespace mc::tools
