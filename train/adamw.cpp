#include "train/adamw.h"

#include <cmath>
#include <unordered_map>

namespace mc::train {

void AdamW::add(const std::vector<std::pair<std::string, Var*>>& parameters, double rate_factor) {
    add(parameters, rate_factor, options_.weight_decay);
}

void AdamW::add(const std::vector<std::pair<std::string, Var*>>& parameters, double rate_factor,
                double weight_decay) {
    for (const auto& [name, parameter] : parameters) {
        const Tensor& value = parameter->value();
        entries_.push_back({name, parameter, rate_factor, weight_decay,
                            Tensor::zeros(value.shape(), value.dtype(), value.device()),
                            Tensor::zeros(value.shape(), value.dtype(), value.device())});
    }
}

void AdamW::set(const std::string& prefix, double rate_factor, double weight_decay) {
    for (Entry& entry : entries_) {
        if (!entry.name.starts_with(prefix)) continue;
        entry.rate_factor = rate_factor;
        entry.weight_decay = weight_decay;
    }
}

void AdamW::reset_moments() {
    for (Entry& entry : entries_) {
        entry.m.fill_(0);
        entry.v.fill_(0);
        entry.steps = 0;
    }
}

double AdamW::gradient_norm() const {
    std::vector<Tensor> grads;
    for (const Entry& entry : entries_)
        if (entry.parameter->grad().defined())
            grads.push_back(entry.parameter->grad().contiguous());
    if (grads.empty()) return 0;
    const auto count = static_cast<int64_t>(grads.size());
    const Tensor squares = Tensor::empty({count}, DType::f64, grads.front().device());
    for (int64_t i = 0; i < count; ++i) {
        const Tensor& g = grads[static_cast<size_t>(i)];
        dispatch_float(g.dtype(), "gradient_norm", [&](auto zero) {
            using T = decltype(zero);
            backend(g.device())
                .table<T>()
                .sum_of_squares(default_context(g.device()), squares.ptr<double>() + i, g.ptr<T>(),
                                g.numel());
        });
    }
    double total = 0;
    for (const double part : squares.to_vector<double>()) total += part;
    return std::sqrt(total);
}

void AdamW::step(double lr, double scale) {
    for (Entry& entry : entries_) {
        const Tensor& grad = entry.parameter->grad();
        if (!grad.defined()) continue;
        const Tensor g = grad.contiguous();
        const Tensor& value = entry.parameter->value();
        ++entry.steps;
        dispatch_float(value.dtype(), "adamw", [&](auto zero) {
            using T = decltype(zero);
            typename OptimKernels<T>::AdamWArgs args;
            args.param = value.ptr<T>();
            args.m = entry.m.ptr<T>();
            args.v = entry.v.ptr<T>();
            args.grad = g.ptr<T>();
            args.n = value.numel();
            args.lr = lr * entry.rate_factor;
            args.beta1 = options_.beta1;
            args.beta2 = options_.beta2;
            args.eps = options_.eps;
            args.weight_decay = entry.weight_decay;
            args.grad_scale = scale;
            args.step = entry.steps;
            backend(value.device()).table<T>().adamw(default_context(value.device()), args);
        });
        value.bump_version();
        entry.parameter->clear_grad();
    }
}

void AdamW::clear_gradients() {
    for (Entry& entry : entries_) entry.parameter->clear_grad();
}

NamedTensors AdamW::state() const {
    NamedTensors state;
    for (const Entry& entry : entries_) {
        state.emplace_back("m." + entry.name, entry.m);
        state.emplace_back("v." + entry.name, entry.v);
        state.emplace_back("k." + entry.name,
                           Tensor::full({}, static_cast<double>(entry.steps), DType::i64));
    }
    return state;
}

void AdamW::load(const NamedTensors& state) {
    std::unordered_map<std::string, Tensor> named(state.begin(), state.end());
    for (Entry& entry : entries_) {
        for (const char* part : {"m.", "v.", "k."})
            if (!named.count(part + entry.name))
                throw Error("[adamw] the checkpoint has no " + std::string(part) + entry.name +
                            "; was it made with other parameters?");
        entry.m.copy_(named.at("m." + entry.name));
        entry.v.copy_(named.at("v." + entry.name));
        entry.steps = named.at("k." + entry.name).item<int64_t>();
    }
}

double clip_factor(double norm, double limit) {
    return limit > 0 ? std::min(1.0, limit / (norm + 1e-6)) : 1.0;
}

}  // namespace mc::train
