#include "models/moclip/motion_encoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "motion/features.h"

namespace mc::moclip {
namespace {

constexpr int64_t kPositions = 5000;

}  // namespace

MotionEncoderConfig MotionEncoderConfig::reference() {
    return {};
}

MotionEncoderConfig MotionEncoderConfig::paper() {
    MotionEncoderConfig c;
    c.part_table = "t2m6";
    c.input_space = InputSpace::metric_root_relative;
    c.limb_attention = true;
    c.position_axis = PositionAxis::time;
    c.key_padding_mask = true;
    c.pooling = Pooling::attention;
    return c;
}

MotionEncoderConfig MotionEncoderConfig::small() {
    MotionEncoderConfig c = paper();
    c.width = 192;
    c.heads = 4;
    c.layers = 3;
    c.part_dim = 64;
    c.hidden_dim = 64;
    c.output_dim = 256;
    return c;
}

void joints_for_encoder(InputSpace space, const motion::Normalisation& normalisation,
                        const float* normalised, int64_t frames, int64_t padded, float* dst) {
    const int64_t dims = normalisation.dims(), joints = (dims + 1) / 12;
    if (frames < 1) throw Error("[moclip] a motion without frames");
    motion::FeatureSequence features;
    features.dims = dims;
    if (space == InputSpace::normalised_ric) {
        features.frames = padded;
        features.rows.assign(static_cast<size_t>(padded * dims), 0.0f);
        std::copy_n(normalised, frames * dims, features.rows.begin());
        const motion::JointSequence all = motion::joints_from_features(features);
        std::copy(all.xyz.begin(), all.xyz.end(), dst);
        return;
    }
    features.frames = frames;
    features.rows.resize(static_cast<size_t>(frames * dims));
    normalisation.denormalise(normalised, features.rows.data(), frames);
    const motion::JointSequence all = motion::joints_from_features(features);
    std::fill_n(dst, padded * joints * 3, 0.0f);
    for (int64_t t = 0; t < frames; ++t)
        for (int64_t j = 0; j < joints; ++j)
            for (int c = 0; c < 3; ++c) {
                const float origin = j > 0 ? all.at(t, 0)[c] : c == 1 ? 0.0f : all.at(0, 0)[c];
                dst[(t * joints + j) * 3 + c] = all.at(t, j)[c] - origin;
            }
}

MotionEncoder::PartEncoder::PartEncoder(const MotionEncoderConfig& config, Generator* init) {
    add("six_layers", six_layers);
    add("six_layers_2", six_layers_2);
    add("six_layers_v", six_layers_v);
    add("six_layers_v2", six_layers_v2);
    for (const auto& part : moclip::part_table(config.part_table)) {
        const int64_t in = 3 * static_cast<int64_t>(part.size());
        six_layers.emplace(in, config.hidden_dim, init);
        six_layers_2.emplace(config.hidden_dim, config.part_dim / 2, init);
        six_layers_v.emplace(in, config.hidden_dim, init);
        six_layers_v2.emplace(config.hidden_dim, config.part_dim / 2, init);
    }
}

MotionEncoder::LimbAttention::LimbAttention(int64_t width, Generator* init)
    : ln(width), attn(width, 4, 0, init) {
    add("ln", ln);
    add("attn", attn);
    attn.out_proj.weight.value().fill_(0);  // paper mode starts from the plain part encoder
}

MotionEncoder::MotionEncoder(const MotionEncoderConfig& config, Generator* init)
    : config_(config),
      parts_(moclip::part_table(config.part_table)),
      encoder_(config, init),
      embed_(config.part_dim * static_cast<int64_t>(parts_.size()), config.width, init),
      ln_pre_(config.width),
      ln_post_(config.width),
      temporal_reduction_(config.width, init),
      proj_(config.width, config.output_dim, init),
      positions_(nn::sinusoidal_positions(kPositions, config.width)) {
    add("encoder", encoder_);
    if (config.limb_attention) {
        const int64_t parts = static_cast<int64_t>(parts_.size());
        if (parts != 6)
            throw Error("[moclip] limb attention is for tables of six parts, not " +
                        config.part_table);
        part_embed_ = nn::init::normal({parts, config.part_dim}, 0.02, init);
        add_parameter("part_embed", part_embed_);
        limb_attn_ = std::make_unique<LimbAttention>(config.part_dim, init);
        add("limb_attn", *limb_attn_);
        limb_mask_ = Tensor::full({parts, parts}, 1, DType::boolean);
        for (int64_t p = 0; p < parts; ++p) limb_mask_.data<bool>()[p * parts + p] = false;
        for (const auto& [a, b] : moclip::limb_edges(config.limb_edges))
            limb_mask_.data<bool>()[a * parts + b] = limb_mask_.data<bool>()[b * parts + a] = false;
    }
    add("embed", embed_);
    add("ln_pre", ln_pre_);
    add("transformer", transformer_);
    for (int64_t l = 0; l < config.layers; ++l)
        transformer_.emplace(config.width, config.heads, config.mlp_ratio * config.width,
                             nn::PreNormBlock::kMotionNames, init);
    add("ln_post", ln_post_);
    add("temporal_reduction", temporal_reduction_);
    add("proj", proj_);
}

Var MotionEncoder::part_features(const Tensor& position, const Tensor& velocity,
                                 const nn::Pass& pass) const {
    const int64_t rows = position.size(0), joints = position.size(1),
                  parts = static_cast<int64_t>(parts_.size());
    auto gathered = [&](const Tensor& source, const std::vector<int>& part) {
        const int64_t n = static_cast<int64_t>(part.size());
        Tensor out = Tensor::empty({rows, 3 * n}, source.dtype());
        dispatch_float(source.dtype(), "part_features", [&](auto zero) {
            using T = decltype(zero);
            for (int64_t r = 0; r < rows; ++r)
                for (int64_t i = 0; i < n; ++i)
                    std::copy_n(source.data<T>() + (r * joints + part[static_cast<size_t>(i)]) * 3,
                                3, out.data<T>() + (r * n + i) * 3);
        });
        return out;
    };
    std::vector<Var> features;  // each (R, 1, h)
    for (size_t p = 0; p < parts_.size(); ++p) {
        const Var a = encoder_.six_layers_2[p](
            nn::dropout(encoder_.six_layers[p](Var(gathered(position, parts_[p])), UnaryOp::tanh),
                        config_.dropout, pass),
            UnaryOp::tanh);
        const Var b = encoder_.six_layers_v2[p](
            nn::dropout(encoder_.six_layers_v[p](Var(gathered(velocity, parts_[p])), UnaryOp::tanh),
                        config_.dropout, pass),
            UnaryOp::tanh);
        features.push_back(reshape(concat({a, b}, 1), {rows, 1, config_.part_dim}));
    }
    Var tokens = concat(features, 1);  // (R, P, h)
    if (limb_attn_) {
        tokens = tokens + part_embed_;
        AttentionOptions options;
        options.mask = limb_mask_;
        tokens = tokens + limb_attn_->attn(limb_attn_->ln(tokens), options, pass);
    }
    return reshape(transpose(tokens, 1, 2),
                   {rows, config_.part_dim * parts});  // feature-major: index i P + p
}

Var MotionEncoder::pooled(const Var& y, const std::vector<int64_t>& lengths) const {
    const int64_t batch = y.size(0), frames = y.size(1);
    if (config_.pooling == Pooling::mean_all) return mean(y, 1, false);
    Tensor valid = Tensor::empty({batch, frames}, DType::boolean);
    Tensor weight = Tensor::zeros({batch, 1, frames}, DType::f64);
    for (int64_t b = 0; b < batch; ++b)
        for (int64_t t = 0; t < frames; ++t) {
            valid.data<bool>()[b * frames + t] = t < lengths[b];
            if (t < lengths[b])
                weight.data<double>()[b * frames + t] = 1.0 / static_cast<double>(lengths[b]);
        }
    if (config_.pooling == Pooling::mean_valid)
        return reshape(matmul(Var(weight.to(y.dtype())), y), {batch, config_.width});
    const Var score = reshape(temporal_reduction_.attention(y), {batch, frames});
    const Var alpha =
        softmax(select(valid, score, Var(Tensor::full({batch, frames}, -INFINITY, y.dtype()))));
    return reshape(matmul(reshape(alpha, {batch, 1, frames}), y), {batch, config_.width});
}

Var MotionEncoder::operator()(const Tensor& joints_in, const std::vector<int64_t>& lengths,
                              const nn::Pass& pass, const Watch& watch) const {
    if (joints_in.dims() != 4 || joints_in.size(3) != 3 ||
        joints_in.size(2) != moclip::joints_of_table(config_.part_table))
        throw Error("[moclip] joints " + joints_in.shape().str() + ", want (B, T, " +
                    std::to_string(moclip::joints_of_table(config_.part_table)) + ", 3)");
    const Tensor joints = joints_in.contiguous();
    const int64_t batch = joints.size(0), frames = joints.size(1), j = joints.size(2);
    const bool masked = config_.key_padding_mask || config_.pooling != Pooling::mean_all;
    if (masked)
        for (int64_t length : lengths)
            if (length < 1 || length > frames)
                throw Error("[moclip] length " + std::to_string(length) + " of a motion of " +
                            std::to_string(frames) + " frames");
    Tensor velocity = Tensor::zeros(joints.shape(), joints.dtype());
    dispatch_float(joints.dtype(), "velocity", [&](auto zero) {
        using T = decltype(zero);
        for (int64_t b = 0; b < batch; ++b) {
            const int64_t end = masked ? lengths[b] : frames;
            const T* x = joints.data<T>() + b * frames * j * 3;
            T* v = velocity.data<T>() + b * frames * j * 3;
            for (int64_t i = j * 3; i < end * j * 3; ++i) v[i] = x[i] - x[i - j * 3];
        }
    });
    Var y;
    if (masked) {  // only valid frames are computed by the part encoder; zero rows stand for the
                   // rest
        std::vector<int64_t> from, place(static_cast<size_t>(batch * frames), -1);
        for (int64_t b = 0; b < batch; ++b)
            for (int64_t t = 0; t < lengths[b]; ++t) {
                place[b * frames + t] = static_cast<int64_t>(from.size());
                from.push_back(b * frames + t);
            }
        const int64_t count = static_cast<int64_t>(from.size());
        const Tensor pick = Tensor::from_ids(from, {count});
        auto packed = [&](const Tensor& t) {
            return embedding(Var(t.reshape({batch * frames, j * 3})), pick)
                .value()
                .reshape({count, j, 3});
        };
        const Var rows = ln_pre_(embed_(part_features(packed(joints), packed(velocity), pass)));
        y = embedding(rows, Tensor::from_ids(place, {batch, frames}));
    } else {
        const Shape flat{batch * frames, j, 3};
        const Var parts = part_features(joints.reshape(flat), velocity.reshape(flat), pass);
        const Var embedded = embed_(parts);
        if (watch) {
            watch("encoder", parts.value().reshape({batch, frames, parts.size(1)}));
            watch("embed", embedded.value().reshape({batch, frames, config_.width}));
        }
        y = reshape(ln_pre_(embedded), {batch, frames, config_.width});
    }
    if (config_.position_axis ==
        PositionAxis::batch)  // QUIRK: one row of the table a sample, for all its frames
        y = y + Var(positions_.slice(0, 0, batch).unsqueeze(1).to(y.dtype()));
    if (config_.position_axis == PositionAxis::time)
        y = y + Var(positions_.slice(0, 0, frames).to(y.dtype()));
    y = nn::dropout(y, config_.dropout, pass);
    AttentionOptions options;
    if (config_.key_padding_mask) {
        options.key_padding = Tensor::empty({batch, frames}, DType::boolean);
        for (int64_t b = 0; b < batch; ++b)
            for (int64_t t = 0; t < frames; ++t)
                options.key_padding.data<bool>()[b * frames + t] = t >= lengths[b];
    }
    for (size_t l = 0; l < transformer_.size(); ++l) {
        y = transformer_[l](y, options, pass);
        if (watch) watch("after_block" + std::to_string(l), y.value());
    }
    return proj_(pooled(ln_post_(y), lengths));
}

}  // namespace mc::moclip
