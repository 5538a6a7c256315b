// A bidirectional gated recurrent unit over sequences of different lengths, with PyTorch's gates,
// parameter names and initialisation (Cho et al. 2014; generators.md 10.3): gates r, z, n;
// n = tanh(W_in x + b_in + r (W_hn h + b_hn)), h' = (1 - z) n + z h. Rows of any length may stand
// in any order: a state stays as it is where its row has no step, which is what a packed sequence
// does.
//
//     nn::Gru gru(512, 1024, &init);
//     const nn::Gru::States s = gru(x, lengths, h0);      // s.last_forward, s.last_backward (B, H)
//
// A step is one matrix product and one kernel for the gates; the input's product is one for all
// steps together.
#pragma once

#include "nn/module.h"

namespace mc::nn {

class Gru : public Module {
  public:
    Gru(int64_t in, int64_t hidden, Generator* init);

    struct States {
        Var last_forward;   // (B, H) after the last valid step
        Var last_backward;  // (B, H) after step 0, having begun at the last valid one
        Var outputs;        // (B, T, 2 H), zero beyond a row's length; undefined unless asked for
    };
    // x (B, T, in), lengths (B) in 1..T, h0 (2, B, H) or (2, 1, H), the same for every row.
    States operator()(const Var& x, const std::vector<int64_t>& lengths, const Var& h0,
                      bool want_outputs = false) const;

    int64_t hidden() const { return hidden_; }

  private:
    struct Direction {
        Var weight_ih, weight_hh, bias_ih, bias_hh;  // (3 H, in), (3 H, H), (3 H), (3 H)
    };
    // All states of one direction in the order of time, and the last one.
    Var run(const Direction& d, const Var& x, const std::vector<int64_t>& lengths, const Var& h0,
            bool backward, std::vector<Var>* outputs) const;

    int64_t hidden_;
    Direction forward_, backward_;
};

}  // namespace mc::nn
