// MoMask's motion tokenizer: convolutional encoder, residual quantiser, convolutional decoder
// (generators.md 3.2).
#pragma once

#include "models/vq/conv_net.h"
#include "models/vq/residual_quantizer.h"

namespace mc::vq {

struct RvqConfig {
    ConvNetConfig net;
    QuantizerConfig quantizer;
    double commit = 0.02;  // weight of the commitment loss
    double loss_vel =
        0.5;  // weight of the joint-position term (called "velocity" by the reference)
    // Weight of the root term: smooth L1 of the running sums of the root's velocities, whose small
    // errors add up to a wrong heading and place. 0 in the reference.
    double loss_root = 0;
    int64_t joints() const { return (net.dim_pose + 1) / 12; }  // 263 -> 22, 251 -> 21
};

struct RvqOutput {
    Var reconstruction;  // (B, T, dim_pose)
    Var commitment;      // ()
    Tensor code_counts;  // (active layers, K), see perplexity()
    Tensor ids;          // (B, n, Q)
};

class RvqVae : public nn::Module {
  public:
    RvqVae(const RvqConfig& config, Generator* init);

    // From and to the CPU, whatever the model's device.
    Tensor encode(const Tensor& motion) const;  // (B, T, dim_pose) normalised -> ids (B, T/4, Q)
    Tensor decode(const Tensor& ids) const;     // (B, n, q), -1 = nothing -> (B, 4n, dim_pose)
    // On the model's device, motions too.
    RvqOutput operator()(const Var& motion) const;  // evaluation
    // Training; of several ranks each has its part of the batch (ResidualQuantizer::train).
    RvqOutput train(const Var& motion, const nn::Pass& pass, UniformSource& draws,
                    Communicator& ranks = single_process());
    // smooth L1 + loss_vel * smooth L1 of the joint positions + loss_root * smooth L1 of the summed
    // root velocities + commit * commitment
    Var loss(const RvqOutput& output, const Var& motion) const;

    int64_t unit() const { return int64_t{1} << config_.net.down_t; }  // frames a token
    const RvqConfig& config() const { return config_; }
    ResidualQuantizer& quantizer() { return quantizer_; }
    const ResidualQuantizer& quantizer() const { return quantizer_; }

  private:
    RvqConfig config_;
    Encoder encoder_;
    Decoder decoder_;
    ResidualQuantizer quantizer_;
};

}  // namespace mc::vq
