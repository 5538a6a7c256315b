// Draws of tokens: a team a row, each thread with a run of neighbouring classes, so that a
// cumulative sum over the threads is one over the classes. Sums are fixed trees; they differ from
// the CPU's, which go from left to right, by rounding, so that a draw differs where u is that near
// to a boundary between two classes.
#include "kernels/sampling.h"

#include "kernels/cuda/best.h"
#include "kernels/cuda/fill.h"
#include "kernels/cuda/math.h"

namespace mc::cuda {

namespace {

// A row and the classes [begin, end) of it that are this thread's.
struct Share {
    const float* row;
    int64_t begin, end;
};

// All different, in the order of top_k: by value (-0 is 0), then the lower index. 2^index_bits is
// at least the number of classes.
__device__ inline uint64_t order_key(const float* row, int64_t i, int index_bits) {
    const uint32_t bits = __float_as_uint(row[i] + 0.0f);
    const uint32_t ascending = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    const uint64_t last = (uint64_t{1} << index_bits) - 1;
    return uint64_t{ascending} << index_bits | (last - static_cast<uint64_t>(i));
}

// The k-th greatest key of the row, bit by bit from the top: the greatest number that k keys reach.
template <class Team>
__device__ uint64_t kth_key(const Share& share, int64_t k, int index_bits) {
    uint64_t key = 0;
    for (int bit = 31 + index_bits; bit >= 0; --bit) {
        const uint64_t with = key | uint64_t{1} << bit;
        int64_t reach = 0;
        for (int64_t i = share.begin; i < share.end; ++i)
            reach += order_key(share.row, i, index_bits) >= with;
        if (Team::sum(reach) >= k) key = with;
    }
    return key;
}

struct Later {
    __device__ int64_t operator()(int64_t a, int64_t b) const { return a > b ? a : b; }
};

// kept(i): whether class i stays; top: the row's greatest logit.
template <class Team, class Kept>
__device__ int64_t categorical(const DrawArgs& a, const Share& share, const Kept& kept, float top,
                               float u) {
    const auto weight = [&](int64_t i) {
        return kept(i) ? exp_of(share.row[i] / a.temperature - top / a.temperature) : 0.0f;
    };
    float sum = 0;
    for (int64_t i = share.begin; i < share.end; ++i) sum += weight(i);
    sum = Team::sum(sum);
    double own = 0;
    for (int64_t i = share.begin; i < share.end; ++i) own += static_cast<double>(weight(i) / sum);
    const double target = static_cast<double>(u) * Team::sum(own);
    double cumulative = Team::sum_before(own);
    // A class of probability 0 is not drawn, wherever rounding puts the boundary.
    int64_t first = a.classes, last = -1;
    for (int64_t i = share.begin; i < share.end; ++i) {
        const double p = static_cast<double>(weight(i) / sum);
        if (!(p > 0)) continue;
        cumulative += p;
        last = i;
        if (first == a.classes && cumulative > target) first = i;
    }
    first = Team::reduce(first, Earlier());
    last = Team::reduce(last, Later());
    return first < a.classes ? first : last;
}

__device__ inline float guarded_log(float x) {
    return log_of(x > 1e-20f ? x : 1e-20f);
}

template <class Team, class Kept>
__device__ int64_t gumbel(const DrawArgs& a, const Share& share, const Kept& kept, const float* u) {
    Best<float> best{0, -1};
    for (int64_t i = share.begin; i < share.end; ++i) {
        if (!kept(i)) continue;
        float score = share.row[i] / a.temperature;
        if (u) score += -guarded_log(-guarded_log(u[i]));
        const Best<float> here{score, i};
        if (beats(here, best)) best = here;
    }
    return team_best(Team(), best).index;
}

enum class Rule : uint8_t { categorical, gumbel };

template <Rule rule, class Team>
__global__ void draw_kernel(DrawArgs a, int index_bits) {
    const int64_t r = Team::row();
    if (r >= a.rows) return;
    const bool writes = Team::rank() == 0;
    float* probability = a.probability ? a.probability + r * a.probability_stride : nullptr;
    if (a.drawn && !a.drawn[r]) {
        if (writes && probability) *probability = a.otherwise;
        return;
    }
    const int64_t run = ceil_div(a.classes, Team::kSize);
    const auto bound = [&](int64_t i) { return i < a.classes ? i : a.classes; };
    const Share share{a.logits + r * a.classes, bound(Team::rank() * run),
                      bound((Team::rank() + 1) * run)};
    float top = -kInf<float>;
    int strange = 0;  // NaN and +inf
    for (int64_t i = share.begin; i < share.end; ++i) {
        top = Greater()(top, share.row[i]);
        strange += !(share.row[i] < kInf<float>);
    }
    top = Team::max(top);
    if (Team::sum(strange) > 0 || !(top > -kInf<float>)) {
        if (writes) a.id[r * a.id_stride] = -1;
        if (writes && probability) *probability = std::numeric_limits<float>::quiet_NaN();
        return;
    }
    const uint64_t least = a.k < a.classes ? kth_key<Team>(share, a.k, index_bits) : 0;
    const auto kept = [&](int64_t i) { return order_key(share.row, i, index_bits) >= least; };
    int64_t id;
    if constexpr (rule == Rule::categorical)
        id = categorical<Team>(a, share, kept, top, a.u[r]);
    else
        id = gumbel<Team>(a, share, kept, a.u ? a.u + r * a.classes : nullptr);
    if (writes) a.id[r * a.id_stride] = id;
    if (!probability) return;
    double sum = 0;
    for (int64_t i = share.begin; i < share.end; ++i)
        sum += exp_of(static_cast<double>(share.row[i] - top));
    sum = Team::sum(sum);
    if (writes)
        *probability = static_cast<float>(exp_of(static_cast<double>(share.row[id] - top)) / sum);
}

template <Rule rule>
void draw(const char* op, Context& context, const DrawArgs& a) {
    if (a.rows <= 0) return;
    int index_bits = 0;
    while ((int64_t{1} << index_bits) < a.classes) ++index_bits;
    with_team(a.classes, [&](auto team) {
        using Team = decltype(team);
        launch(op, context, Team::shape(op, a.rows), draw_kernel<rule, Team>, a, index_bits);
    });
}

}  // namespace

void fill_sampling(Backend& backend) {
    backend.sampling.draw_categorical = [](Context& context, const DrawArgs& a) {
        draw<Rule::categorical>("draw_categorical", context, a);
    };
    backend.sampling.draw_gumbel = [](Context& context, const DrawArgs& a) {
        draw<Rule::gumbel>("draw_gumbel", context, a);
    };
}

}  // namespace mc::cuda
