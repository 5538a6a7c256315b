// Draws of tokens on the CPU. The order of sums and the functions of the C library are the
// reference's: recorded runs are replayed token for token.
#include "kernels/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/chunking.h"
#include "kernels/cpu/fill.h"
#include "kernels/cpu/thread_pool.h"

namespace mc {
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

bool has_distribution(const float* row, int64_t classes) {
    bool any = false, none = false;
    for (int64_t c = 0; c < classes; ++c) {
        any |= row[c] > -INFINITY;
        none |= !(row[c] < INFINITY);
    }
    return any && !none;
}

// p is scratch.
int64_t categorical(const float* row, const std::vector<int64_t>& kept, float temperature, float u,
                    std::vector<float>& p) {
    float top = -INFINITY;
    for (int64_t i : kept) top = std::max(top, row[i] / temperature);
    p.resize(kept.size());
    float sum = 0;
    for (size_t i = 0; i < kept.size(); ++i)
        sum += p[i] = std::exp(row[kept[i]] / temperature - top);
    double total = 0;
    for (float& x : p) total += x /= sum;
    const double target = static_cast<double>(u) * total;
    double cumulative = 0;
    size_t at = 0;
    while (at + 1 < kept.size() && (cumulative += static_cast<double>(p[at])) <= target) ++at;
    return kept[at];
}

float guarded_log(float x) {
    return std::log(std::max(x, 1e-20f));
}

int64_t gumbel(const float* row, const std::vector<int64_t>& kept, float temperature,
               const float* u) {
    float best = -INFINITY;
    int64_t id = kept[0];
    for (int64_t i : kept) {
        float score = row[i] / temperature;
        if (u) score += -guarded_log(-guarded_log(u[i]));
        if (score > best) {
            best = score;
            id = i;
        }
    }
    return id;
}

float probability_of(const float* row, int64_t classes, int64_t id) {
    const float top = *std::max_element(row, row + classes);
    double sum = 0;
    for (int64_t c = 0; c < classes; ++c) sum += std::exp(static_cast<double>(row[c] - top));
    return static_cast<float>(std::exp(static_cast<double>(row[id] - top)) / sum);
}

// choose(row index, row, kept positions, scratch) gives the class.
template <class Choose>
void draw(Context& context, const DrawArgs& a, const Choose& choose) {
    context.pool->for_ranges(a.rows, rows_per_chunk(a.classes), [&](int64_t begin, int64_t end) {
        std::vector<int64_t> kept;
        std::vector<float> scratch;
        for (int64_t r = begin; r < end; ++r) {
            float p = a.otherwise;
            if (!a.drawn || a.drawn[r]) {
                const float* row = a.logits + r * a.classes;
                int64_t id = -1;
                p = std::numeric_limits<float>::quiet_NaN();
                if (has_distribution(row, a.classes)) {
                    kept_positions(row, a.classes, a.k, kept);
                    id = choose(r, row, kept, scratch);
                    if (a.probability) p = probability_of(row, a.classes, id);
                }
                a.id[r * a.id_stride] = id;
            }
            if (a.probability) a.probability[r * a.probability_stride] = p;
        }
    });
}

void draw_categorical(Context& context, const DrawArgs& a) {
    draw(context, a, [&](int64_t r, const float* row, const auto& kept, auto& scratch) {
        return categorical(row, kept, a.temperature, a.u[r], scratch);
    });
}

void draw_gumbel(Context& context, const DrawArgs& a) {
    draw(context, a, [&](int64_t r, const float* row, const auto& kept, auto&) {
        return gumbel(row, kept, a.temperature, a.u ? a.u + r * a.classes : nullptr);
    });
}

}  // namespace

void fill_sampling(Backend& b) {
    b.sampling.draw_categorical = draw_categorical;
    b.sampling.draw_gumbel = draw_gumbel;
}

}  // namespace mc
