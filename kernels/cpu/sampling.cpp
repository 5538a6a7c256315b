// Draws of tokens on the CPU. The order of sums and the functions of the C library are the
// reference's: recorded runs are replayed token for token.
#include "kernels/sampling.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>

#include "kernels/backend.h"
#include "kernels/cpu/chunking.h"
#include "kernels/cpu/fill.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/cpu/workspace.h"

namespace mc {
namespace {

// Order of floats (not NaN) as one of integers; -0 and 0 are the same.
int32_t order_of(float x) {
    const int32_t bits = std::bit_cast<int32_t>(x + 0.0f);
    return bits ^ (bits >> 31 & 0x7fffffff);
}

// Positions of the k largest of a row, ties to the lower index, in ascending order of position. The
// k-th largest by halving the range that it lies in: comparisons without branches, which the
// selection of elements has at every step. `keys` is scratch of so many classes.
std::span<const int64_t> kept_positions(const float* row, int64_t classes, int64_t k, int32_t* keys,
                                        int64_t* kept) {
    if (k >= classes) {
        std::iota(kept, kept + classes, 0);
        return {kept, static_cast<size_t>(classes)};
    }
    std::transform(row, row + classes, keys, order_of);
    const auto [least, greatest] = std::minmax_element(keys, keys + classes);
    int64_t low = *least, high = *greatest, at_least = classes;  // as many are >= low
    while (low < high && at_least != k) {
        const int64_t middle = low + (high - low + 1) / 2;
        const auto bound = static_cast<int32_t>(middle);
        int32_t count = 0;
        for (int64_t i = 0; i < classes; ++i) count += keys[i] >= bound;
        if (count >= k) {
            low = middle;
            at_least = count;
        } else {
            high = middle - 1;
        }
    }
    const auto bound = static_cast<int32_t>(low);
    int64_t ties = k, size = 0;
    for (int64_t i = 0; i < classes; ++i) ties -= keys[i] > bound;
    for (int64_t i = 0; i < classes && size < k; ++i)
        if (keys[i] > bound || (keys[i] == bound && ties-- > 0)) kept[size++] = i;
    return {kept, static_cast<size_t>(size)};
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
int64_t categorical(const float* row, std::span<const int64_t> kept, float temperature, float u,
                    float* p) {
    float top = -INFINITY;
    for (int64_t i : kept) top = std::max(top, row[i] / temperature);
    float sum = 0;
    for (size_t i = 0; i < kept.size(); ++i)
        sum += p[i] = std::exp(row[kept[i]] / temperature - top);
    double total = 0;
    for (size_t i = 0; i < kept.size(); ++i) total += p[i] /= sum;
    const double target = static_cast<double>(u) * total;
    double cumulative = 0;
    size_t at = 0;
    while (at + 1 < kept.size() && (cumulative += static_cast<double>(p[at])) <= target) ++at;
    return kept[at];
}

float guarded_log(float x) {
    return std::log(std::max(x, 1e-20f));
}

int64_t gumbel(const float* row, std::span<const int64_t> kept, float temperature, const float* u) {
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

// choose(row index, row, kept positions, scratch of as many) gives the class.
template <class Choose>
void draw(Context& context, const DrawArgs& a, const Choose& choose) {
    constexpr int64_t kWork = 8;  // what an element takes, counted in simple operations
    const int64_t grain = rows_per_chunk(kWork * a.classes);
    context.pool->for_ranges(a.rows, grain, [&](int64_t begin, int64_t end) {
        const Loan<int64_t> positions(thread_workspace(), a.classes);
        const Loan<int32_t> keys(thread_workspace(), a.classes);
        const Loan<float> scratch(thread_workspace(), a.classes);
        for (int64_t r = begin; r < end; ++r) {
            float p = a.otherwise;
            if (!a.drawn || a.drawn[r]) {
                const float* row = a.logits + r * a.classes;
                int64_t id = -1;
                p = std::numeric_limits<float>::quiet_NaN();
                if (has_distribution(row, a.classes)) {
                    const auto kept =
                        kept_positions(row, a.classes, a.k, keys.data(), positions.data());
                    id = choose(r, row, kept, scratch.data());
                    if (a.probability) p = probability_of(row, a.classes, id);
                }
                a.id[r * a.id_stride] = id;
            }
            if (a.probability) a.probability[r * a.probability_stride] = p;
        }
    });
}

void draw_categorical(Context& context, const DrawArgs& a) {
    draw(context, a, [&](int64_t r, const float* row, auto kept, float* scratch) {
        return categorical(row, kept, a.temperature, a.u[r], scratch);
    });
}

void draw_gumbel(Context& context, const DrawArgs& a) {
    draw(context, a, [&](int64_t r, const float* row, auto kept, float*) {
        return gumbel(row, kept, a.temperature, a.u ? a.u + r * a.classes : nullptr);
    });
}

}  // namespace

void fill_sampling(Backend& b) {
    b.sampling.draw_categorical = draw_categorical;
    b.sampling.draw_gumbel = draw_gumbel;
}

}  // namespace mc
