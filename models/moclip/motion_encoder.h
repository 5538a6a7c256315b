// MoCLIP's motion tower (moclip.md 3 and 8): part perceptrons over joints and their velocities,
// attention between limbs, a pre-norm transformer over time, pooling, projection. One configurable
// module: `reference` mode is what the published code computes, quirks included; `paper` mode is
// what the paper says.
#pragma once

#include <span>
#include <string>

#include "models/moclip/part_table.h"
#include "motion/statistics.h"
#include "nn/transformer.h"
#include "tensor/watch.h"

namespace mc::moclip {

// What the tower is given of a motion: joints_for_encoder.
enum class InputSpace { normalised_ric, metric_global, metric_root_relative, metric_heading };
enum class PositionAxis { none, batch, time };
// The table of positions: a formula, or parameters `position_enc.pe` that begin as its values.
enum class PositionKind { sinusoidal, learned };
enum class Pooling { mean_all, mean_valid, attention };

// Their values by name, as moclip.md 8 spells them, in the order above.
std::span<const char* const> names_of(InputSpace);
std::span<const char* const> names_of(PositionAxis);
std::span<const char* const> names_of(PositionKind);
std::span<const char* const> names_of(Pooling);
template <class Option>
std::string name_of(Option value) {
    return names_of(value)[static_cast<size_t>(value)];
}

struct MotionEncoderConfig {
    std::string part_table = "t2m8_compat";
    PartTable parts;  // of part_table "custom", else empty
    InputSpace input_space = InputSpace::normalised_ric;
    // Metric joints less joint_mean, divided by joint_std: what the data's are along each axis, in
    // metres (KIT-ML, whose millimetres tanh would not tell apart: millimetres). moclip.md 8.
    bool standardise = false;
    bool limb_attention = false;
    std::string limb_edges = "pairs";
    std::vector<std::vector<int>>
        edges;  // of limb_edges "custom": pairs of parts, from 0; else empty
    PositionAxis position_axis = PositionAxis::batch;
    PositionKind position_kind = PositionKind::sinusoidal;
    int64_t position_rows = 196;  // of a learned table: frames along time, motions along the batch
    bool key_padding_mask = false;
    Pooling pooling = Pooling::mean_all;
    int64_t width = 1032, heads = 12, layers = 12, part_dim = 256, hidden_dim = 128,
            output_dim = 512, mlp_ratio = 4;
    double dropout = 0.1;

    PartTable part_joints() const;  // parts, or those of the table of that name
    LimbEdges part_edges() const;   // edges, or those of that name

    static MotionEncoderConfig reference();
    static MotionEncoderConfig paper();
    static MotionEncoderConfig small();  // paper mode at a size for two CPU cores
};

// Joints as the tower takes them, from z-normalised feature rows (frames, D) of one motion, into
// dst (padded, J, 3). normalised_ric: the reference's input, recovered from the still normalised
// features, padded with zero rows BEFORE the recovery, so that padding carries the last position.
// The others have metres (KIT-ML: millimetres), y up, and zeros in the padding (moclip.md 8, which
// spells out metric_root_relative alone; of the other two this is the definition):
//   metric_global         joints where they are; frame 0 stands at x = z = 0 and faces +z;
//   metric_root_relative  every joint relative to the root of its frame, the root as it is in
//                         metric_global (M2T's convention);
//   metric_heading        the same, and every joint but the root turned about y so that the body
//                         faces +z in each frame: a turn is seen in the root's path alone.
void joints_for_encoder(InputSpace space, const motion::Normalisation& normalisation,
                        const float* normalised, int64_t frames, int64_t padded, float* dst);

class MotionEncoder : public nn::Module {
  public:
    // Error: problem_of(config).
    MotionEncoder(const MotionEncoderConfig& config, Generator* init);

    // joints (B, T, J, 3) on any device, lengths (B) in frames (ignored where nothing is masked) ->
    // (B, output_dim), not normalised, on the model's device. `watch` sees, where nothing is
    // masked, "encoder" (B, T, P h) and "embed" (B, T, D); and of each block l "after_block{l}" (B,
    // T, D). Error: more frames (or motions, along the batch) than positions.
    Var operator()(const Tensor& joints, const std::vector<int64_t>& lengths, const nn::Pass& pass,
                   const Watch& watch = {}) const;

    const MotionEncoderConfig& config() const { return config_; }
    // With `standardise`: of x, y and z, over all joints and frames of what joints_for_encoder
    // gives of the training clips; 0 and 1 until they are set. They are buffers of the state.
    void set_joint_statistics(const motion::Normalisation& axes);

  private:
    struct PartEncoder : nn::Module {
        nn::ModuleList<nn::Linear> six_layers, six_layers_2, six_layers_v, six_layers_v2;
        PartEncoder(const MotionEncoderConfig& config, Generator* init);
    };
    struct LimbAttention : nn::Module {
        nn::LayerNorm ln;
        nn::MultiheadAttention attn;
        LimbAttention(int64_t width, Generator* init);
    };
    struct TemporalReduction : nn::Module {
        nn::Linear attention;
        TemporalReduction(int64_t width, Generator* init) : attention(width, 1, init) {
            add("attention", attention);
        }
    };

    // (R, P*h) feature-major part features of R frames, from positions and velocities (R, 3 J).
    Var part_features(const Var& position, const Var& velocity, const nn::Pass& pass) const;
    Var positions(int64_t rows) const;  // (rows, 1, D), as y is
    Var pooled(const Var& y, const std::vector<int64_t>& lengths) const;

    MotionEncoderConfig config_;
    std::vector<std::vector<int>> parts_;
    PartEncoder encoder_;
    Var part_embed_;  // (P, h), with limb attention
    std::unique_ptr<LimbAttention> limb_attn_;
    Tensor limb_mask_;  // (P, P) bool, true = not attended
    nn::Linear embed_;
    nn::LayerNorm ln_pre_;
    nn::ModuleList<nn::PreNormBlock> transformer_;
    nn::LayerNorm ln_post_;
    TemporalReduction temporal_reduction_;
    nn::Linear proj_;
    Tensor joint_mean_, joint_std_;  // (3), with standardise
    Tensor positions_;               // (rows, D), of the formula
    Var learned_positions_;          // (position_rows, 1, D), as the published table is shaped
};

// What contradicts itself in a configuration, in one line that names its keys; empty if nothing.
std::string problem_of(const MotionEncoderConfig& config);

}  // namespace mc::moclip
