// The samplers' numerical primitives (generators.md 2.5).
#pragma once

#include <vector>

#include "tensor/tensor.h"

namespace mc::momask {

// How many of `classes` top_k keeps at a threshold: ceil((1 - threshold) classes) in double, at
// least 1.
int64_t top_k_count(double threshold, int64_t classes);

// Per row of logits (R, C): the k largest stay, softmax of the rest / temperature, one draw by the
// inverse CDF in double (index = number of i with cumsum_i <= u total). u (R).
std::vector<int64_t> sample_categorical(const Tensor& logits, int64_t k, double temperature,
                                        const float* u);
// Per row: argmax of (kept logits / temperature + Gumbel(u)); u (R, C); null: no noise (greedy).
std::vector<int64_t> sample_gumbel(const Tensor& logits, int64_t k, double temperature,
                                   const float* u);
// softmax(logits)[r, id[r]]
std::vector<float> probability_of(const Tensor& logits, const std::vector<int64_t>& ids);
// Position of each element in ascending order, ties to the lower index.
std::vector<int64_t> ranks(const float* values, int64_t n);
// cos(pi t / 2) * count rounded half to even, in f32, at least 1.
int64_t masked_count(float t, int64_t count);
// torch.linspace(0, 1, steps) in f32.
std::vector<float> time_grid(int64_t steps);

}  // namespace mc::momask
