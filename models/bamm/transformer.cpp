#include "models/bamm/transformer.h"

#include <algorithm>
#include <cmath>

#include "autograd/inference.h"
#include "models/momask/sampling.h"
#include "tensor/sort.h"

namespace mc::bamm {

using momask::repeated;

Transformer::Transformer(const Config& config, Generator* init)
    : Trunk(config, config.num_tokens + 1, init,
            config.gpt_blocks ? Blocks::gpt : Blocks::post_norm),
      own_config_(config),
      token_emb_(config.num_tokens + 3, config.code_dim, 0.02, init) {
    add("token_emb", token_emb_);
    reference_init(init);
}

Tensor Transformer::hybrid_mask(const Tensor& known_in) const {
    const Tensor known = known_in.contiguous();
    const int64_t batch = known.size(0), n = known.size(1), s = n + 1;
    Tensor mask = Tensor::empty({batch, s, s}, DType::boolean);
    for (int64_t b = 0; b < batch; ++b) {
        auto given = [&](int64_t place) {
            return place == 0 || known.data<int64_t>()[b * n + place - 1] != pad_id();
        };
        for (int64_t q = 0; q < s; ++q)
            for (int64_t k = 0; k < s; ++k)
                mask.data<bool>()[(b * s + q) * s + k] = !given(k) && (given(q) || k > q);
    }
    return mask;
}

Var Transformer::attend(const Tensor& ids, const Var& cond, const AttentionOptions& options,
                        const nn::Pass& pass) const {
    const Shared in =
        shared(cond + positions(0, 1), project(token_emb_(ids)) + positions(1, ids.size(1) + 1));
    return stack(nn::dropout(in.x, config_.dropout, pass), options, pass, {in.spread, {}});
}

Var Transformer::logits(const Tensor& ids, const Tensor& cond, const Tensor& known,
                        const nn::Pass& pass) const {
    AttentionOptions options;
    options.causal = !known.defined();
    if (known.defined()) options.mask = repeated(hybrid_mask(known), cond.size(0) / ids.size(0));
    return head(attend(ids, condition(cond), options, pass));
}

Tensor Transformer::guided_logits(const Tensor& ids, const Tensor& cond, const Tensor& known,
                                  double scale) const {
    return momask::with_guidance(cond.to(device()), scale,
                                 [&](const Tensor& both) { return logits(ids, both, known); });
}

Transformer::Step Transformer::train_step(const Tensor& ids_in, const std::vector<int64_t>& lengths,
                                          const Tensor& cond_in, const nn::Pass& pass,
                                          UniformSource& draws) const {
    const int64_t batch = ids_in.size(0), n = ids_in.size(1), wide = n + 1;
    const Tensor source = ids_in.contiguous();
    const float occur = draws.uniform("draw.occur", {1}).item<float>(),
                rate = draws.uniform("draw.cond_rate", {1}).item<float>();
    const float known_rate = occur < 0.5f ? 0.5f * rate : 0.0f;
    const Tensor position = draws.uniform("draw.cond_pos", {batch, wide});
    const float wrong_rate = 0.5f * draws.uniform("draw.rid_rate", {1}).item<float>();
    const Tensor wrong = draws.uniform("draw.rid", {batch, wide}),
                 random = draws.uniform("draw.rand_id", {batch, wide});
    Tensor labels = Tensor::empty({batch, wide}, DType::i64);
    Step step;
    step.ids = Tensor::empty({batch, wide}, DType::i64);
    step.known = Tensor::empty({batch, wide}, DType::i64);
    std::vector<int64_t> counts;
    for (int64_t b = 0; b < batch; ++b) {
        counts.push_back(lengths[b] + 1);
        for (int64_t i = 0; i < wide; ++i) {
            const int64_t at = b * wide + i;
            const int64_t id = i < lengths[b]    ? source.data<int64_t>()[b * n + i]
                               : i == lengths[b] ? end_id()
                                                 : pad_id();
            labels.data<int64_t>()[at] = id;
            // A known token is told as it is, and may still be fed corrupted (QUIRK Q23).
            const bool told = i <= lengths[b] && position.data<float>()[at] < known_rate;
            step.known.data<int64_t>()[at] = told ? id : pad_id();
            const bool corrupted = i < lengths[b] && wrong.data<float>()[at] < wrong_rate;
            step.ids.data<int64_t>()[at] =
                corrupted ? std::min<int64_t>(
                                config_.num_tokens - 1,
                                static_cast<int64_t>(random.data<float>()[at] *
                                                     static_cast<float>(config_.num_tokens)))
                          : id;
        }
    }
    const Tensor cond = momask::drop_conditions(cond_in, config_.cond_drop_prob, pass, draws);
    const Var all = slice(logits(step.ids, cond, step.known, pass), 1, 0, wide);
    const TokenLoss loss = token_loss(all, labels, counts);
    step.loss = loss.loss;
    step.accuracy = loss.accuracy;
    step.logits = all.value();
    return step;
}

Transformer::Places Transformer::known_places(const Tensor& known) const {
    Places all{known.size(1), 0};
    for (int64_t b = 0; b < known.size(0); ++b)
        for (int64_t i = 0; i < known.size(1); ++i)
            if (known.item<int64_t>({b, i}) != pad_id())
                all = {std::min(all.first, i), std::max(all.end, i + 1)};
    return all;
}

Var Transformer::attend_kept(PlaceWork& work, int64_t begin, int64_t end) const {
    // Of the rows of tokens; row 0 is the text's.
    const int64_t first = std::max<int64_t>(begin, 1);
    const int64_t copies = work.cond.size(0) / work.tokens.size(1);
    std::vector<Var> rows;
    if (begin == 0) rows.push_back(Var(work.cond) + positions(0, 1));
    if (first < end) {
        const Tensor ids = work.tokens.slice(0, first - 1, end - 1).transpose(0, 1).contiguous();
        const Var tokens = project(token_emb_(ids)) + positions(first, end);
        rows.push_back(repeated(tokens.value(), copies));
    }
    nn::RowMaps maps;
    maps.kept = work.kept.data();
    maps.first = begin;
    maps.seen = end;
    AttentionOptions options;
    if (work.mask.defined()) {
        maps.seen = work.mask.size(2);
        options.mask = repeated(work.mask.slice(1, begin, end).contiguous(), copies);
    } else {
        options.causal = true;
    }
    return stack(rows.size() == 1 ? rows[0] : concat(rows, 1), options, {}, maps);
}

Transformer::Sweep Transformer::sweep(const Tensor& ids_in, const Tensor& cond, const Tensor& known,
                                      const SweepPlan& plan, const GenerationOptions& options,
                                      UniformSource& draws) const {
    const Tape::Pause no_tape;
    const int64_t batch = ids_in.size(0), n = ids_in.size(1);
    const int64_t classes = config_.num_tokens + (plan.with_end ? 1 : 0);
    const double guidance = plan.guidance;
    const int64_t copies = guidance == 1 ? 1 : 2;
    const bool reference = own_config_.reference_sampling;
    const DeviceType where = device();
    // A row changes where a token that it sees does: its own, those before, those in `known`. So
    // each is computed once, but for the original's drawing over what is known. A GPU computes all
    // rows at every place: it takes no longer there, and every place is the same work, a graph's.
    const Places given = known.defined() ? known_places(known) : Places{n, n};
    const bool all_alike =
        where != DeviceType::cpu || (!plan.keep && given.first < std::min(plan.places, n) - 1);
    const int64_t seen = all_alike ? n : std::min(std::max(plan.places, given.end), n);
    // Place by place: which rows draw there, and where the place is in what attend() gives of all.
    Tensor drawn = Tensor::full({n, batch}, 1, DType::boolean),
           rows = Tensor::empty({n, copies * batch}, DType::i64);
    std::vector<bool> anew(static_cast<size_t>(n));
    for (int64_t at = 0; at < n; ++at) {
        anew[at] = at < plan.places;
        for (int64_t b = 0; b < copies * batch; ++b)
            rows.data<int64_t>()[at * copies * batch + b] = b * (n + 1) + at;
        if (!plan.keep) continue;
        bool* row = drawn.data<bool>() + at * batch;
        for (int64_t b = 0; b < batch; ++b) row[b] = known.item<int64_t>({b, at}) == pad_id();
        if (std::find(row, row + batch, true) == row + batch) anew[at] = false;
    }
    drawn = drawn.to(where);
    rows = rows.to(where);
    momask::TokenDraws how{reference ? classes : momask::top_k_count(options.top_k, classes),
                           reference ? 1.0 : options.temperature};
    const auto key = graph_key(batch, n, classes, guidance, known.defined(), seen, how.k,
                               how.temperature, cond.dtype(), Inference::products());
    std::unique_ptr<PlaceWork> work = graphs_.take(key, fingerprint());
    if (!work) work = std::make_unique<PlaceWork>(where);
    put(where, work->cond, condition(momask::branch_conditions(cond.to(where), guidance)).value());
    put(where, work->tokens, ids_in.transpose(0, 1));
    if (known.defined()) put(where, work->mask, hybrid_mask(known.slice(1, 0, seen)));
    if (!work->probability.defined()) work->probability = Tensor::empty({batch}, DType::f32, where);
    const Tensor probabilities = Tensor::full({n, batch}, 1, DType::f32, where);
    const auto place = [&](const Tensor& all, int64_t at) {
        return all.slice(0, at, at + 1).squeeze(0);
    };
    std::vector<bool> open(static_cast<size_t>(batch), true);  // motions without an end yet
    const auto all_ended = [&] {
        return plan.to_ends && std::find(open.begin(), open.end(), true) == open.end();
    };
    int64_t next_row = 0;
    if (!all_alike) {
        const Shape shape{copies * batch, seen + 1, config_.latent_dim};
        work->kept.clear();
        for (int64_t l = 0; l < config_.layers; ++l)
            work->kept.push_back({Tensor::empty(shape, work->cond.dtype()),
                                  Tensor::empty(shape, work->cond.dtype())});
        if (known.defined()) attend_kept(*work, 0, seen + 1);
    }
    for (int64_t at = 0; at + 1 < n; ++at) {
        const Tensor noise =
            draws.uniform_on(where, "noise.draw" + std::to_string(plan.first + at), {batch});
        if (!anew[at] || all_ended()) continue;
        if (noise.defined()) put(where, work->noise, noise);
        put(where, work->drawn, place(drawn, at));
        if (all_alike) put(where, work->row, place(rows, at));
        put(where, work->id, place(work->tokens, at));
        how.u = work->noise;
        how.drawn = work->drawn;
        work->graph.run([&] {
            Var here;  // (C B, 1, D)
            if (all_alike) {
                AttentionOptions attention;
                attention.causal = !work->mask.defined();
                attention.mask = repeated(work->mask, copies);
                const Var x =
                    attend(work->tokens.transpose(0, 1).contiguous(), work->cond, attention, {});
                here = reshape(embedding(reshape(x, {x.size(0) * x.size(1), x.size(2)}), work->row),
                               {x.size(0), 1, x.size(2)});
            } else {
                const Var x = attend_kept(*work, next_row, at + 1);
                here = slice(x, 1, at - next_row, at + 1 - next_row);
                next_row = at + 1;
            }
            const Tensor scores =
                momask::guided(momask::branches(head(here).value(), guidance), guidance);
            momask::draw_tokens(work->id, work->probability,
                                scores.slice(2, 0, classes).reshape({batch, classes}), how);
        });
        place(work->tokens, at).copy_(work->id);
        place(probabilities, at).copy_(work->probability);
        for (int64_t b = 0; b < batch && where == DeviceType::cpu; ++b)
            if (work->id.data<int64_t>()[b] >= end_id()) open[b] = false;
    }
    const Sweep out{work->tokens.cpu().transpose(0, 1).contiguous(),
                    probabilities.slice(0, 0, n - 1).cpu().transpose(0, 1).contiguous()};
    graphs_.keep(key, std::move(work));
    momask::check_drawn(out.ids);
    return out;
}

Transformer::Draft Transformer::draft(const Tensor& cond, const std::vector<int64_t>& lengths,
                                      int64_t tokens, const GenerationOptions& options,
                                      UniformSource& draws, bool whole) const {
    const int64_t batch = cond.size(0), n = tokens + 1;
    for (int64_t length : lengths)
        if (length < 1 || length > tokens)
            throw Error("[bamm] a length of " + std::to_string(length) + " tokens, want 1 to " +
                        std::to_string(tokens));
    Draft out;
    SweepPlan plan{.guidance = options.guidance, .with_end = lengths.empty()};
    plan.to_ends = !whole && lengths.empty();
    if (!whole && !lengths.empty()) plan.places = *std::max_element(lengths.begin(), lengths.end());
    out.sweep = sweep(Tensor::full({batch, n}, static_cast<double>(pad_id()), DType::i64), cond, {},
                      plan, options, draws);
    out.lengths = lengths;
    out.ids = out.sweep.ids.clone();
    for (int64_t b = 0; b < batch; ++b) {
        int64_t* row = out.ids.data<int64_t>() + b * n;
        if (lengths.empty()) {
            if (row[0] >= end_id()) {
                row[0] = 0;
                row[1] = end_id();
            }
            const int64_t length =
                std::find_if(row, row + n, [&](int64_t id) { return id >= end_id(); }) - row;
            out.lengths.push_back(length);
            std::fill(row + length, row + n, pad_id());
        }
        row[out.lengths[b]] = end_id();
    }
    return out;
}

Tensor Transformer::kept_half(const Draft& draft, UniformSource& draws) const {
    const int64_t batch = draft.ids.size(0), n = draft.ids.size(1);
    constexpr float kNever = 1e5f;
    Tensor known = draft.ids.clone();
    Tensor random;
    if (!own_config_.reference_sampling) random = draws.uniform("draw.half", {batch, n});
    for (int64_t b = 0; b < batch; ++b) {
        const int64_t length = draft.lengths[b];
        const int64_t count = std::max<int64_t>(
            1, static_cast<int64_t>(std::nearbyint(0.5 * static_cast<double>(length))));
        const Tensor score = Tensor::full({n}, kNever);
        for (int64_t i = 0; i < length; ++i)
            score.data<float>()[i] = random.defined() ? random.data<float>()[b * n + i] : 0.0f;
        const Tensor ranked = ranks(score);
        const int64_t* rank = ranked.data<int64_t>();
        int64_t* row = known.data<int64_t>() + b * n;
        for (int64_t i = 0; i < n; ++i)
            if (row[i] != end_id() && (i >= length || rank[i] < count)) row[i] = pad_id();
    }
    return known;
}

Transformer::Sweep Transformer::refine(const Draft& draft, const Tensor& known, const Tensor& cond,
                                       const GenerationOptions& options, UniformSource& draws,
                                       bool whole) const {
    SweepPlan plan{.guidance = second_guidance(options), .first = draft.ids.size(1) - 1};
    plan.keep = !own_config_.reference_sampling;
    if (!whole) {
        plan.places = 0;
        for (int64_t b = 0; b < known.size(0); ++b)
            for (int64_t i = 0; i < draft.lengths[b]; ++i)
                if (known.item<int64_t>({b, i}) == pad_id())
                    plan.places = std::max(plan.places, i + 1);
    }
    return sweep(draft.ids, cond, known, plan, options, draws);
}

double Transformer::second_guidance(const GenerationOptions& options) const {
    // The original's is fixed (QUIRK Q25); otherwise it is never stronger than the draft's.
    return own_config_.reference_sampling ? kSecondGuidance
                                          : std::min(options.guidance, kSecondGuidance);
}

Tensor Transformer::fill(const Tensor& cond, const Tensor& keep_in,
                         const GenerationOptions& options, UniformSource& draws) const {
    const Tensor keep = keep_in.contiguous();
    const int64_t batch = keep.size(0), n = keep.size(1), wide = n + 1;
    Tensor known = Tensor::empty({batch, wide}, DType::i64);
    for (int64_t b = 0; b < batch; ++b) {
        int64_t* row = known.data<int64_t>() + b * wide;
        for (int64_t i = 0; i < n; ++i) {
            const int64_t id = keep.data<int64_t>()[b * n + i];
            row[i] = id < 0 ? pad_id() : id;
        }
        row[n] = end_id();
    }
    const SweepPlan plan{.guidance = second_guidance(options), .keep = true};
    return sweep(known, cond, known, plan, options, draws).ids.slice(1, 0, n).contiguous();
}

Tensor Transformer::restored(const Tensor& ids, const Tensor& known, int64_t pad_id) {
    Tensor out = ids.clone();
    const Tensor kept = known.contiguous();
    for (int64_t at = 0; at < out.numel(); ++at)
        if (kept.data<int64_t>()[at] != pad_id) out.data<int64_t>()[at] = kept.data<int64_t>()[at];
    return out;
}

Transformer::Generated Transformer::generate(const Tensor& cond,
                                             const std::vector<int64_t>& lengths, int64_t tokens,
                                             const GenerationOptions& options,
                                             UniformSource& draws) const {
    const Draft first = draft(cond, lengths, tokens, options, draws, false);
    const Tensor known = kept_half(first, draws);
    const Sweep second = refine(first, known, cond, options, draws, false);
    return {restored(second.ids, known, pad_id()), first.lengths};
}

}  // namespace mc::bamm
