// The samplers' numerical primitives (generators.md 2.5).
#pragma once

#include <vector>

#include "tensor/tensor.h"

namespace mc::momask {

// How many of `classes` top_k keeps at a threshold: ceil((1 - threshold) classes) in double, at
// least 1.
int64_t top_k_count(double threshold, int64_t classes);

// How a token is drawn from each row of logits: of the k largest, by kernels/sampling.h's
// categorical rule or by its Gumbel rule. All tensors are where the logits are.
struct TokenDraws {
    int64_t k;
    double temperature = 1;
    bool gumbel = false;
    Tensor u = {};  // uniform draws (R), or (R, C) for Gumbel, where undefined is no noise (greedy)
    Tensor drawn = {};    // bool (R), false where an id stays; undefined: all are drawn
    float otherwise = 1;  // the probability of what stays
};
// ids (R), i64, and their probability (R), f32, unless undefined, get what is drawn from logits
// (R, C); both may be views with a stride.
void draw_tokens(const Tensor& ids, const Tensor& probability, const Tensor& logits,
                 const TokenDraws& how);
// An error if a draw found no distribution: ids, read back, hold -1.
void check_drawn(const Tensor& ids);
// The count[b] lowest of score (B, n) f32, ties to the lower index, become masked (B, n), and their
// ids (B, n) mask_id. count (B).
void mask_lowest(const Tensor& masked, const Tensor& ids, const Tensor& score, const Tensor& count,
                 int64_t mask_id);
// cos(pi t / 2) * count rounded half to even, in f32, at least 1.
int64_t masked_count(float t, int64_t count);
// torch.linspace(0, 1, steps) in f32.
std::vector<float> time_grid(int64_t steps);

}  // namespace mc::momask
