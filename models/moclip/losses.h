// MoCLIP's objective (paper eqs. 1-5; moclip.md 4): contrastive + lambda distill + alignment, on
// unit vectors.
#pragma once

#include "autograd/ops.h"

namespace mc::moclip {

// Mean over all N E elements, as the published code (1/E of the paper's), or over samples of the
// squared distance.
enum class DistillReduction { element_mean, sample_sum };

// zm, zs (N, E) unit rows. With the scalar `logit_scale` (): L = exp(logit_scale) zm zs^T, half the
// sum of the cross-entropies of L and L^T with the diagonal as target.
Var contrastive_loss(const Var& zm, const Var& zs, const Var& logit_scale);
// With a matrix W (E, E): logits zm W zs^T and zs W zm^T (paper, eq. 2).
Var contrastive_loss_matrix(const Var& zm, const Var& zs, const Var& matrix);
Var distill_loss(const Var& zs, const Tensor& zt, DistillReduction reduction);
Var alignment_loss(const Var& zm, const Var& zs);  // 1 - mean cosine

}  // namespace mc::moclip
