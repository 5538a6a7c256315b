// The networks that text-to-motion papers are measured with (Guo et al. 2022; generators.md 10.3):
// text and motion meet in one space of 512 numbers. State-dict names are those of the public
// checkpoint's three parts, movement_encoder, text_encoder and motion_encoder.
//
//     Evaluator evaluator(EvaluatorConfig::humanml3d(), nullptr);
//     evaluator.load(tensors);             // "text_encoder.gru.weight_ih_l0"; public_layout.h
//     const Tensor t = evaluator.text_embeddings(words, pos, lengths);        // (N, 512)
//     const Tensor m = evaluator.motion_embeddings(motions, frames);          // (N, 512)
#pragma once

#include "nn/gru.h"
#include "nn/layers.h"

namespace mc::evaluator {

inline constexpr int64_t kContacts = 4;  // the last feature columns, which are not used

struct EvaluatorConfig {
    int64_t dim_pose = 263;  // feature columns, kContacts among them
    int64_t movement_hidden = 512, movement_dim = 512;
    int64_t word_dim = 300, pos_dim = 15, text_hidden = 512;
    int64_t motion_hidden = 1024;
    int64_t embed_dim = 512;
    int64_t unit = 4;  // frames a movement
    static EvaluatorConfig humanml3d() { return {}; }
    static EvaluatorConfig kit();
};

// Two convolutions of stride 2: (B, T, dim_pose) normalised features -> (B, T / 4, movement_dim).
class MovementEncoder : public nn::Module {
  public:
    MovementEncoder(const EvaluatorConfig& config, Generator* init);
    Var operator()(const Var& motion, const nn::Pass& pass = {}) const;

  private:
    int64_t columns_;
    nn::Conv1d conv0_, conv3_;
    nn::Linear out_net_;
};

// Linear, norm, leaky ReLU, linear: the head of both encoders, from both last states.
class CoEmbeddingHead : public nn::Module {
  public:
    CoEmbeddingHead(int64_t hidden, int64_t width, int64_t out, Generator* init);
    Var operator()(const nn::Gru::States& states) const;

  private:
    nn::Linear linear0_;
    nn::LayerNorm norm1_;
    nn::Linear linear3_;
};

class TextEncoder : public nn::Module {
  public:
    TextEncoder(const EvaluatorConfig& config, Generator* init);
    // words (B, L, word_dim), parts of speech (B, L, pos_dim) one-hot, lengths (B) with the start
    // and the end -> (B, embed_dim)
    Var operator()(const Tensor& words, const Tensor& pos,
                   const std::vector<int64_t>& lengths) const;

  private:
    Var hidden_;  // (2, 1, text_hidden)
    nn::Linear pos_emb_, input_emb_;
    nn::Gru gru_;
    CoEmbeddingHead output_net_;
};

class MotionEncoder : public nn::Module {
  public:
    MotionEncoder(const EvaluatorConfig& config, Generator* init);
    // movements (B, n, movement_dim), lengths (B) in movements -> (B, embed_dim)
    Var operator()(const Var& movements, const std::vector<int64_t>& lengths) const;

  private:
    Var hidden_;  // (2, 1, motion_hidden)
    nn::Linear input_emb_;
    nn::Gru gru_;
    CoEmbeddingHead output_net_;
};

class Evaluator : public nn::Module {
  public:
    Evaluator(const EvaluatorConfig& config, Generator* init);

    // Both take and return CPU tensors, wherever the model is. Rows in the order of the input (the
    // reference sorts by length and returns sorted rows).
    Tensor text_embeddings(const Tensor& words, const Tensor& pos,
                           const std::vector<int64_t>& lengths) const;
    // motions (B, T, dim_pose) normalised with the evaluator's own statistics, frames (B).
    Tensor motion_embeddings(const Tensor& motions, const std::vector<int64_t>& frames) const;

    const EvaluatorConfig& config() const { return config_; }
    const MovementEncoder& movement_encoder() const { return movement_encoder_; }

  private:
    EvaluatorConfig config_;
    MovementEncoder movement_encoder_;
    TextEncoder text_encoder_;
    MotionEncoder motion_encoder_;
};

}  // namespace mc::evaluator
