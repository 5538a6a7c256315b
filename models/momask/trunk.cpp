#include "models/momask/trunk.h"

#include <algorithm>

#include "autograd/inference.h"

namespace mc::momask {
namespace {

constexpr int64_t kMaxTokens = 512;

// Tokens picked from sequences, as many of each (some twice), and put back.
struct Picks {
    Tensor from;  // i64 (S, m): rows of S sequences of `extra` + n
    Tensor to;    // i64 (S, n): rows of what was picked, -1 where nothing was

    // wanted, bool (B, n) on the CPU: the same for `copies` sequences each.
    Picks(const Tensor& wanted, int64_t copies, int64_t extra) {
        const int64_t n = wanted.size(1), sequences = copies * wanted.size(0);
        const bool* all = wanted.data<bool>();
        int64_t most = 1;
        for (const bool* row = all; row != all + wanted.numel(); row += n)
            most = std::max<int64_t>(most, std::count(row, row + n, true));
        from = Tensor::zeros({sequences, most}, DType::i64);
        to = Tensor::full({sequences, n}, -1, DType::i64);
        for (int64_t s = 0; s < sequences; ++s)
            for (int64_t i = 0, at = s * most; i < n; ++i)
                if (all[s / copies * n + i]) {
                    from.data<int64_t>()[at] = s * (extra + n) + extra + i;
                    to.data<int64_t>()[s * n + i] = at++;
                }
    }

    // x (S, L, W)
    static Var rows(const Var& x, const Tensor& ids) {
        return embedding(reshape(x, {x.size(0) * x.size(1), x.size(2)}), ids);
    }
};

}  // namespace

Trunk::InputProcess::InputProcess(const TransformerConfig& config, Generator* init)
    : pose_embedding(config.code_dim, config.latent_dim, init) {
    add("poseEmbedding", pose_embedding);
}

Trunk::Stack::Stack(const TransformerConfig& config, Blocks kind, Generator* init) {
    add("layers", layers);
    add("blocks", blocks);
    for (int64_t i = 0; i < config.layers; ++i)
        if (kind == Blocks::gpt)
            blocks.emplace(config.latent_dim, config.heads, config.ff_size, config.dropout, init);
        else
            layers.emplace(config.latent_dim, config.heads, config.ff_size, config.dropout, init);
}

Trunk::OutputProcess::OutputProcess(const TransformerConfig& config, int64_t out_dim,
                                    Generator* init)
    : dense(config.latent_dim, config.latent_dim, init),
      layer_norm(config.latent_dim, 1e-12),
      pose_final(config.latent_dim, out_dim, init) {
    add("dense", dense);
    add("LayerNorm", layer_norm);
    add("poseFinal", pose_final);
}

Trunk::Trunk(const TransformerConfig& config, int64_t out_dim, Generator* init, Blocks blocks)
    : config_(config),
      input_process_(config, init),
      stack_(config, blocks, init),
      cond_emb_(config.clip_dim, config.latent_dim, init),
      output_process_(config, out_dim, init),
      positions_(nn::sinusoidal_positions(kMaxTokens, config.latent_dim)) {
    add("input_process", input_process_);
    add("seqTransEncoder", stack_);
    add("cond_emb", cond_emb_);
    add("output_process", output_process_);
    add_constant(positions_);
}

Var Trunk::condition(const Tensor& cond) const {
    if (cond.dims() != 2 || cond.size(1) != config_.clip_dim)
        throw Error("[momask] text embedding " + cond.shape().str() + ", want (B, " +
                    std::to_string(config_.clip_dim) +
                    "); is the text encoder another one than the generator was trained with?");
    return reshape(cond_emb_(Var(cond.to(cond_emb_.device()))),
                   {cond.size(0), 1, config_.latent_dim});
}

Var Trunk::project(const Var& h) const {
    const Inference::InFull in_full;
    return input_process_.pose_embedding(h);
}

Var Trunk::positions(int64_t begin, int64_t end) const {
    if (end > kMaxTokens)
        throw Error("[momask] " + std::to_string(end) + " tokens, at most " +
                    std::to_string(kMaxTokens));
    return positions_.slice(0, begin, end);
}

Trunk::Shared Trunk::shared(const Var& prefix, const Var& tokens) {
    const int64_t batch = tokens.size(0), n = tokens.size(1), extra = prefix.size(1),
                  copies = prefix.size(0) / batch;
    Shared out;
    out.x = concat({reshape(prefix, {batch, copies * extra, prefix.size(2)}), tokens}, 1);
    if (copies == 1) return out;
    out.spread = [=](const Var& v) {
        std::vector<Var> parts;
        for (int64_t at = 0; at < copies * extra; at += extra) {
            parts.push_back(slice(v, 1, at, at + extra));
            parts.push_back(slice(v, 1, copies * extra, copies * extra + n));
        }
        return reshape(concat(parts, 1), {copies * batch, extra + n, v.size(2)});
    };
    return out;
}

Var Trunk::stack(const Var& x_in, AttentionOptions options, const nn::Pass& pass,
                 const nn::RowMaps& rows) const {
    Var x = x_in;
    // Once, not in every layer.
    for (Tensor* mask : {&options.key_padding, &options.mask})
        if (mask->defined()) *mask = mask->to(x.value().device());
    const auto pass_through = [&](const auto& blocks) {
        for (size_t l = 0; l < blocks.size(); ++l) {
            nn::RowMaps own;
            if (l == 0) own.spread = rows.spread;
            if (l + 1 == blocks.size()) own.wanted = rows.wanted;
            if (rows.kept) own.kept = rows.kept + l;
            own.first = rows.first;
            own.seen = rows.seen;
            if (own.wanted && options.mask.defined())
                options.mask = own.wanted(options.mask).value();
            x = blocks[l](x, options, pass, own);
        }
    };
    pass_through(stack_.layers);
    pass_through(stack_.blocks);
    return x;
}

Var Trunk::head(const Var& x) const {
    const Inference::InFull in_full;
    return output_process_.pose_final(
        output_process_.layer_norm(output_process_.dense(x, UnaryOp::gelu)));
}

Var Trunk::run(const Var& h, const std::vector<Var>& prefix, const Tensor& padding,
               const nn::Pass& pass, const Tensor& wanted) const {
    const int64_t batch = h.size(0), n = h.size(1), extra = static_cast<int64_t>(prefix.size()),
                  copies = prefix[0].size(0) / batch;
    const Shared in =
        shared(concat(prefix, 1), nn::dropout(project(h) + positions(0, n), config_.dropout, pass));
    AttentionOptions options;
    options.key_padding = repeated(
        concat({Var(Tensor::zeros({batch, extra}, DType::boolean, padding.device())), Var(padding)},
               1)
            .value(),
        copies);
    if (!wanted.defined())
        return head(slice(stack(in.x, options, pass, {in.spread, {}}), 1, extra, n + extra));
    const Picks picks(wanted, copies, extra);
    const auto picked = [&](const Var& v) { return Picks::rows(v, picks.from); };
    return Picks::rows(head(stack(in.x, options, pass, {in.spread, picked})), picks.to);
}

Tensor padding_mask(const std::vector<int64_t>& lengths, int64_t n) {
    Tensor mask = Tensor::empty({static_cast<int64_t>(lengths.size()), n}, DType::boolean);
    for (size_t b = 0; b < lengths.size(); ++b)
        for (int64_t i = 0; i < n; ++i)
            mask.data<bool>()[static_cast<int64_t>(b) * n + i] = i >= lengths[b];
    return mask;
}

Tensor drop_conditions(const Tensor& cond, double probability, const nn::Pass& pass,
                       UniformSource& draws) {
    if (!pass.training || probability <= 0) return cond;
    const int64_t batch = cond.size(0);
    const Tensor drop = draws.uniform("draw.cond_drop", {batch});
    Tensor out = cond.clone();
    const size_t row = static_cast<size_t>(cond.size(1)) * size_of(cond.dtype());
    for (int64_t b = 0; b < batch; ++b)
        if (drop.data<float>()[b] < probability)
            std::memset(out.raw() + static_cast<size_t>(b) * row, 0, row);
    return out;
}

Tensor repeated(const Tensor& t, int64_t copies) {
    if (!t.defined() || copies == 1) return t;
    Shape shape = t.shape();
    shape[0] *= copies;
    return concat(std::vector<Var>(static_cast<size_t>(copies), Var(t)), 1).value().reshape(shape);
}

Tensor with_guidance(const Tensor& cond, double scale,
                     const std::function<Var(const Tensor& cond)>& logits) {
    return guided(branches(logits(branch_conditions(cond, scale)).value(), scale), scale);
}

Tensor branch_conditions(const Tensor& cond, double scale) {
    if (scale == 1) return cond;
    const Var none(Tensor::zeros(cond.shape(), cond.dtype(), cond.device()));
    return concat({Var(cond), none}, 1).value().reshape({2 * cond.size(0), cond.size(1)});
}

Branches branches(const Tensor& logits, double scale) {
    if (scale == 1) return {logits, Tensor()};
    Shape pairs = {logits.size(0) / 2, 2};
    for (int i = 1; i < logits.dims(); ++i) pairs.push_back(logits.size(i));
    const Tensor both = logits.reshape(pairs);
    return {both.slice(1, 0, 1).squeeze(1), both.slice(1, 1, 2).squeeze(1)};
}

Tensor guided(const Branches& logits, double scale) {
    if (!logits.without.defined()) return logits.with;
    const Var with(logits.with), without(logits.without);
    return (without + mc::scale(with - without, scale)).value();
}

bool is_foreign_key(const std::string& name) {
    return name == "position_enc.pe" || name.starts_with("clip_model.");
}

}  // namespace mc::momask
