#include "models/vq/conv_net.h"

namespace mc::vq {

ResidualBlock::ResidualBlock(int64_t width, int64_t dilation, double dropout, Generator* init)
    : conv1(width, width, 3, {.stride = 1, .padding = dilation, .dilation = dilation, .relu = true},
            init),
      conv2(width, width, 1, {}, init),
      dropout_p(dropout) {
    add("conv1", conv1);
    add("conv2", conv2);
}

Var ResidualBlock::operator()(const Var& x, const nn::Pass& pass) const {
    return x + nn::dropout(conv2(conv1(relu(x))), dropout_p, pass);
}

ResidualStack::ResidualStack(const ConvNetConfig& config, Generator* init) {
    add("model", model);
    for (int64_t i = config.depth - 1; i >= 0; --i) {
        int64_t dilation = 1;
        for (int64_t k = 0; k < i; ++k) dilation *= config.dilation_growth;
        model.emplace(config.width, dilation, config.dropout, init);
    }
}

Var ResidualStack::operator()(const Var& x, const nn::Pass& pass) const {
    Var y = x;
    for (size_t i = 0; i < model.size(); ++i) y = model[i](y, pass);
    return y;
}

Encoder::Stage::Stage(const ConvNetConfig& config, Generator* init)
    : down(config.width, config.width, 4, {.stride = 2, .padding = 1}, init), blocks(config, init) {
    add("0", down);
    add("1", blocks);
}

Encoder::Encoder(const ConvNetConfig& config, Generator* init)
    : in_(config.dim_pose, config.width, 3, {.padding = 1, .relu = true}, init),
      out_(config.width, config.code_dim, 3, {.padding = 1}, init) {
    add("model.0", in_);
    for (int64_t i = 0; i < config.down_t; ++i) {
        stages_.push_back(std::make_unique<Stage>(config, init));
        add("model." + std::to_string(2 + i), *stages_.back());
    }
    add("model." + std::to_string(2 + config.down_t), out_);
}

Var Encoder::operator()(const Var& x, const nn::Pass& pass) const {
    Var y = in_(x);
    for (const auto& stage : stages_) y = stage->blocks(stage->down(y), pass);
    return out_(y);
}

Decoder::Stage::Stage(const ConvNetConfig& config, Generator* init)
    : blocks(config, init), conv(config.width, config.width, 3, {.padding = 1}, init) {
    add("0", blocks);
    add("2", conv);
}

Decoder::Decoder(const ConvNetConfig& config, Generator* init)
    : in_(config.code_dim, config.width, 3, {.padding = 1, .relu = true}, init),
      middle_(config.width, config.width, 3, {.padding = 1, .relu = true}, init),
      out_(config.width, config.dim_pose, 3, {.padding = 1}, init) {
    add("model.0", in_);
    for (int64_t i = 0; i < config.down_t; ++i) {
        stages_.push_back(std::make_unique<Stage>(config, init));
        add("model." + std::to_string(2 + i), *stages_.back());
    }
    add("model." + std::to_string(2 + config.down_t), middle_);
    add("model." + std::to_string(4 + config.down_t), out_);
}

Var Decoder::operator()(const Var& x, const nn::Pass& pass) const {
    Var y = in_(x);
    for (const auto& stage : stages_) y = stage->conv(upsample2(stage->blocks(y, pass)));
    return out_(middle_(y));
}

}  // namespace mc::vq
