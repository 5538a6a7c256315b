#include "models/momask/mask_transformer.h"

#include <algorithm>
#include <cmath>

#include "autograd/inference.h"
#include "models/momask/sampling.h"
#include "tensor/sort.h"

namespace mc::momask {

MaskTransformer::MaskTransformer(const TransformerConfig& config, Generator* init)
    : Trunk(config, config.num_tokens, init),
      token_emb_(config.num_tokens + 2, config.code_dim, 0.02, init) {
    add("token_emb", token_emb_);
    reference_init(init);
}

Var MaskTransformer::logits(const Tensor& ids, const Tensor& cond, const Tensor& padding,
                            const nn::Pass& pass, const Tensor& wanted) const {
    return logits_after(condition(cond), ids, padding, pass, wanted);
}

Var MaskTransformer::logits_after(const Var& prefix, const Tensor& ids, const Tensor& padding,
                                  const nn::Pass& pass, const Tensor& wanted) const {
    return run(token_emb_(ids), {prefix}, padding, pass, wanted);
}

Tensor MaskTransformer::guided_logits(const Tensor& ids, const Tensor& cond, const Tensor& padding,
                                      double scale, const Tensor& wanted) const {
    return with_guidance(cond.to(device()), scale, [&](const Tensor& both) {
        return logits(ids, both, padding, {}, wanted);
    });
}

Branches MaskTransformer::first_logits(const StepWork& work, const Tensor& cond, double scale,
                                       const std::vector<uint64_t>& weights) const {
    return first_step_(
        {work.ids, work.padding, cond, scale != 1}, weights, [&](bool both) -> Branches {
            const auto logits = [&](const Tensor& prefix) {
                return logits_after(prefix, work.ids, work.padding, {}, work.masked).value();
            };
            if (both || scale == 1) return branches(logits(work.prefix), scale);
            return {logits(branches(work.prefix, scale).with.contiguous()), Tensor()};
        });
}

MaskTransformer::Step MaskTransformer::train_step(const Tensor& ids_in,
                                                  const std::vector<int64_t>& lengths,
                                                  const Tensor& cond_in, const nn::Pass& pass,
                                                  UniformSource& draws,
                                                  bool reference_counts) const {
    const int64_t batch = ids_in.size(0), n = ids_in.size(1);
    const Tensor source = ids_in.contiguous();
    const Tensor time = draws.uniform("draw.rand_time", {batch}),
                 order = draws.uniform("draw.randperm", {batch, n});
    const Tensor subset0 = draws.uniform("draw.subset0", {batch, n}),
                 random = draws.uniform("draw.rand_id", {batch, n});
    const Tensor subset1 = draws.uniform("draw.subset1", {batch, n});
    Step step;
    step.ids = Tensor::empty({batch, n}, DType::i64);
    step.labels = Tensor::empty({batch, n}, DType::i64);
    if (!reference_counts)  // positions beyond the length come last
        for (int64_t b = 0; b < batch; ++b)
            std::fill(order.data<float>() + b * n + lengths[b], order.data<float>() + (b + 1) * n,
                      2.0f);
    // The reference compares the argsort itself, not its inverse; both are uniform permutations.
    const Tensor permutation = reference_counts ? argsort(order) : ranks(order);
    for (int64_t b = 0; b < batch; ++b) {
        const int64_t count =
            masked_count(time.data<float>()[b], reference_counts ? n : lengths[b]);
        const int64_t* rank = permutation.data<int64_t>() + b * n;
        for (int64_t i = 0; i < n; ++i) {
            const int64_t at = b * n + i;
            const bool valid = i < lengths[b], masked = valid && rank[i] < count;
            const int64_t id = valid ? source.data<int64_t>()[at] : pad_id();
            step.labels.data<int64_t>()[at] = masked ? id : mask_id();
            int64_t fed = id;
            if (masked) {
                if (subset0.data<float>()[at] < 0.1f)
                    fed = std::min<int64_t>(
                        config_.num_tokens - 1,
                        static_cast<int64_t>(random.data<float>()[at] *
                                             static_cast<float>(config_.num_tokens)));
                else if (subset1.data<float>()[at] < 0.88f)
                    fed = mask_id();
            }
            step.ids.data<int64_t>()[at] = fed;
        }
    }
    const Tensor cond = drop_conditions(cond_in, config_.cond_drop_prob, pass, draws);
    const Var all = reshape(logits(step.ids, cond, padding_mask(lengths, n), pass),
                            {batch * n, config_.num_tokens});
    const Tensor labels = step.labels.reshape({batch * n});
    step.loss = cross_entropy(all, labels, mask_id());
    step.logits = all.value().reshape({batch, n, config_.num_tokens});
    step.accuracy = TokenAccuracy(all.value(), labels, mask_id());
    return step;
}

Tensor MaskTransformer::generate(const Tensor& cond_in, const std::vector<int64_t>& lengths,
                                 const GenerationOptions& options, UniformSource& draws,
                                 const Tensor& keep, const Watch& watch) const {
    const Tape::Pause no_tape;
    const int64_t batch = static_cast<int64_t>(lengths.size()), classes = config_.num_tokens;
    const int64_t n = *std::max_element(lengths.begin(), lengths.end());
    const DeviceType where = device();
    constexpr float kFixed = 1e5f;
    const Tensor padding = padding_mask(lengths, n),
                 counts = Tensor::empty({options.steps, batch},
                                        DType::i64);  // to be masked
    Tensor ids = Tensor::empty({batch, n}, DType::i64), score = Tensor::empty({batch, n});
    std::vector<int64_t> open(static_cast<size_t>(batch));  // how many tokens are to be made
    for (int64_t b = 0; b < batch; ++b)
        for (int64_t i = 0; i < n; ++i) {
            const int64_t at = b * n + i, kept = keep.defined() ? keep.item<int64_t>({b, i}) : -1;
            const bool made = i < lengths[b] && kept < 0;
            ids.data<int64_t>()[at] = i >= lengths[b] ? pad_id() : made ? mask_id() : kept;
            score.data<float>()[at] = made ? 0 : kFixed;
            open[b] += made;
        }
    const std::vector<float> times = time_grid(options.steps);
    for (int64_t s = 0; s < options.steps; ++s)
        for (int64_t b = 0; b < batch; ++b)
            counts.data<int64_t>()[s * batch + b] =
                open[b] > 0 ? masked_count(times[s], open[b]) : 0;
    // From here on all is on the model's device until the last token is drawn.
    std::vector<Tensor> noise;
    for (int64_t s = 0; s < options.steps; ++s)
        noise.push_back(
            draws.uniform_on(where, "noise.step" + std::to_string(s),
                             options.gumbel ? Shape{batch, n, classes} : Shape{batch, n}));
    const Tensor all_counts = counts.to(where);
    const bool noisy = options.steps > 0 && noise[0].defined();
    const auto key =
        graph_key(batch, n, noisy, options.gumbel, options.guidance, options.temperature,
                  options.top_k, cond_in.dtype(), Inference::products());
    const std::vector<uint64_t> weights = fingerprint();
    std::unique_ptr<StepWork> work = step_graphs_.take(key, weights);
    if (!work) work = std::make_unique<StepWork>(where);
    const Tensor cond = cond_in.to(where);
    put(where, work->prefix, condition(branch_conditions(cond, options.guidance)).value());
    put(where, work->padding, padding);
    put(where, work->ids, ids);
    put(where, work->score, score);
    if (!work->masked.defined()) work->masked = Tensor::empty({batch, n}, DType::boolean, where);
    const Shape rows{batch * n};
    TokenDraws how{top_k_count(options.top_k, classes), options.temperature, options.gumbel};
    how.drawn = work->masked.reshape(rows);
    how.otherwise = kFixed;
    for (int64_t s = 0; s < options.steps; ++s) {
        put(where, work->count, all_counts.slice(0, s, s + 1));
        if (noisy) put(where, work->noise, noise[s]);
        how.u = work->noise;
        const auto seen = [&](const char* what, const Tensor& value) {
            if (watch) watch("step" + std::to_string(s) + what, value.cpu());
        };
        const auto step = [&] {
            mask_lowest(work->masked, work->ids, work->score, work->count, mask_id());
            work->ids.bump_version();
            seen(".input_ids", work->ids);
            // Those that are drawn. A recorded step is for any mask, so a GPU computes all, as
            // does whoever watches.
            const Tensor wanted = watch || where != DeviceType::cpu ? Tensor() : work->masked;
            // Batches seldom begin alike, and keeping them would take memory.
            const Branches both =
                s == 0 && wanted.defined() && batch == 1
                    ? first_logits(*work, cond, options.guidance, weights)
                    : branches(
                          logits_after(work->prefix, work->ids, work->padding, {}, wanted).value(),
                          options.guidance);
            const Tensor logits = guided(both, options.guidance);
            seen(".logits", logits);
            draw_tokens(work->ids.reshape(rows), work->score.reshape(rows),
                        logits.reshape({batch * n, classes}), how);
            work->ids.bump_version();
            seen(".pred_ids", work->ids);
        };
        if (watch)
            step();
        else
            work->graph.run(step);
    }
    ids = work->ids.cpu();
    step_graphs_.keep(key, std::move(work));
    check_drawn(ids);
    for (int64_t at = 0; at < batch * n; ++at)
        if (padding.data<bool>()[at]) ids.data<int64_t>()[at] = -1;
    return ids;
}

}  // namespace mc::momask
