#include "models/momask/sampling.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

namespace mc::momask {
namespace {

// Positions of the k largest of a row, ties to the lower index, in ascending order of position.
void kept_positions(const float* row, int64_t classes, int64_t k, std::vector<int64_t>& kept) {
    kept.resize(static_cast<size_t>(classes));
    std::iota(kept.begin(), kept.end(), 0);
    if (k < classes) {
        std::nth_element(kept.begin(), kept.begin() + k, kept.end(), [&](int64_t a, int64_t b) {
            return row[a] > row[b] || (row[a] == row[b] && a < b);
        });
        kept.resize(static_cast<size_t>(k));
        std::sort(kept.begin(), kept.end());
    }
}

float guarded_log(float x) {
    return std::log(std::max(x, 1e-20f));
}

}  // namespace

int64_t top_k_count(double threshold, int64_t classes) {
    const double kept = std::ceil((1.0 - threshold) * static_cast<double>(classes));
    return std::clamp<int64_t>(static_cast<int64_t>(kept), 1, classes);
}

std::vector<int64_t> sample_categorical(const Tensor& logits, int64_t k, double temperature,
                                        const float* u) {
    const int64_t rows = logits.size(0), classes = logits.size(1);
    std::vector<int64_t> ids(static_cast<size_t>(rows)), kept;
    std::vector<float> p;
    const float tau = static_cast<float>(std::max(temperature, 1e-10));
    for (int64_t r = 0; r < rows; ++r) {
        const float* row = logits.data<float>() + r * classes;
        kept_positions(row, classes, k, kept);
        float top = -INFINITY;
        for (int64_t i : kept) top = std::max(top, row[i] / tau);
        p.resize(kept.size());
        float sum = 0;
        for (size_t i = 0; i < kept.size(); ++i) sum += p[i] = std::exp(row[kept[i]] / tau - top);
        double total = 0;
        for (float& x : p) total += x /= sum;
        const double target = static_cast<double>(u[r]) * total;
        double cumulative = 0;
        size_t at = 0;
        while (at + 1 < kept.size() && (cumulative += static_cast<double>(p[at])) <= target) ++at;
        ids[r] = kept[at];
    }
    return ids;
}

std::vector<int64_t> sample_gumbel(const Tensor& logits, int64_t k, double temperature,
                                   const float* u) {
    const int64_t rows = logits.size(0), classes = logits.size(1);
    std::vector<int64_t> ids(static_cast<size_t>(rows)), kept;
    const float tau = static_cast<float>(std::max(temperature, 1e-10));
    for (int64_t r = 0; r < rows; ++r) {
        const float* row = logits.data<float>() + r * classes;
        kept_positions(row, classes, k, kept);
        float best = -INFINITY;
        ids[r] = kept[0];
        for (int64_t i : kept) {
            float score = row[i] / tau;
            if (u) score += -guarded_log(-guarded_log(u[r * classes + i]));
            if (score > best) {
                best = score;
                ids[r] = i;
            }
        }
    }
    return ids;
}

std::vector<float> probability_of(const Tensor& logits, const std::vector<int64_t>& ids) {
    const int64_t rows = logits.size(0), classes = logits.size(1);
    std::vector<float> p(static_cast<size_t>(rows));
    for (int64_t r = 0; r < rows; ++r) {
        const float* row = logits.data<float>() + r * classes;
        const float top = *std::max_element(row, row + classes);
        double sum = 0;
        for (int64_t c = 0; c < classes; ++c) sum += std::exp(static_cast<double>(row[c] - top));
        p[r] = static_cast<float>(std::exp(static_cast<double>(row[ids[r]] - top)) / sum);
    }
    return p;
}

std::vector<int64_t> ranks(const float* values, int64_t n) {
    std::vector<int64_t> order(static_cast<size_t>(n)), rank(static_cast<size_t>(n));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return values[a] < values[b]; });
    for (int64_t i = 0; i < n; ++i) rank[order[i]] = i;
    return rank;
}

int64_t masked_count(float t, int64_t count) {
    const float ratio = std::cos(t * static_cast<float>(std::numbers::pi) * 0.5f);
    return std::max<int64_t>(
        1, static_cast<int64_t>(std::nearbyint(ratio * static_cast<float>(count))));
}

std::vector<float> time_grid(int64_t steps) {
    std::vector<float> t(static_cast<size_t>(steps));
    const float step = steps > 1 ? 1.0f / static_cast<float>(steps - 1) : 0.0f;
    // From both ends with one rounding each, as torch.linspace does: at 10 steps the difference
    // decides how many tokens are masked.
    for (int64_t i = 0; i < steps; ++i)
        t[i] = i < steps / 2 ? step * static_cast<float>(i)
                             : std::fma(-step, static_cast<float>(steps - 1 - i), 1.0f);
    if (steps == 1) t[0] = 0;
    return t;
}

}  // namespace mc::momask
