#include "models/momask/sampling.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace mc::momask {
int64_t top_k_count(double threshold, int64_t classes) {
    const double kept = std::ceil((1.0 - threshold) * static_cast<double>(classes));
    return std::clamp<int64_t>(static_cast<int64_t>(kept), 1, classes);
}

void draw_tokens(const Tensor& ids, const Tensor& probability, const Tensor& logits,
                 const TokenDraws& how) {
    const Tensor source = logits.to(DType::f32).contiguous();
    const DeviceType device = source.device();
    const Shape rows{source.size(0)};
    const Shape noise = how.gumbel ? source.shape() : rows;
    if (!how.u.defined() && !how.gumbel)
        throw Error("[sampling] a categorical draw without random numbers; ask for a Gumbel draw");
    if (!(ids.shape() == rows) || (how.u.defined() && !(how.u.numel() == noise.numel())))
        throw Error("[sampling] ids " + ids.shape().str() + " and random numbers " +
                    (how.u.defined() ? how.u.shape().str() : "none") + " for logits " +
                    source.shape().str());
    for (const Tensor* t : {&ids, &probability, &how.u, &how.drawn})
        if (t->defined() && t->device() != device)
            throw Error(std::string("[sampling] logits on ") + name_of(device) + ", " +
                        t->shape().str() + " on " + name_of(t->device()) + "; copy with to()");
    DrawArgs args{};
    args.id = ids.ptr<int64_t>();
    args.id_stride = ids.strides()[0];
    if (probability.defined()) {
        args.probability = probability.ptr<float>();
        args.probability_stride = probability.strides()[0];
    }
    if (how.drawn.defined()) args.drawn = how.drawn.ptr<bool>();
    args.otherwise = how.otherwise;
    args.logits = source.ptr<float>();
    if (how.u.defined()) args.u = how.u.ptr<float>();
    args.rows = source.size(0);
    args.classes = source.size(1);
    args.k = how.k;
    args.temperature = static_cast<float>(std::max(how.temperature, 1e-10));
    const SamplingKernels& kernels = backend(device).sampling;
    (how.gumbel ? kernels.draw_gumbel : kernels.draw_categorical)(default_context(device), args);
}

void check_drawn(const Tensor& ids) {
    const std::vector<int64_t> all = ids.to_vector<int64_t>();
    const auto none = std::find(all.begin(), all.end(), -1);
    if (none == all.end()) return;
    throw Error("[sampling] no token can be drawn at place " + std::to_string(none - all.begin()) +
                " of " + ids.shape().str() +
                ": its logits are not numbers, or infinite; are the weights damaged?");
}

void mask_lowest(const Tensor& masked, const Tensor& ids, const Tensor& score, const Tensor& count,
                 int64_t mask_id) {
    const DeviceType device = score.device();
    backend(device).f32.mask_lowest(default_context(device), masked.ptr<bool>(), ids.ptr<int64_t>(),
                                    score.ptr<float>(), count.ptr<int64_t>(), mask_id,
                                    score.size(0), score.size(1));
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
