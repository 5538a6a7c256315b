#include "models/momask/residual_transformer.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numbers>

#include "autograd/inference.h"
#include "models/momask/sampling.h"

namespace mc::momask {

ResidualTransformer::ResidualTransformer(const TransformerConfig& config, Generator* init)
    : Trunk(config, config.code_dim, init),
      embed_proj_shared_weight_(
          nn::init::zeros({config.num_quantizers - 2, config.num_tokens + 1, config.code_dim})),
      token_embed_weight_(nn::init::zeros({1, config.num_tokens + 1, config.code_dim})),
      output_proj_weight_(nn::init::zeros({1, config.num_tokens + 1, config.code_dim})),
      quant_emb_(config.num_quantizers, config.latent_dim, init),
      one_hot_(Tensor::zeros({config.num_quantizers, config.num_quantizers})) {
    if (config.num_quantizers < 3)
        throw Error("[momask] the residual transformer needs at least 3 quantisers");
    add_parameter("embed_proj_shared_weight", embed_proj_shared_weight_);
    add_parameter("token_embed_weight_", token_embed_weight_);
    add_parameter("output_proj_weight_", output_proj_weight_);
    add("quant_emb", quant_emb_);
    for (int64_t j = 0; j < config.num_quantizers; ++j)
        one_hot_.data<float>()[j * config.num_quantizers + j] = 1;
    add_constant(one_hot_);
    reference_init(init);
}

Var ResidualTransformer::embedding_table(int64_t layer) const {
    const Var bank =
        layer == 0 ? token_embed_weight_ : slice(embed_proj_shared_weight_, 0, layer - 1, layer);
    return reshape(bank, {config_.num_tokens + 1, config_.code_dim});
}

Var ResidualTransformer::projection_table(int64_t layer) const {
    const Var bank = layer == config_.num_quantizers - 1
                         ? output_proj_weight_
                         : slice(embed_proj_shared_weight_, 0, layer - 1, layer);
    return reshape(bank, {config_.num_tokens + 1, config_.code_dim});
}

Var ResidualTransformer::hidden(const Var& h, const Tensor& one_hot, const Var& cond,
                                const Tensor& padding, const nn::Pass& pass) const {
    return run(h, {cond, quant_emb_(Var(one_hot))}, padding, pass);
}

Var ResidualTransformer::logits(const Var& h, const std::vector<int64_t>& layer, const Tensor& cond,
                                const Tensor& padding, const nn::Pass& pass) const {
    const int64_t batch = h.size(0), n = h.size(1), q_count = config_.num_quantizers;
    // Motions of one layer share a table: tokens are put in the order of their layers, each layer's
    // projected, and put back.
    const int64_t tokens = batch * n;
    std::vector<int64_t> from, place(static_cast<size_t>(tokens)), end{0};  // end: by layer
    for (int64_t j = 1; j < q_count; ++j) {
        for (int64_t b = 0; b < batch; ++b)
            for (int64_t at = b * n; layer[b] == j && at < (b + 1) * n; ++at) {
                place[at] = static_cast<int64_t>(from.size());
                from.push_back(at);
            }
        end.push_back(static_cast<int64_t>(from.size()));
    }
    if (end.back() != tokens)
        throw Error("[momask] a residual layer outside 1.." + std::to_string(q_count - 1));
    const Tensor one_hot =
        embedding(Var(one_hot_), Tensor::from_ids(layer, {batch, 1})).value();  // (B, 1, Q)
    const Var x = hidden(h, one_hot, condition(cond), padding, pass);           // (B, n, C)
    const bool mixed =
        std::adjacent_find(layer.begin(), layer.end(), std::not_equal_to<>()) != layer.end();
    const auto reordered = [&](const Var& rows, const std::vector<int64_t>& ids) {
        return mixed ? embedding(rows, Tensor::from_ids(ids, {tokens})) : rows;
    };
    const Var sorted = reordered(reshape(x, {tokens, config_.code_dim}), from);
    std::vector<Var> parts;
    const Inference::InFull in_full;  // as in head()
    for (int64_t j = 1; j < q_count; ++j)
        if (end[j] > end[j - 1])
            parts.push_back(
                linear(slice(sorted, 0, end[j - 1], end[j]), projection_table(j), Var()));
    const Var all = reordered(parts.size() == 1 ? parts[0] : concat(parts, 0), place);
    return reshape(all, {batch, n, config_.num_tokens + 1});
}

ResidualTransformer::Step ResidualTransformer::train_step(const Tensor& ids_in,
                                                          const std::vector<int64_t>& lengths,
                                                          const Tensor& cond_in,
                                                          const nn::Pass& pass,
                                                          UniformSource& draws) const {
    const int64_t batch = ids_in.size(0), n = ids_in.size(1), q_count = config_.num_quantizers;
    const Tensor schedule = draws.uniform("draw.q_schedule", {batch});
    Step step;
    for (int64_t b = 0; b < batch; ++b) {
        const float ratio =
            std::cos(schedule.data<float>()[b] * static_cast<float>(std::numbers::pi) * 0.5f);
        step.layer.push_back(1 + static_cast<int64_t>(std::nearbyint(
                                     (1.0f - ratio) * static_cast<float>(q_count - 2))));
    }
    const Tensor source = ids_in.contiguous();
    Tensor labels = Tensor::empty({batch * n}, DType::i64);
    for (int64_t b = 0; b < batch; ++b)
        for (int64_t i = 0; i < n; ++i)
            labels.data<int64_t>()[b * n + i] =
                i < lengths[b] ? source.data<int64_t>()[(b * n + i) * q_count + step.layer[b]]
                               : pad_id();
    Var h;
    for (int64_t j = 0; j + 1 < q_count;
         ++j) {  // -1 embeds to nothing: rows whose layer is not above j
        Tensor layer_ids = Tensor::empty({batch, n}, DType::i64);
        for (int64_t b = 0; b < batch; ++b)
            for (int64_t i = 0; i < n; ++i)
                layer_ids.data<int64_t>()[b * n + i] =
                    j >= step.layer[b] ? -1
                    : i < lengths[b]   ? source.data<int64_t>()[(b * n + i) * q_count + j]
                                       : pad_id();
        const Var part = embedding(embedding_table(j), layer_ids);
        h = h.defined() ? h + part : part;
    }
    const Tensor cond = drop_conditions(cond_in, config_.cond_drop_prob, pass, draws);
    const int64_t classes = config_.num_tokens + 1;
    const Var all =
        reshape(logits(h, step.layer, cond, padding_mask(lengths, n), pass), {batch * n, classes});
    step.loss = cross_entropy(all, labels, pad_id());
    step.labels = labels.reshape({batch, n});
    step.logits = all.value().reshape({batch, n, classes});
    step.accuracy = TokenAccuracy(all.value(), labels, pad_id());
    return step;
}

Tensor ResidualTransformer::logits_after(const Tensor& cond, const Var& h, int64_t layer,
                                         const Tensor& padding) const {
    const Tensor one_hot = one_hot_.slice(0, layer, layer + 1)
                               .expand({cond.size(0), 1, config_.num_quantizers})
                               .contiguous();
    const Var x = hidden(h, one_hot, cond, padding, {});
    const Inference::InFull in_full;  // as in head()
    return linear(x, projection_table(layer), Var()).value();
}

Tensor ResidualTransformer::generate(const Tensor& base, const Tensor& cond,
                                     const std::vector<int64_t>& lengths,
                                     const GenerationOptions& options, UniformSource& draws,
                                     const Tensor& keep, const Watch& watch) const {
    const Tape::Pause no_tape;
    const int64_t batch = base.size(0), n = base.size(1), q_count = config_.num_quantizers;
    const int64_t classes = config_.num_tokens + 1;
    const DeviceType where = device();
    const Tensor padding = padding_mask(lengths, n);
    // Layer by layer what is known, and where a token is drawn.
    Tensor layers = Tensor::full({q_count, batch * n}, static_cast<double>(pad_id()), DType::i64),
           drawn = Tensor::zeros({q_count, batch * n}, DType::boolean);
    const Tensor first = base.contiguous();
    for (int64_t at = 0; at < batch * n; ++at) {
        if (padding.data<bool>()[at]) continue;
        layers.data<int64_t>()[at] = first.data<int64_t>()[at];
        for (int64_t j = 1; j < q_count; ++j) {
            const int64_t kept = keep.defined() ? keep.data<int64_t>()[at * q_count + j] : -1;
            if (kept >= 0) layers.data<int64_t>()[j * batch * n + at] = kept;
            drawn.data<bool>()[j * batch * n + at] = kept < 0;
        }
    }
    std::vector<Tensor> noise(static_cast<size_t>(q_count));
    for (int64_t j = 1; j < q_count; ++j)
        noise[j] =
            draws.uniform_on(where, "noise.res.step" + std::to_string(j), {batch, n, classes});
    const bool noisy = noise[1].defined();
    const auto key = graph_key(batch, n, noisy, options.residual_guidance, options.top_k,
                               cond.dtype(), Inference::products());
    std::unique_ptr<LayersWork> work = graphs_.take(key, fingerprint());
    if (!work) work = std::make_unique<LayersWork>(where);
    const double guidance = options.residual_guidance;
    put(where, work->cond, condition(branch_conditions(cond.to(where), guidance)).value());
    put(where, work->padding, padding);
    put(where, work->ids, layers);
    put(where, work->drawn, drawn);
    work->noise.resize(noise.size());
    for (int64_t j = 1; j < q_count && noisy; ++j) put(where, work->noise[j], noise[j]);
    const auto all_layers = [&] {
        const Shape rows{batch * n};
        TokenDraws how{top_k_count(options.top_k, classes), 1.0, true};
        Var h;
        for (int64_t j = 1; j < q_count; ++j) {
            const Tensor below = work->ids.slice(0, j - 1, j).reshape({batch, n});
            const Var part = embedding(embedding_table(j - 1), below);
            h = h.defined() ? h + part : part;
            const Tensor logits =
                guided(branches(logits_after(work->cond, h, j, work->padding), guidance), guidance);
            if (watch) watch("step" + std::to_string(j) + ".logits", logits.cpu());
            how.u = work->noise[j];
            how.drawn = work->drawn.slice(0, j, j + 1).reshape(rows);
            draw_tokens(work->ids.slice(0, j, j + 1).reshape(rows), {},
                        logits.reshape({batch * n, classes}), how);
            work->ids.bump_version();
        }
    };
    if (watch)
        all_layers();
    else
        work->graph.run(all_layers);
    layers = work->ids.cpu();
    graphs_.keep(key, std::move(work));
    check_drawn(layers.slice(0, 1, q_count));
    const Tensor all = Tensor::empty({batch, n, q_count}, DType::i64);
    for (int64_t j = 0; j < q_count; ++j)
        for (int64_t at = 0; at < batch * n; ++at) {
            const int64_t id = layers.data<int64_t>()[j * batch * n + at];
            all.data<int64_t>()[at * q_count + j] = id == pad_id() ? -1 : id;
        }
    return all;
}

}  // namespace mc::momask
