#include "models/evaluator/evaluator.h"

#include "nn/init.h"

namespace mc::evaluator {
namespace {

constexpr double kSlope = 0.2;    // of every leaky ReLU
constexpr double kDropout = 0.2;  // of the movement encoder, in training

}  // namespace

EvaluatorConfig EvaluatorConfig::kit() {
    EvaluatorConfig config;
    config.dim_pose = 251;
    return config;
}

MovementEncoder::MovementEncoder(const EvaluatorConfig& config, Generator* init)
    : columns_(config.dim_pose - kContacts),
      conv0_(columns_, config.movement_hidden, 4, {.stride = 2, .padding = 1}, init),
      conv3_(config.movement_hidden, config.movement_dim, 4, {.stride = 2, .padding = 1}, init),
      out_net_(config.movement_dim, config.movement_dim, init) {
    add("main.0", conv0_);
    add("main.3", conv3_);
    add("out_net", out_net_);
}

Var MovementEncoder::operator()(const Var& motion, const nn::Pass& pass) const {
    if (motion.dims() != 3 || motion.size(2) != columns_ + kContacts)
        throw Error("[evaluator] motions " + motion.shape().str() + ", want (B, T, " +
                    std::to_string(columns_ + kContacts) +
                    "); is the evaluator of another data set than the motions?");
    const Var x = slice(motion, 2, 0, columns_);
    const Var y = leaky_relu(nn::dropout(conv0_(x), kDropout, pass), kSlope);
    return out_net_(leaky_relu(nn::dropout(conv3_(y), kDropout, pass), kSlope));
}

CoEmbeddingHead::CoEmbeddingHead(int64_t hidden, int64_t width, int64_t out, Generator* init)
    : linear0_(2 * hidden, width, init), norm1_(width), linear3_(width, out, init) {
    add("0", linear0_);
    add("1", norm1_);
    add("3", linear3_);
}

Var CoEmbeddingHead::operator()(const nn::Gru::States& states) const {
    const Var both = concat({states.last_forward, states.last_backward}, 1);  // (B, 2 H)
    return linear3_(leaky_relu(norm1_(linear0_(both)), kSlope));
}

TextEncoder::TextEncoder(const EvaluatorConfig& config, Generator* init)
    : hidden_(nn::init::normal({2, 1, config.text_hidden}, 1, init)),
      pos_emb_(config.pos_dim, config.word_dim, init),
      input_emb_(config.word_dim, config.text_hidden, init),
      gru_(config.text_hidden, config.text_hidden, init),
      output_net_(config.text_hidden, config.text_hidden, config.embed_dim, init) {
    add_parameter("hidden", hidden_);
    add("pos_emb", pos_emb_);
    add("input_emb", input_emb_);
    add("gru", gru_);
    add("output_net", output_net_);
}

Var TextEncoder::operator()(const Tensor& words, const Tensor& pos,
                            const std::vector<int64_t>& lengths) const {
    const Var x = input_emb_(Var(words) + pos_emb_(Var(pos)));
    return output_net_(gru_(x, lengths, hidden_));
}

MotionEncoder::MotionEncoder(const EvaluatorConfig& config, Generator* init)
    : hidden_(nn::init::normal({2, 1, config.motion_hidden}, 1, init)),
      input_emb_(config.movement_dim, config.motion_hidden, init),
      gru_(config.motion_hidden, config.motion_hidden, init),
      output_net_(config.motion_hidden, config.motion_hidden, config.embed_dim, init) {
    add_parameter("hidden", hidden_);
    add("input_emb", input_emb_);
    add("gru", gru_);
    add("output_net", output_net_);
}

Var MotionEncoder::operator()(const Var& movements, const std::vector<int64_t>& lengths) const {
    return output_net_(gru_(input_emb_(movements), lengths, hidden_));
}

Evaluator::Evaluator(const EvaluatorConfig& config, Generator* init)
    : config_(config),
      movement_encoder_(config, init),
      text_encoder_(config, init),
      motion_encoder_(config, init) {
    add("movement_encoder", movement_encoder_);
    add("text_encoder", text_encoder_);
    add("motion_encoder", motion_encoder_);
}

Tensor Evaluator::text_embeddings(const Tensor& words, const Tensor& pos,
                                  const std::vector<int64_t>& lengths) const {
    const Tape::Pause pause;
    const DeviceType at = device();
    return text_encoder_(words.to(at), pos.to(at), lengths).value().cpu();
}

Tensor Evaluator::motion_embeddings(const Tensor& motions,
                                    const std::vector<int64_t>& frames) const {
    const Tape::Pause pause;
    std::vector<int64_t> lengths;
    for (const int64_t f : frames) lengths.push_back(f / config_.unit);
    return motion_encoder_(movement_encoder_(Var(motions.to(device()))), lengths).value().cpu();
}

}  // namespace mc::evaluator
