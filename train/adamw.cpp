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

namespace {

// A list for each floating type: what one call of a kernel takes.
template <template <class> class List>
struct PerType {
    List<float> f32;
    List<double> f64;

    template <class T>
    List<T>& of() {
        if constexpr (sizeof(T) == 4)
            return f32;
        else
            return f64;
    }
    // f(list) for those that are not empty.
    template <class F>
    void each(F&& f) {
        if (!f32.empty()) f(f32, float{});
        if (!f64.empty()) f(f64, double{});
    }
};

template <class T>
using Arrays = std::vector<typename ReduceKernels<T>::Array>;
template <class T>
using Items = std::vector<typename OptimKernels<T>::AdamWItem>;

}  // namespace

double AdamW::gradient_norm() const {
    std::vector<Tensor> grads;  // contiguous, and alive for the call
    PerType<Arrays> arrays;
    for (const Entry& entry : entries_) {
        if (!entry.parameter->grad().defined()) continue;
        const Tensor& g = grads.emplace_back(entry.parameter->grad().contiguous());
        dispatch_float(g.dtype(), "gradient_norm", [&](auto zero) {
            using T = decltype(zero);
            arrays.of<T>().push_back({g.ptr<T>(), g.numel()});
        });
    }
    if (grads.empty()) return 0;
    const DeviceType device = grads.front().device();
    const Tensor squares = Tensor::empty({static_cast<int64_t>(grads.size())}, DType::f64, device);
    double* next = squares.ptr<double>();
    arrays.each([&](const auto& list, auto zero) {
        const auto count = static_cast<int64_t>(list.size());
        backend(device).table<decltype(zero)>().sum_of_squares(default_context(device), next,
                                                               list.data(), count);
        next += count;
    });
    double total = 0;
    for (const double part : squares.to_vector<double>()) total += part;
    return std::sqrt(total);
}

void AdamW::step(double lr, double scale) {
    std::vector<Tensor> grads;
    PerType<Items> items;
    DeviceType device = DeviceType::cpu;
    for (Entry& entry : entries_) {
        const Tensor& value = entry.parameter->value();
        if (!entry.parameter->grad().defined()) continue;
        if (value.device() != entry.m.device())
            throw Error("[adamw] " + entry.name + " is on " + name_of(value.device()) +
                        ", its moments on " + name_of(entry.m.device()) +
                        "; move a model before its parameters are added");
        device = value.device();
        const Tensor& g = grads.emplace_back(entry.parameter->grad().contiguous());
        ++entry.steps;
        dispatch_float(value.dtype(), "adamw", [&](auto zero) {
            using T = decltype(zero);
            items.of<T>().push_back({value.ptr<T>(), entry.m.ptr<T>(), entry.v.ptr<T>(), g.ptr<T>(),
                                     value.numel(), lr * entry.rate_factor, entry.weight_decay,
                                     entry.steps});
        });
        value.bump_version();
        entry.parameter->clear_grad();
    }
    items.each([&](const auto& list, auto zero) {
        backend(device).table<decltype(zero)>().adamw(
            default_context(device), {list.data(), static_cast<int64_t>(list.size()),
                                      options_.beta1, options_.beta2, options_.eps, scale});
    });
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
