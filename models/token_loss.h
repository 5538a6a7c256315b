// What the transformers over tokens learn by and are judged by.
#pragma once

#include <vector>

#include "autograd/ops.h"

namespace mc {

// Top-1 accuracy. The likeliest classes are found where the logits are; value() alone waits for
// them, and copies no more than ids: a training step asks when its backward is on the way.
class TokenAccuracy {
  public:
    TokenAccuracy() = default;
    // logits (..., classes), labels (...) i64 on the CPU; a label `ignore` does not count.
    TokenAccuracy(const Tensor& logits, const Tensor& labels, int64_t ignore);
    double value() const;  // 0 if nothing counts

  private:
    Tensor likeliest_, labels_;  // (...) i64
    int64_t ignore_ = 0;
};

struct TokenLoss {
    Var loss;                // () mean over motions of the mean cross-entropy of their first tokens
    TokenAccuracy accuracy;  // over the same tokens
};

// The training loss of BAMM and BAD: every motion weighs the same, whatever its length. logits (B,
// n, classes), labels (B, n) i64; of row b the first counts[b] >= 1 tokens count.
TokenLoss token_loss(const Var& logits, const Tensor& labels, const std::vector<int64_t>& counts);

}  // namespace mc
