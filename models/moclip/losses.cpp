#include "models/moclip/losses.h"

#include <numeric>

namespace mc::moclip {
namespace {

Tensor diagonal(int64_t n) {
    std::vector<int64_t> ids(static_cast<size_t>(n));
    std::iota(ids.begin(), ids.end(), 0);
    return Tensor::from_ids(ids, {n});
}

}  // namespace

Var contrastive_loss(const Var& zm, const Var& zs, const Var& logit_scale) {
    const Var logits = mul(matmul(zm, zs, false, true), exp(logit_scale));
    const Tensor target = diagonal(zm.size(0));
    return scale(cross_entropy(logits, target) + cross_entropy(transpose(logits, 0, 1), target),
                 0.5);
}

Var contrastive_loss_matrix(const Var& zm, const Var& zs, const Var& matrix) {
    const Tensor target = diagonal(zm.size(0));
    const Var motion_to_text = matmul(matmul(zm, matrix), zs, false, true);
    const Var text_to_motion = matmul(matmul(zs, matrix), zm, false, true);
    return scale(cross_entropy(motion_to_text, target) + cross_entropy(text_to_motion, target),
                 0.5);
}

Var distill_loss(const Var& zs, const Tensor& zt, DistillReduction reduction) {
    const Var squared = square(zs - Var(zt));
    return reduction == DistillReduction::element_mean
               ? mean(squared)
               : scale(sum(squared), 1.0 / static_cast<double>(zs.size(0)));
}

Var alignment_loss(const Var& zm, const Var& zs) {
    return affine(sum(l2_normalize(zm) * l2_normalize(zs)), -1.0 / static_cast<double>(zm.size(0)),
                  1.0);
}

}  // namespace mc::moclip
