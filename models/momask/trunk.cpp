#include "models/momask/trunk.h"

#include "autograd/inference.h"

namespace mc::momask {
namespace {

constexpr int64_t kMaxTokens = 512;

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

Var Trunk::with_positions(const Var& x, const nn::Pass& pass) const {
    const int64_t n = x.size(1);
    if (n > kMaxTokens)
        throw Error("[momask] " + std::to_string(n) + " tokens, at most " +
                    std::to_string(kMaxTokens));
    return nn::dropout(x + Var(positions_.slice(0, 0, n)), config_.dropout, pass);
}

Var Trunk::stack(const Var& x_in, AttentionOptions options, const nn::Pass& pass) const {
    Var x = x_in;
    // Once, not in every layer.
    for (Tensor* mask : {&options.key_padding, &options.mask})
        if (mask->defined()) *mask = mask->to(x.value().device());
    for (size_t l = 0; l < stack_.layers.size(); ++l) x = stack_.layers[l](x, options, pass);
    for (size_t l = 0; l < stack_.blocks.size(); ++l) x = stack_.blocks[l](x, options, pass);
    return x;
}

Var Trunk::head(const Var& x) const {
    const Inference::InFull in_full;
    return output_process_.pose_final(
        output_process_.layer_norm(output_process_.dense(x, UnaryOp::gelu)));
}

Var Trunk::run(const Var& h, const std::vector<Var>& prefix, const Tensor& padding,
               const nn::Pass& pass) const {
    const int64_t batch = h.size(0), n = h.size(1), extra = static_cast<int64_t>(prefix.size());
    std::vector<Var> parts(prefix);
    parts.push_back(with_positions(project(h), pass));
    AttentionOptions options;
    options.key_padding =
        concat({Var(Tensor::zeros({batch, extra}, DType::boolean, padding.device())), Var(padding)},
               1)
            .value();
    return head(slice(stack(concat(parts, 1), options, pass), 1, extra, n + extra));
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
    return concat(std::vector<Var>(static_cast<size_t>(copies), Var(t)), 0).value();
}

Tensor with_guidance(const Tensor& cond, double scale,
                     const std::function<Var(const Tensor& cond, int64_t copies)>& logits) {
    if (scale == 1) return logits(cond, 1).value();
    const int64_t batch = cond.size(0);
    const Tensor both =
        concat({Var(cond), Var(Tensor::zeros(cond.shape(), cond.dtype(), cond.device()))}, 0)
            .value();
    const Tensor all = logits(both, 2).value();
    const Var with(all.slice(0, 0, batch)), without(all.slice(0, batch, 2 * batch));
    return (without + mc::scale(with - without, scale)).value();
}

bool is_foreign_key(const std::string& name) {
    return name == "position_enc.pe" || name.starts_with("clip_model.");
}

}  // namespace mc::momask
