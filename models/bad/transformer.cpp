#include "models/bad/transformer.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "autograd/inference.h"
#include "models/momask/sampling.h"
#include "tensor/sort.h"

namespace mc::bad {
namespace {

constexpr int64_t kScalarWidth = 256;
constexpr int64_t kConditions = 2;  // [sentence, rate]

// Positions of ascending u - (valid ? 1 : 0) of each row of u (B, n), ties to the lower index: of n
// places the first `length` of the result are a permutation of 0 .. length-1.
Tensor shuffled(const Tensor& u, const std::vector<int64_t>& lengths) {
    const Tensor key = u.clone();
    const int64_t n = u.size(1);
    for (size_t b = 0; b < lengths.size(); ++b)
        for (int64_t i = 0; i < lengths[b]; ++i)
            key.data<float>()[static_cast<int64_t>(b) * n + i] -= 1.0f;
    return argsort(key);
}

// kernels/mask.h: ids of `rows` and `columns` (B, n), `open` (B) or undefined.
void write_mask(const Tensor& hidden, const Tensor& rows, const Tensor& columns, const Tensor& open,
                int64_t first_mask) {
    const DeviceType device = hidden.device();
    backend(device).mask.permuted_mask(
        default_context(device),
        {hidden.ptr<bool>(), rows.ptr<int64_t>(), columns.ptr<int64_t>(),
         open.defined() ? open.ptr<int64_t>() : nullptr, rows.size(0), rows.size(1), first_mask});
}

}  // namespace

Tensor scalar_features(const std::vector<int64_t>& values) {
    constexpr int64_t half = kScalarWidth / 2;
    const int64_t rows = static_cast<int64_t>(values.size());
    Tensor out = Tensor::empty({rows, kScalarWidth});
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t i = 0; i < half; ++i) {
            const float exponent = static_cast<float>(-std::log(10000.0)) * static_cast<float>(i) /
                                   static_cast<float>(half);
            const float argument =
                static_cast<float>(values[static_cast<size_t>(r)]) * std::exp(exponent);
            out.data<float>()[r * kScalarWidth + i] = std::cos(argument);
            out.data<float>()[r * kScalarWidth + half + i] = std::sin(argument);
        }
    return out;
}

float step_span(int64_t steps, int64_t length) {
    const float share = static_cast<float>(static_cast<double>(steps) / 49.0);
    return std::nearbyint(share * static_cast<float>(length)) + 1e-8f;
}

int64_t masked_before(int64_t step, float span, int64_t length) {
    const float t = std::min(static_cast<float>(step) / span, 1.0f);
    const float angle = t * static_cast<float>(std::numbers::pi) * 0.5f;
    // The correctly rounded cosine: truncation makes its last bit count.
    const float share = static_cast<float>(std::cos(static_cast<double>(angle)));
    return std::max<int64_t>(1, static_cast<int64_t>(share * static_cast<float>(length)));
}

bool is_foreign_key(const std::string& name) {
    return name.starts_with("trans_base.vqvae.") || name == "trans_base.pos_embedding.weight" ||
           name == "trans_base.pos_embed.embed" || name.ends_with(".attn.mask");
}

Transformer::ScalarEmbedder::Mlp::Mlp(int64_t width, Generator* init)
    : in(kScalarWidth, width, init), out(width, width, init) {
    add("0", in);
    add("2", out);
}

Transformer::ScalarEmbedder::ScalarEmbedder(int64_t width, Generator* init) : mlp(width, init) {
    add("mlp", mlp);
}

Var Transformer::ScalarEmbedder::operator()(const Tensor& features) const {
    const Var hidden = mlp.in(Var(features));
    const Var out = mlp.out(hidden * sigmoid(hidden));  // SiLU
    return reshape(out, {out.size(0), 1, out.size(1)});
}

Transformer::Base::Base(const Config& config, Generator* init)
    : learn_tok_emb(2 + config.tokens(), config.code_dim, 0.02, init),
      to_emb(config.code_dim, config.embed_dim, init),
      cond_emb(config.clip_dim, config.embed_dim, init),
      word_emb(config.word_dim, config.embed_dim, init),
      t_embedder(config.embed_dim, init),
      l_embedder(config.embed_dim, init) {
    add("learn_tok_emb", learn_tok_emb);
    add("to_emb", to_emb);
    add("cond_emb", cond_emb);
    add("word_emb", word_emb);
    add("t_embedder", t_embedder);
    add("l_embedder", l_embedder);
    add("cross_att", cross_att);
    add("blocks", blocks);
    const int64_t hidden = config.ff_rate * config.embed_dim;
    for (int64_t l = 0; l < config.cross_layers; ++l)
        cross_att.emplace(config.embed_dim, config.heads, hidden, config.dropout, init);
    for (int64_t l = 0; l < config.base_layers; ++l)
        blocks.emplace(config.embed_dim, config.heads, hidden, config.dropout, init);
}

Transformer::Head::Head(const Config& config, Generator* init)
    : ln_f(config.embed_dim), head(config.embed_dim, config.nb_code, init, false) {
    add("blocks", blocks);
    add("ln_f", ln_f);
    add("head", head);
    for (int64_t l = 0; l < config.head_layers; ++l)
        blocks.emplace(config.embed_dim, config.heads, config.ff_rate * config.embed_dim,
                       config.dropout, init);
}

Transformer::Transformer(const Config& config, Tensor codebook, Generator* init)
    : config_(config),
      codebook_(codebook.cpu()),
      positions_(nn::sinusoidal_positions(config.block_size, config.embed_dim)),
      base_(config, init),
      head_(config, init) {
    if (!(codebook_.shape() == Shape{config.nb_code, config.code_dim}))
        throw Error("[bad] the tokenizer's codebook is " + codebook_.shape().str() +
                    ", the transformer wants " + Shape{config.nb_code, config.code_dim}.str() +
                    "; they were not trained together");
    add("trans_base", base_);
    add("trans_head", head_);
    add_constant(codebook_);
    add_constant(positions_);
    nn::normal_init(*this, init);
}

void Transformer::check(const Text& text) const {
    if (text.sentence.dims() != 2 || text.sentence.size(1) != config_.clip_dim ||
        text.words.dims() != 3 || text.words.size(2) != config_.word_dim)
        throw Error("[bad] text embedding " + text.sentence.shape().str() + " and words " +
                    text.words.shape().str() + ", want (B, " + std::to_string(config_.clip_dim) +
                    ") and (B, W, " + std::to_string(config_.word_dim) +
                    "); is the text encoder another one than the generator was trained with?");
}

Var Transformer::logits(const Tensor& ids, const Text& text, const Tensor& hidden,
                        const nn::Pass& pass) const {
    return forward(input(ids, text, hidden), pass);
}

Transformer::Input Transformer::input(const Tensor& ids_in, const Text& text,
                                      const Tensor& hidden) const {
    const Tensor ids = ids_in.contiguous();
    const int64_t n = ids.size(1);
    if (n > config_.tokens())
        throw Error("[bad] " + std::to_string(n) + " tokens, at most " +
                    std::to_string(config_.tokens()));
    check(text);
    const DeviceType where = device();
    const auto [masks, ends] = features(ids);
    const Tensor fed = ids.to(where);
    return {{text.sentence.to(where), text.words.to(where)},
            fed,
            hidden.defined() ? hidden.to(where) : hidden_mask(fed),
            masks.to(where),
            ends.to(where)};
}

std::pair<Tensor, Tensor> Transformer::features(const Tensor& ids) const {
    const int64_t batch = ids.size(0), n = ids.size(1);
    std::vector<int64_t> masks(static_cast<size_t>(batch)), ends(static_cast<size_t>(batch));
    for (int64_t b = 0; b < batch; ++b) {
        const int64_t* row = ids.data<int64_t>() + b * n;
        masks[b] = std::count_if(row, row + n, [&](int64_t id) { return id >= mask_id(0); });
        ends[b] = std::find(row, row + n, end_id()) - row;
        if (ends[b] == n) throw Error("[bad] a sequence without its end token");
    }
    const DType dtype = base_.to_emb.weight.dtype();
    return {scalar_features(masks).to(dtype), scalar_features(ends).to(dtype)};
}

Var Transformer::forward(const Input& input, const nn::Pass& pass) const {
    const int64_t batch = input.ids.size(0), n = input.ids.size(1);
    const Var positions(positions_.slice(0, 0, n + kConditions));
    const Var table = concat({Var(codebook_), base_.learn_tok_emb.weight}, 0);
    Var x = base_.to_emb(embedding(table, input.ids)) + slice(positions, 0, 0, n);
    const Var words = base_.word_emb(Var(input.text.words));
    for (size_t l = 0; l < base_.cross_att.size(); ++l) x = base_.cross_att[l](x, words, pass);
    const Var sentence =
        reshape(base_.cond_emb(Var(input.text.sentence)), {batch, 1, config_.embed_dim});
    const Var rate = base_.t_embedder(input.masks) + base_.l_embedder(input.ends);
    // The second time that positions are added, one place on for each condition (QUIRK Q31).
    x = concat({sentence, rate, x}, 1) + positions;
    AttentionOptions options;
    options.mask = input.hidden;
    for (size_t l = 0; l < base_.blocks.size(); ++l) x = base_.blocks[l](x, options, pass);
    for (size_t l = 0; l < head_.blocks.size(); ++l) x = head_.blocks[l](x, options, pass);
    return head_.head(head_.ln_f(slice(x, 1, kConditions, n + kConditions)));
}

Tensor Transformer::hidden_mask(const Tensor& ids_in) const {
    const Tensor ids = ids_in.contiguous();
    const int64_t s = ids.size(1) + kConditions;
    const Tensor hidden = Tensor::empty({ids.size(0), s, s}, DType::boolean, ids.device());
    write_mask(hidden, ids, ids, {}, mask_id(0));
    return hidden;
}

Tensor Transformer::open_mask(const std::vector<int64_t>& lengths, int64_t n) const {
    const int64_t batch = static_cast<int64_t>(lengths.size()), s = n + kConditions;
    Tensor hidden = Tensor::empty({batch, s, s}, DType::boolean);
    for (int64_t b = 0; b < batch; ++b)
        for (int64_t q = 0; q < s; ++q)
            for (int64_t k = 0; k < s; ++k)
                hidden.data<bool>()[(b * s + q) * s + k] = k - kConditions > lengths[b];
    return hidden;
}

Transformer::Step Transformer::train_step(const Tensor& ids_in, const std::vector<int64_t>& lengths,
                                          const Text& text, const nn::Pass& pass,
                                          UniformSource& draws) const {
    const int64_t batch = ids_in.size(0), n = ids_in.size(1), wide = n + 1;
    const Tensor source = ids_in.contiguous();
    const bool few = draws.uniform("draw.rand0", {1}).item<float>() < 0.1f;
    const Tensor keep = draws.uniform("draw.uniform0", {batch}),
                 kept = draws.uniform("draw.bernoulli0", {batch, wide}),
                 random = draws.uniform("draw.randint0", {batch, wide});
    const Tensor ratio = draws.uniform("draw.uniform1", {batch}),
                 order1 = draws.uniform("draw.rand1", {batch, wide}),
                 order2 = draws.uniform("draw.rand2", {batch, wide});
    Step step;
    step.ids = Tensor::empty({batch, wide}, DType::i64);
    step.masked = Tensor::empty({batch, wide}, DType::boolean);
    step.ranks = shuffled(order2, lengths);
    Tensor labels = Tensor::zeros({batch, wide}, DType::i64);
    const Tensor places = shuffled(order1, lengths);
    for (int64_t b = 0; b < batch; ++b) {
        const int64_t length = lengths[b];
        const float share =
            few ? 0.5f * ratio.data<float>()[b] : 0.5f + 0.5f * ratio.data<float>()[b];
        const int64_t count = std::max<int64_t>(
            1, static_cast<int64_t>(std::nearbyint(share * static_cast<float>(length))));
        const float keep_share = 0.6f + 0.4f * keep.data<float>()[b];
        const int64_t* ranks = step.ranks.data<int64_t>() + b * wide;
        const int64_t* first = places.data<int64_t>() + b * wide;
        for (int64_t i = 0; i < wide; ++i) {
            const int64_t at = b * wide + i;
            const bool masked = i < length && first[i] < count;
            step.masked.data<bool>()[at] = masked;
            int64_t id = i == length ? end_id() : pad_id();
            if (i < length) {
                id = labels.data<int64_t>()[at] = source.data<int64_t>()[b * n + i];
                if (masked)
                    id = mask_id(ranks[i]);
                else if (kept.data<float>()[at] >= keep_share)
                    id = std::min<int64_t>(
                        config_.nb_code - 1,
                        static_cast<int64_t>(random.data<float>()[at] *
                                             static_cast<float>(config_.nb_code)));
            }
            step.ids.data<int64_t>()[at] = id;
        }
    }
    const Input fed = input(step.ids, text);
    step.hidden = fed.hidden;
    const Var all = forward(fed, pass);
    const TokenLoss loss = token_loss(all, labels, lengths);
    step.loss = loss.loss;
    step.accuracy = loss.accuracy;
    step.logits = all.value();
    return step;
}

Tensor Transformer::generate(const Text& text, const std::vector<int64_t>& lengths,
                             const GenerationOptions& options, UniformSource& draws,
                             const Watch& watch, const Tensor& keep_in) const {
    const Tape::Pause no_tape;
    const int64_t batch = static_cast<int64_t>(lengths.size()), whole = config_.tokens(),
                  classes = config_.nb_code;
    const DeviceType where = device();
    const bool reference = config_.reference_sampling;
    constexpr float kSettled = 1e5f;
    check(text);
    draws.uniform("draw.uniform0", {batch});      // a masking ratio between 1 and 1
    draws.uniform("draw.rand0", {batch, whole});  // and which tokens it masks
    const Tensor order_of_all = draws.uniform("draw.rand1", {batch, whole});
    for (const int64_t length : lengths)
        if (length < 1 || length >= whole)
            throw Error("[bad] a length of " + std::to_string(length) + " tokens, want 1 to " +
                        std::to_string(whole - 1));
    // What comes after all ends is padding, which no token sees. A GPU's graph has all, so that
    // motions of any length share it.
    const int64_t n = where != DeviceType::cpu || watch
                          ? whole
                          : *std::max_element(lengths.begin(), lengths.end()) + 1;
    const int64_t s = n + kConditions;
    const Tensor order = order_of_all.slice(1, 0, n).contiguous();
    const Tensor is_masked = Tensor::zeros({batch, n}, DType::boolean);
    const Tensor order_ranks = shuffled(order, lengths);
    Tensor ids = Tensor::empty({batch, n}, DType::i64);
    const Tensor keep = keep_in.defined() ? keep_in.contiguous() : Tensor();
    const auto kept = [&](int64_t b, int64_t i) {
        return keep.defined() ? keep.data<int64_t>()[b * keep.size(1) + i] : int64_t{-1};
    };
    const Shape rows{batch * n};
    Tensor score = Tensor::full({batch, n}, kSettled);  // how sure the model was of each token
    std::vector<float> span;
    std::vector<std::vector<int64_t>> open(static_cast<size_t>(batch));  // places that are made
    for (int64_t b = 0; b < batch; ++b) {
        const int64_t length = lengths[b];
        span.push_back(step_span(options.steps, length));
        int64_t* rank = order_ranks.data<int64_t>() + b * n;
        for (int64_t i = 0; i < n; ++i) {
            const int64_t at = b * n + i, id = i < length ? kept(b, i) : -1;
            const bool made = i < length && id < 0;
            is_masked.data<bool>()[at] = made;
            ids.data<int64_t>()[at] = i == length ? end_id() : id >= 0 ? id : pad_id();
            if (!made) continue;
            score.data<float>()[at] = 0;
            open[b].push_back(i);
        }
        // The order of those that are made among themselves: 0 .. their number - 1.
        std::vector<int64_t> among(open[b]);
        std::sort(among.begin(), among.end(),
                  [&](int64_t x, int64_t y) { return rank[x] < rank[y]; });
        for (size_t r = 0; r < among.size(); ++r) rank[among[r]] = static_cast<int64_t>(r);
    }
    bool* masked = is_masked.data<bool>();
    const int64_t* ranks = order_ranks.data<int64_t>();
    const bool random = options.temperature > 0, categorical = options.order_agnostic && random;
    momask::TokenDraws how{categorical ? momask::top_k_count(options.top_k, classes) : classes,
                           random ? options.temperature : 1.0, !categorical};
    how.otherwise = kSettled;
    std::vector<uint64_t> key;
    std::unique_ptr<StepWork> work;
    for (int64_t step = 0; step < options.steps; ++step) {
        bool done = step > 0;
        for (int64_t b = 0; b < batch; ++b) {
            const float now = static_cast<float>(step), t = std::min(now / span[b], 1.0f);
            // QUIRK Q32: step - 1/span where (step - 1)/span was meant.
            const float before = reference ? now - 1.0f / span[b] : (now - 1.0f) / span[b];
            done = done && std::min(before, 1.0f) == t;
        }
        if (done && (batch == 1 || !reference)) break;
        const Tensor by_score = options.order_agnostic ? Tensor() : mc::ranks(score);
        for (int64_t b = 0; b < batch; ++b) {
            const int64_t all = static_cast<int64_t>(open[b].size()),
                          count = masked_before(step, span[b], all);
            for (int64_t i : open[b]) {
                const int64_t at = b * n + i;
                masked[at] = options.order_agnostic ? ranks[at] >= all - count
                                                    : by_score.data<int64_t>()[at] < count;
                if (masked[at]) ids.data<int64_t>()[at] = mask_id(ranks[at]);
            }
        }
        ids.bump_version();
        Tensor noise;
        if (random)
            noise = draws
                        .uniform_on(where, "noise.step" + std::to_string(step),
                                    how.gumbel ? Shape{batch, whole, classes} : Shape{batch, whole})
                        .slice(1, 0, n)
                        .contiguous();
        if (!work) {
            key = graph_key(batch, n, text.words.size(1), noise.defined(), how.gumbel, how.k,
                            how.temperature, options.order_agnostic, Inference::products());
            work = graphs_.take(key, fingerprint());
            if (!work) work = std::make_unique<StepWork>(where);
            put(where, work->input.text.sentence, text.sentence);
            put(where, work->input.text.words, text.words);
            if (!work->input.hidden.defined())
                work->input.hidden = Tensor::empty({batch, s, s}, DType::boolean, where);
            if (reference) {
                put(where, work->start, ids);
                Tensor last = Tensor::from_ids(lengths, {batch});
                for (int64_t b = 0; b < batch; ++b) --last.data<int64_t>()[b];
                put(where, work->open, last);  // QUIRK Q34: meant for the end, one place on
            }
            put(where, work->tokens, Tensor::full(rows, -1, DType::i64));
            put(where, work->probability, Tensor::full(rows, kSettled));
        }
        const auto [masks, ends] = features(ids);
        put(where, work->input.ids, ids);
        put(where, work->input.masks, masks);
        put(where, work->input.ends, ends);
        put(where, work->drawn, is_masked.reshape(rows));
        if (noise.defined()) put(where, work->noise, noise);
        how.drawn = work->drawn;
        how.u = work->noise;
        const auto draw = [&] {
            // QUIRK Q35: rows stay as they were at the start. What was once made is seen by all
            // from then on because it is not masked again: fewer are from step to step.
            write_mask(work->input.hidden, reference ? work->start : work->input.ids,
                       work->input.ids, work->open, mask_id(0));
            const Tensor all = forward(work->input, {}).value();
            if (watch) watch({step, ids, work->input.hidden.cpu(), all.cpu()});
            momask::draw_tokens(work->tokens, options.order_agnostic ? Tensor() : work->probability,
                                all.reshape({batch * n, classes}), how);
        };
        if (watch)
            draw();
        else
            work->graph.run(draw);
        const Tensor drawn = work->tokens.cpu();
        for (int64_t at = 0; at < batch * n; ++at)
            if (masked[at]) ids.data<int64_t>()[at] = drawn.data<int64_t>()[at];
        momask::check_drawn(ids);
        if (!options.order_agnostic) score = work->probability.cpu().reshape({batch, n});
    }
    if (work) graphs_.keep(std::move(key), std::move(work));
    if (n == whole) return ids;
    return concat({Var(ids), Var(Tensor::full({batch, whole - n}, pad_id(), DType::i64))}, 1)
        .value();
}

}  // namespace mc::bad
