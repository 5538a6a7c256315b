// The motion encoder and decoder shared by MoMask, BAMM, T2M-GPT, MMM and BAD (generators.md 2.9),
// channels last.
#pragma once

#include "nn/layers.h"

namespace mc::vq {

struct ConvNetConfig {
    int64_t dim_pose = 263, width = 512, code_dim = 512, depth = 3, down_t = 2, dilation_growth = 3;
    double dropout = 0.2;  // of the residual blocks, in training (MoMask and BAMM)
};

// y = x + drop(conv2(relu(conv1(relu(x)))))
struct ResidualBlock : nn::Module {
    nn::Conv1d conv1, conv2;
    double dropout_p;
    ResidualBlock(int64_t width, int64_t dilation, double dropout, Generator* init);
    Var operator()(const Var& x, const nn::Pass& pass) const;
};

// Blocks with dilations growth^(depth-1) ... 1: the reference's "reverse" order (QUIRK Q6), in
// encoder and decoder alike.
struct ResidualStack : nn::Module {
    nn::ModuleList<ResidualBlock> model;
    ResidualStack(const ConvNetConfig& config, Generator* init);
    Var operator()(const Var& x, const nn::Pass& pass) const;
};

// (B, T, dim_pose) -> (B, T / 2^down_t, code_dim)
class Encoder : public nn::Module {
  public:
    Encoder(const ConvNetConfig& config, Generator* init);
    Var operator()(const Var& x, const nn::Pass& pass) const;

  private:
    struct Stage : nn::Module {
        nn::Conv1d down;
        ResidualStack blocks;
        Stage(const ConvNetConfig& config, Generator* init);
    };
    nn::Conv1d in_;
    std::vector<std::unique_ptr<Stage>> stages_;
    nn::Conv1d out_;
};

// (B, n, code_dim) -> (B, n 2^down_t, dim_pose)
class Decoder : public nn::Module {
  public:
    Decoder(const ConvNetConfig& config, Generator* init);
    Var operator()(const Var& x, const nn::Pass& pass) const;

  private:
    struct Stage : nn::Module {
        ResidualStack blocks;
        nn::Conv1d conv;
        Stage(const ConvNetConfig& config, Generator* init);
    };
    nn::Conv1d in_;
    std::vector<std::unique_ptr<Stage>> stages_;
    nn::Conv1d middle_, out_;
};

}  // namespace mc::vq
