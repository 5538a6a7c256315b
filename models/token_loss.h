// The training loss of BAMM and BAD: every motion weighs the same, whatever its length.
#pragma once

#include <vector>

#include "autograd/ops.h"

namespace mc {

struct TokenLoss {
    Var loss;             // () mean over motions of the mean cross-entropy of their first tokens
    double accuracy = 0;  // top-1 over the same tokens
};

// logits (B, n, classes), labels (B, n) i64; of row b the first counts[b] >= 1 tokens count.
TokenLoss token_loss(const Var& logits, const Tensor& labels, const std::vector<int64_t>& counts);

}  // namespace mc
