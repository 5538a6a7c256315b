#include "models/moclip/motion_encoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "motion/features.h"

namespace mc::moclip {
namespace {

constexpr int64_t kPositions = 5000;

// Each frame's step from the one before it, (B, T, C); none at the first.
Var velocity_of(const Var& x) {
    const int64_t frames = x.size(1);
    const Var none(Tensor::zeros({x.size(0), 1, x.size(2)}, x.dtype(), x.value().device()));
    return frames < 2 ? none
                      : concat({none, slice(x, 1, 1, frames) - slice(x, 1, 0, frames - 1)}, 1);
}

// Where the joints' coordinates stand in a frame's 3 J.
Tensor coordinates(const std::vector<int>& joints) {
    std::vector<int64_t> ids;
    for (const int joint : joints)
        for (int c = 0; c < 3; ++c) ids.push_back(3 * joint + c);
    return Tensor::from_ids(ids, {static_cast<int64_t>(ids.size())});
}

std::string edges_problem(const MotionEncoderConfig& config) {
    const bool custom = config.limb_edges == "custom";
    if (!custom) moclip::limb_edges(config.limb_edges);  // throws for a name that there is not
    if (!custom && !config.edges.empty())
        return "edges are given and limb_edges is " + config.limb_edges +
               "; set limb_edges=custom to use them";
    if (custom && !config.limb_attention)
        return "limb_edges=custom has no effect with limb_attention=false; set limb_attention=true";
    if (custom && config.edges.empty())
        return "limb_edges=custom has no edges; give the pairs of parts, edges=[[0,1],[2,3],...]";
    const int parts = static_cast<int>(config.part_joints().size());
    const auto is_part = [&](int p) { return p >= 0 && p < parts; };
    for (const auto& edge : config.edges)
        if (edge.size() != 2 || edge[0] == edge[1] || !is_part(edge[0]) || !is_part(edge[1])) {
            std::string text;
            for (const int p : edge) text += (text.empty() ? "" : ",") + std::to_string(p);
            return "edges have [" + text + "], want two different parts of 0 to " +
                   std::to_string(parts - 1);
        }
    if (config.limb_attention && !custom && parts != 6)
        return "limb_edges=" + config.limb_edges + " is for tables of six parts, not " +
               config.part_table + " with " + std::to_string(parts) +
               "; set limb_edges=custom and edges, or limb_attention=false";
    return "";
}

const MotionEncoderConfig& checked(const MotionEncoderConfig& config) {
    if (const std::string problem = problem_of(config); !problem.empty())
        throw Error("[moclip] " + problem);
    return config;
}

}  // namespace

std::span<const char* const> names_of(InputSpace) {
    static constexpr const char* names[] = {"normalised_ric", "metric_global",
                                            "metric_root_relative", "metric_heading"};
    return names;
}

std::span<const char* const> names_of(PositionAxis) {
    static constexpr const char* names[] = {"none", "batch", "time"};
    return names;
}

std::span<const char* const> names_of(PositionKind) {
    static constexpr const char* names[] = {"sinusoidal", "learned"};
    return names;
}

std::span<const char* const> names_of(Pooling) {
    static constexpr const char* names[] = {"mean_all", "mean_valid", "attention"};
    return names;
}

PartTable MotionEncoderConfig::part_joints() const {
    return part_table == "custom" ? parts : moclip::part_table(part_table);
}

LimbEdges MotionEncoderConfig::part_edges() const {
    if (limb_edges != "custom") return moclip::limb_edges(limb_edges);
    LimbEdges pairs;
    for (const auto& edge : edges) pairs.emplace_back(edge.at(0), edge.at(1));
    return pairs;
}

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
    const motion::RootPath path = motion::recover_root(features);
    std::fill_n(dst, padded * joints * 3, 0.0f);
    for (int64_t t = 0; t < frames; ++t)
        for (int64_t j = 0; j < joints; ++j) {
            float* to = dst + (t * joints + j) * 3;
            const bool by_root = j > 0 && space != InputSpace::metric_global;
            for (int c = 0; c < 3; ++c) {
                const float origin = by_root ? all.at(t, 0)[c] : c == 1 ? 0.0f : all.at(0, 0)[c];
                to[c] = all.at(t, j)[c] - origin;
            }
            if (by_root && space == InputSpace::metric_heading) {
                const motion::Vec3 v = motion::rotate(path.heading(t), {to[0], to[1], to[2]});
                to[0] = static_cast<float>(v.x);
                to[2] = static_cast<float>(v.z);
            }
        }
}

std::string problem_of(const MotionEncoderConfig& config) {
    if (config.part_table == "custom") {
        if (config.parts.empty())
            return "part_table=custom has no parts; give the joints of each, "
                   "parts=[[0],[0,3,6,9,12,15],...]";
        if (const std::string problem = problem_of(config.parts); !problem.empty()) return problem;
    } else if (!config.parts.empty()) {
        return "parts are given and part_table is " + config.part_table +
               "; set part_table=custom to use them";
    }
    if (config.part_dim % 2 != 0)
        return "part_dim " + std::to_string(config.part_dim) +
               " is odd; positions have one half of it, velocities the other";
    if (config.standardise && config.input_space == InputSpace::normalised_ric)
        return "standardise=true is for metric joints, input_space is normalised_ric; choose "
               "another "
               "input_space, or leave it out";
    if (const std::string problem = edges_problem(config); !problem.empty()) return problem;
    if (config.position_kind == PositionKind::learned && config.position_axis == PositionAxis::none)
        return "pe_kind=learned has no effect with pe_axis=none; set pe_axis to time or batch";
    return "";
}

MotionEncoder::PartEncoder::PartEncoder(const MotionEncoderConfig& config, Generator* init) {
    add("six_layers", six_layers);
    add("six_layers_2", six_layers_2);
    add("six_layers_v", six_layers_v);
    add("six_layers_v2", six_layers_v2);
    for (const auto& part : config.part_joints()) {
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
      parts_(checked(config).part_joints()),
      encoder_(config, init),
      embed_(config.part_dim * static_cast<int64_t>(parts_.size()), config.width, init),
      ln_pre_(config.width),
      ln_post_(config.width),
      temporal_reduction_(config.width, init),
      proj_(config.width, config.output_dim, init),
      positions_(nn::sinusoidal_positions(kPositions, config.width)) {
    add("encoder", encoder_);
    if (config.standardise) {
        joint_mean_ = Tensor::zeros({3});
        joint_std_ = Tensor::full({3}, 1);
        add_buffer("joint_mean", joint_mean_);
        add_buffer("joint_std", joint_std_);
    }
    if (config.position_kind == PositionKind::learned) {
        learned_positions_ = Var(nn::sinusoidal_positions(config.position_rows, config.width)
                                     .reshape({config.position_rows, 1, config.width}),
                                 requires_grad);
        add_parameter("position_enc.pe", learned_positions_);
    }
    if (config.limb_attention) {
        const int64_t parts = static_cast<int64_t>(parts_.size());
        part_embed_ = nn::init::normal({parts, config.part_dim}, 0.02, init);
        add_parameter("part_embed", part_embed_);
        limb_attn_ = std::make_unique<LimbAttention>(config.part_dim, init);
        add("limb_attn", *limb_attn_);
        limb_mask_ = Tensor::full({parts, parts}, 1, DType::boolean);
        for (int64_t p = 0; p < parts; ++p) limb_mask_.data<bool>()[p * parts + p] = false;
        for (const auto& [a, b] : config.part_edges())
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

Var MotionEncoder::part_features(const Var& position, const Var& velocity,
                                 const nn::Pass& pass) const {
    const int64_t rows = position.size(0), parts = static_cast<int64_t>(parts_.size());
    const auto by_coordinate = [](const Var& x) {  // (3 J, R): what a part takes are rows
        return Var(x.value().transpose(0, 1).contiguous());
    };
    const Var positions = by_coordinate(position), velocities = by_coordinate(velocity);
    std::vector<Var> features;  // each (R, 1, h)
    for (size_t p = 0; p < parts_.size(); ++p) {
        const Tensor ids = coordinates(parts_[p]).to(positions.value().device());
        const auto stream = [&](const Var& from, const nn::Linear& first,
                                const nn::Linear& second) {  // (R, h / 2)
            const Var x = transpose(embedding(from, ids), 0, 1);
            return second(nn::dropout(first(x, UnaryOp::tanh), config_.dropout, pass),
                          UnaryOp::tanh);
        };
        const Var a = stream(positions, encoder_.six_layers[p], encoder_.six_layers_2[p]);
        const Var b = stream(velocities, encoder_.six_layers_v[p], encoder_.six_layers_v2[p]);
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

void MotionEncoder::set_joint_statistics(const motion::Normalisation& axes) {
    for (int64_t c = 0; c < 3; ++c) {
        joint_mean_.slice(0, c, c + 1).fill_(axes.mean.at(static_cast<size_t>(c)));
        joint_std_.slice(0, c, c + 1).fill_(axes.std.at(static_cast<size_t>(c)));
    }
}

Var MotionEncoder::positions(int64_t rows) const {
    const bool learned = learned_positions_.defined();
    const int64_t most = learned ? config_.position_rows : kPositions;
    if (rows > most)
        throw Error("[moclip] " + std::to_string(rows) +
                    (config_.position_axis == PositionAxis::time ? " frames" : " motions") +
                    " and a table of " + std::to_string(most) + " positions" +
                    (learned ? "; train with a larger pe_rows" : ""));
    if (learned) return slice(learned_positions_, 0, 0, rows);
    return Var(
        positions_.slice(0, 0, rows).unsqueeze(1).to(device()).to(proj_.weight.value().dtype()));
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
    const DeviceType device = y.value().device();
    if (config_.pooling == Pooling::mean_valid)
        return reshape(matmul(Var(weight.to(y.dtype()).to(device)), y), {batch, config_.width});
    const Var score = reshape(temporal_reduction_.attention(y), {batch, frames});
    const Var never(Tensor::full({batch, frames}, -INFINITY, y.dtype(), device));
    const Var alpha = softmax(select(valid, score, never));
    return reshape(matmul(reshape(alpha, {batch, 1, frames}), y), {batch, config_.width});
}

Var MotionEncoder::operator()(const Tensor& joints_in, const std::vector<int64_t>& lengths,
                              const nn::Pass& pass, const Watch& watch) const {
    if (joints_in.dims() != 4 || joints_in.size(3) != 3 || joints_in.size(2) != joints_of(parts_))
        throw Error("[moclip] joints " + joints_in.shape().str() + ", want (B, T, " +
                    std::to_string(joints_of(parts_)) + ", 3)");
    const int64_t batch = joints_in.size(0), frames = joints_in.size(1),
                  values = 3 * joints_in.size(2);
    const bool masked = config_.key_padding_mask || config_.pooling != Pooling::mean_all;
    if (masked)
        for (int64_t length : lengths)
            if (length < 1 || length > frames)
                throw Error("[moclip] length " + std::to_string(length) + " of a motion of " +
                            std::to_string(frames) + " frames");
    const DeviceType where = device();
    const Shape flat{batch * frames, values};
    Var given(joints_in.to(where));
    if (config_.standardise) given = div(given - Var(joint_mean_), Var(joint_std_));
    const Var joints = reshape(given, {batch, frames, values});
    const Var position = reshape(joints, flat), velocity = reshape(velocity_of(joints), flat);
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
        const Tensor pick = Tensor::from_ids(from, {count}).to(where);
        const Var rows = ln_pre_(
            embed_(part_features(embedding(position, pick), embedding(velocity, pick), pass)));
        y = embedding(rows, Tensor::from_ids(place, {batch, frames}));
    } else {
        const Var parts = part_features(position, velocity, pass);
        const Var embedded = embed_(parts);
        if (watch) {
            watch("encoder", parts.value().reshape({batch, frames, parts.size(1)}));
            watch("embed", embedded.value().reshape({batch, frames, config_.width}));
        }
        y = reshape(ln_pre_(embedded), {batch, frames, config_.width});
    }
    if (config_.position_axis ==
        PositionAxis::batch)  // QUIRK: one row of the table a sample, for all its frames
        y = y + positions(batch);
    if (config_.position_axis == PositionAxis::time)
        y = y + reshape(positions(frames), {frames, config_.width});
    y = nn::dropout(y, config_.dropout, pass);
    AttentionOptions options;
    if (config_.key_padding_mask) {
        const Tensor padding = Tensor::empty({batch, frames}, DType::boolean);
        for (int64_t b = 0; b < batch; ++b)
            for (int64_t t = 0; t < frames; ++t)
                padding.data<bool>()[b * frames + t] = t >= lengths[b];
        options.key_padding = padding.to(where);
    }
    for (size_t l = 0; l < transformer_.size(); ++l) {
        y = transformer_[l](y, options, pass);
        if (watch) watch("after_block" + std::to_string(l), y.value());
    }
    return proj_(pooled(ln_post_(y), lengths));
}

}  // namespace mc::moclip
