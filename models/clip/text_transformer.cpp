#include "models/clip/text_transformer.h"

#include <algorithm>

namespace mc::clip {

TextConfig TextConfig::from_state(const nn::TensorMap& state, const std::string& source) {
    auto shape = [&](const std::string& name, int dims) {
        auto found = state.find(name);
        if (found == state.end() || found->second.dims() != dims)
            throw Error("[clip] " + source + " has no usable " + name +
                        "; is it a CLIP text encoder?");
        return found->second.shape();
    };
    TextConfig config;
    config.width = shape("ln_final.weight", 1)[0];
    config.vocab = shape("token_embedding.weight", 2)[0];
    config.context = shape("positional_embedding", 2)[0];
    config.embed_dim = shape("text_projection", 2)[1];
    config.heads = std::max<int64_t>(1, config.width / 64);
    config.layers = 0;
    while (state.count("transformer.resblocks." + std::to_string(config.layers) + ".ln_1.weight"))
        ++config.layers;
    return config;
}

TextTransformer::TextTransformer(const TextConfig& config, Generator* init)
    : config_(config),
      token_embedding_(config.vocab, config.width, 0.02, init),
      positional_embedding_(nn::init::normal({config.context, config.width}, 0.01, init)),
      ln_final_(config.width),
      text_projection_(nn::init::normal({config.width, config.embed_dim},
                                        1.0 / std::sqrt(static_cast<double>(config.width)), init)) {
    add("token_embedding", token_embedding_);
    add_parameter("positional_embedding", positional_embedding_);
    add("transformer", transformer_);
    add("ln_final", ln_final_);
    add_parameter("text_projection", text_projection_);
    const double width_std = 1.0 / std::sqrt(static_cast<double>(config.width));
    const double out_std = width_std / std::sqrt(2.0 * static_cast<double>(config.layers));
    for (int64_t l = 0; l < config.layers; ++l) {
        auto& block = transformer_.resblocks.emplace(config.width, config.heads, 4 * config.width,
                                                     nn::PreNormBlock::kClipNames, init);
        if (!init) continue;
        auto refill = [&](Var& p, double std) { p.value().copy_(init->normal(p.shape(), 0, std)); };
        refill(block.attn.in_proj_weight, width_std);
        refill(block.attn.out_proj.weight, out_std);
        refill(block.mlp.fc.weight, width_std / std::sqrt(2.0));
        refill(block.mlp.proj.weight, out_std);
    }
}

void TextTransformer::check(const Tensor& ids) const {
    if (ids.dims() != 2 || ids.size(1) > config_.context)
        throw Error("[clip] token ids " + ids.shape().str() + ", want (B, at most " +
                    std::to_string(config_.context) + ")");
}

Var TextTransformer::embed(const Tensor& ids) const {
    return token_embedding_(ids) + slice(positional_embedding_, 0, 0, ids.size(1));
}

Var TextTransformer::words(const Tensor& ids, const nn::Pass& pass) const {
    check(ids);
    Var x = embed(ids.contiguous());
    AttentionOptions options;
    options.causal = true;
    for (size_t l = 0; l < transformer_.resblocks.size(); ++l)
        x = transformer_.resblocks[l](x, options, pass);
    return ln_final_(x);
}

Var TextTransformer::operator()(const Tensor& ids_in, const nn::Pass& pass) const {
    check(ids_in);
    const Tensor ids = ids_in.contiguous();
    const int64_t batch = ids.size(0), context = ids.size(1);
    std::vector<int64_t> end(
        static_cast<size_t>(batch));  // the first maximum: the end-of-text token
    int64_t longest = 0;
    for (int64_t b = 0; b < batch; ++b) {
        const int64_t* row = ids.data<int64_t>() + b * context;
        end[b] = std::max_element(row, row + context) - row;
        longest = std::max(longest, end[b] + 1);
    }
    const Tensor used = ids.slice(1, 0, longest).contiguous();
    Var x = embed(used);  // (B, L, D)
    AttentionOptions options;
    options.causal = true;
    const size_t layers = transformer_.resblocks.size();
    for (size_t l = 0; l + 1 < layers; ++l) x = transformer_.resblocks[l](x, options, pass);
    std::vector<int64_t> rows(end);
    for (int64_t b = 0; b < batch; ++b) rows[b] += b * longest;
    // The end rows alone go on from where nothing mixes positions any more: the last block's MLP,
    // the norm and the projection.
    const auto end_rows = [&](const Var& v) {  // (B, D)
        return embedding(reshape(v, {batch * longest, config_.width}),
                         Tensor::from_ids(rows, {batch}));
    };
    Var pooled;
    if (layers == 0) {
        pooled = end_rows(x);
    } else {
        const nn::PreNormBlock& last = transformer_.resblocks[layers - 1];
        const Var y = end_rows(x + last.attn(last.ln_1(x), options, pass));
        pooled =
            y + nn::feed_forward(last.mlp.fc, UnaryOp::quick_gelu, last.mlp.proj, last.ln_2(y));
    }
    return matmul(ln_final_(pooled), text_projection_);
}

}  // namespace mc::clip
