#include "models/token_loss.h"

#include "tensor/argmax.h"

namespace mc {

TokenAccuracy::TokenAccuracy(const Tensor& logits, const Tensor& labels, int64_t ignore)
    : likeliest_(argmax(logits)), labels_(labels.contiguous()), ignore_(ignore) {
    if (!(likeliest_.shape() == labels_.shape()))
        throw Error("[token_accuracy] got logits " + logits.shape().str() + " and labels " +
                    labels.shape().str());
}

double TokenAccuracy::value() const {
    const Tensor likeliest = likeliest_.cpu();
    int64_t right = 0, asked = 0;
    for (int64_t at = 0; at < labels_.numel(); ++at) {
        const int64_t label = labels_.data<int64_t>()[at];
        if (label == ignore_) continue;
        ++asked;
        right += likeliest.data<int64_t>()[at] == label;
    }
    return asked ? static_cast<double>(right) / static_cast<double>(asked) : 0;
}

TokenLoss token_loss(const Var& logits, const Tensor& labels_in,
                     const std::vector<int64_t>& counts) {
    const int64_t batch = logits.size(0), n = logits.size(1), classes = logits.size(2);
    constexpr int64_t kNotCounted = -1;
    const Tensor labels = labels_in.clone();
    // Where each token's log-probability stands.
    const Tensor place = Tensor::empty({batch * n}, DType::i64);
    std::vector<float> weights(static_cast<size_t>(batch * n));
    for (int64_t b = 0; b < batch; ++b) {
        if (counts[b] < 1 || counts[b] > n)
            throw Error("[token_loss] " + std::to_string(counts[b]) + " tokens of " +
                        std::to_string(n));
        for (int64_t i = 0; i < n; ++i) {
            const int64_t at = b * n + i;
            int64_t& label = labels.data<int64_t>()[at];
            const bool counted = i < counts[b];
            if (counted && (label < 0 || label >= classes))
                throw Error("[token_loss] label " + std::to_string(label) + " of " +
                            std::to_string(classes) + " classes");
            if (!counted) label = kNotCounted;
            place.data<int64_t>()[at] = counted ? at * classes + label : kNotCounted;
            if (counted) weights[at] = -1.0f / static_cast<float>(counts[b] * batch);
        }
    }
    const Var log_p = reshape(log_softmax(logits), {batch * n * classes, 1});
    const Var chosen = embedding(log_p, place);  // (B n, 1)
    const Tensor scale =
        Tensor::from(weights, {batch * n, 1}).to(logits.dtype()).to(logits.value().device());
    return {sum(chosen * Var(scale)), TokenAccuracy(logits.value(), labels, kNotCounted)};
}

}  // namespace mc
