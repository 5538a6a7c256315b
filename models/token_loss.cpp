#include "models/token_loss.h"

#include <algorithm>

namespace mc {

TokenLoss token_loss(const Var& logits, const Tensor& labels_in,
                     const std::vector<int64_t>& counts) {
    const int64_t batch = logits.size(0), n = logits.size(1), classes = logits.size(2);
    const Tensor labels = labels_in.contiguous();
    const Tensor values = logits.value().to(DType::f32).contiguous();
    // Where each token's log-probability stands; -1: it does not count.
    Tensor place = Tensor::empty({batch * n}, DType::i64);
    std::vector<float> weights(static_cast<size_t>(batch * n));
    int64_t right = 0, asked = 0;
    for (int64_t b = 0; b < batch; ++b) {
        if (counts[b] < 1 || counts[b] > n)
            throw Error("[token_loss] " + std::to_string(counts[b]) + " tokens of " +
                        std::to_string(n));
        for (int64_t i = 0; i < n; ++i) {
            const int64_t at = b * n + i, label = labels.data<int64_t>()[at];
            const bool counted = i < counts[b];
            place.data<int64_t>()[at] = counted ? at * classes + label : -1;
            if (!counted) continue;
            if (label < 0 || label >= classes)
                throw Error("[token_loss] label " + std::to_string(label) + " of " +
                            std::to_string(classes) + " classes");
            weights[at] = -1.0f / static_cast<float>(counts[b] * batch);
            const float* row = values.data<float>() + at * classes;
            ++asked;
            right += std::max_element(row, row + classes) - row == label;
        }
    }
    const Var log_p = reshape(log_softmax(logits), {batch * n * classes, 1});
    const Var chosen = embedding(log_p, place);  // (B n, 1)
    const Tensor scale = Tensor::from(weights, {batch * n, 1}).to(logits.dtype());
    return {sum(chosen * Var(scale)), static_cast<double>(right) / static_cast<double>(asked)};
}

}  // namespace mc
