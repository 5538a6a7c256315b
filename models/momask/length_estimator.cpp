#include "models/momask/length_estimator.h"

#include <cmath>

namespace mc::momask {

LengthEstimator::LengthEstimator(int64_t text_dim, int64_t classes, Generator* init)
    : classes_(classes),
      linear0_(text_dim, 512, init),
      norm1_(512),
      linear4_(512, 256, init),
      norm5_(256),
      linear8_(256, 128, init),
      norm9_(128),
      linear11_(128, classes, init) {
    add("output.0", linear0_);
    add("output.1", norm1_);
    add("output.4", linear4_);
    add("output.5", norm5_);
    add("output.8", linear8_);
    add("output.9", norm9_);
    add("output.11", linear11_);
}

Var LengthEstimator::logits(const Tensor& text, const nn::Pass& pass) const {
    Var x = nn::dropout(leaky_relu(norm1_(linear0_(Var(text.to(device())))), 0.2), 0.2, pass);
    x = nn::dropout(leaky_relu(norm5_(linear4_(x)), 0.2), 0.2, pass);
    return linear11_(leaky_relu(norm9_(linear8_(x)), 0.2));
}

std::vector<int64_t> LengthEstimator::sample(const Tensor& text, const Tensor& u) const {
    const Tensor p = softmax(logits(text)).value().cpu().to(DType::f32);
    std::vector<int64_t> lengths;
    for (int64_t b = 0; b < p.size(0); ++b) {
        const float* row = p.data<float>() + b * classes_;
        double total = 0;
        for (int64_t c = 1; c < classes_; ++c) total += static_cast<double>(row[c]);
        const double target = static_cast<double>(u.data<float>()[b]) * total;
        double cumulative = 0;
        int64_t at = 1;
        while (at + 1 < classes_ && (cumulative += static_cast<double>(row[at])) <= target) ++at;
        lengths.push_back(at);
    }
    return lengths;
}

}  // namespace mc::momask
