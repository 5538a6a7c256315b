#include "nn/gru.h"

#include "nn/init.h"

namespace mc::nn {

Gru::Gru(int64_t in, int64_t hidden, Generator* init) : hidden_(hidden) {
    for (auto& [direction, suffix] :
         {std::pair<Direction*, const char*>{&forward_, ""}, {&backward_, "_reverse"}}) {
        const std::string end = std::string("_l0") + suffix;
        direction->weight_ih = init::fan_in_uniform({3 * hidden, in}, hidden, init);
        direction->weight_hh = init::fan_in_uniform({3 * hidden, hidden}, hidden, init);
        direction->bias_ih = init::fan_in_uniform({3 * hidden}, hidden, init);
        direction->bias_hh = init::fan_in_uniform({3 * hidden}, hidden, init);
        add_parameter("weight_ih" + end, direction->weight_ih);
        add_parameter("weight_hh" + end, direction->weight_hh);
        add_parameter("bias_ih" + end, direction->bias_ih);
        add_parameter("bias_hh" + end, direction->bias_hh);
    }
}

Var Gru::run(const Direction& d, const Var& x, const std::vector<int64_t>& lengths, const Var& h0,
             bool backward, std::vector<Var>* outputs) const {
    const int64_t batch = x.size(0), steps = x.size(1), width = hidden_;
    // Time first: the input's share of a step's gates is a block of rows.
    const Var input =
        reshape(linear(transpose(x, 0, 1), d.weight_ih, d.bias_ih), {steps * batch, 3 * width});
    Tensor on = Tensor::empty({steps, batch}, DType::boolean);
    for (int64_t t = 0; t < steps; ++t)
        for (int64_t b = 0; b < batch; ++b)
            on.data<bool>()[t * batch + b] = t < lengths[static_cast<size_t>(b)];
    on = on.to(x.value().device());
    Var h = h0;
    for (int64_t s = 0; s < steps; ++s) {
        const int64_t t = backward ? steps - 1 - s : s;
        int64_t valid = 0;
        for (int64_t b = 0; b < batch; ++b) valid += t < lengths[static_cast<size_t>(b)];
        const Tensor steps_on = on.slice(0, t, t + 1).reshape({batch});
        if (valid > 0) {
            const Var from_input = slice(input, 0, t * batch, (t + 1) * batch);  // (B, 3 H)
            const Var from_state = linear(h, d.weight_hh, d.bias_hh);            // (B, 3 H)
            h = gru_cell(from_input, from_state, h, valid == batch ? Tensor() : steps_on);
        }
        if (!outputs) continue;
        const Var none(Tensor::zeros({batch, width}, x.dtype(), x.value().device()));
        (*outputs)[static_cast<size_t>(t)] = reshape(
            valid == batch ? h
                           : select(steps_on.reshape({batch, 1}).expand({batch, width}), h, none),
            {batch, 1, width});
    }
    return h;
}

Gru::States Gru::operator()(const Var& x, const std::vector<int64_t>& lengths, const Var& h0,
                            bool want_outputs) const {
    const int64_t in = forward_.weight_ih.size(1);
    if (x.dims() != 3 || x.size(2) != in)
        throw Error("[gru] got input " + x.shape().str() + ", want (B, T, " + std::to_string(in) +
                    ")");
    const int64_t batch = x.size(0), steps = x.size(1);
    if (static_cast<int64_t>(lengths.size()) != batch)
        throw Error("[gru] got " + std::to_string(lengths.size()) + " lengths for " +
                    std::to_string(batch) + " rows");
    for (const int64_t length : lengths)
        if (length < 1 || length > steps)
            throw Error("[gru] got length " + std::to_string(length) + " of a row of " +
                        std::to_string(steps) + " steps");
    if (h0.dims() != 3 || h0.size(0) != 2 || (h0.size(1) != batch && h0.size(1) != 1) ||
        h0.size(2) != hidden_)
        throw Error("[gru] got initial state " + h0.shape().str() + ", want (2, B or 1, " +
                    std::to_string(hidden_) + ")");
    const auto start = [&](int64_t direction) {
        return expand(reshape(slice(h0, 0, direction, direction + 1), {h0.size(1), hidden_}),
                      {batch, hidden_});
    };
    std::vector<Var> ahead(static_cast<size_t>(want_outputs ? steps : 0)), back(ahead);
    States states;
    states.last_forward =
        run(forward_, x, lengths, start(0), false, want_outputs ? &ahead : nullptr);
    states.last_backward =
        run(backward_, x, lengths, start(1), true, want_outputs ? &back : nullptr);
    if (want_outputs) states.outputs = concat({concat(ahead, 1), concat(back, 1)}, 2);
    return states;
}

}  // namespace mc::nn
