// AdamW over named parameters, with PyTorch's semantics (moclip.md 5.3): parameters without a
// gradient are skipped altogether (no decay, no step count).
#pragma once

#include <string>
#include <vector>

#include "nn/module.h"
#include "tensor/formats/safetensors.h"

namespace mc::train {

struct AdamWOptions {
    double beta1 = 0.9, beta2 = 0.99, eps = 1e-8, weight_decay = 0;
};

class AdamW {
  public:
    explicit AdamW(const AdamWOptions& options) : options_(options) {}

    // Parameters whose learning rate is `rate_factor` times the step's.
    void add(const std::vector<std::pair<std::string, Var*>>& parameters, double rate_factor = 1);
    void add(const std::vector<std::pair<std::string, Var*>>& parameters, double rate_factor,
             double weight_decay);

    // Rate factor and weight decay of every parameter whose name begins with `prefix` from now on.
    void set(const std::string& prefix, double rate_factor, double weight_decay);
    void reset_moments();  // as a new optimiser

    // Global L2 norm of all gradients.
    double gradient_norm() const;
    // One step at rate `lr`, gradients times `scale` (clipping); gradients are cleared.
    void step(double lr, double scale = 1);
    void clear_gradients();

    // m.NAME, v.NAME (as the parameter) and k.NAME (steps done, i64 ()): for checkpoints.
    NamedTensors state() const;
    void load(const NamedTensors& state);

  private:
    struct Entry {
        std::string name;
        Var* parameter;
        double rate_factor, weight_decay;
        Tensor m, v;
        int64_t steps = 0;
    };
    AdamWOptions options_;
    std::vector<Entry> entries_;
};

// The factor that brings a gradient norm to at most `limit`: min(1, limit / (norm + 1e-6)); limit
// 0: 1.
double clip_factor(double norm, double limit);

}  // namespace mc::train
