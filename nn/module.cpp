#include "nn/module.h"

#include <set>

namespace mc::nn {

template <class Visit>
void Module::walk(const std::string& prefix, const Visit& visit) {
    visit(prefix, *this);
    for (auto& [name, child] : children_)
        child->walk(name.empty() ? prefix : prefix + name + ".", visit);
}

std::vector<std::pair<std::string, Var*>> Module::parameters() {
    std::vector<std::pair<std::string, Var*>> all;
    walk("", [&](const std::string& prefix, Module& module) {
        for (auto& [name, parameter] : module.parameters_)
            all.emplace_back(prefix + name, parameter);
    });
    return all;
}

std::vector<std::pair<std::string, Tensor*>> Module::buffers() {
    std::vector<std::pair<std::string, Tensor*>> all;
    walk("", [&](const std::string& prefix, Module& module) {
        for (auto& [name, buffer] : module.buffers_) all.emplace_back(prefix + name, buffer);
    });
    return all;
}

TensorMap Module::state() {
    TensorMap all;
    for (auto& [name, parameter] : parameters()) all[name] = parameter->value();
    for (auto& [name, buffer] : buffers()) all[name] = *buffer;
    return all;
}

void Module::load(const TensorMap& tensors, const LoadOptions& options) {
    auto optional = [&](const std::string& name) {
        return options.optional && options.optional(name);
    };
    std::map<std::string, Tensor> own = state();
    std::string missing, unexpected, shapes;
    for (auto& [name, tensor] : own) {
        auto found = tensors.find(name);
        if (found == tensors.end()) {
            if (!optional(name)) missing += " " + name;
        } else if (!(found->second.shape() == tensor.shape())) {
            shapes += " " + name + " " + found->second.shape().str() + " (want " +
                      tensor.shape().str() + ")";
        }
    }
    for (auto& [name, tensor] : tensors)
        if (!own.count(name) && !optional(name)) unexpected += " " + name;
    if (!missing.empty() || !unexpected.empty() || !shapes.empty())
        throw Error("[load] " + options.source + " does not fit the model:" +
                    (missing.empty() ? "" : " missing:" + missing + ";") +
                    (unexpected.empty() ? "" : " unexpected:" + unexpected + ";") +
                    (shapes.empty() ? "" : " wrong shape:" + shapes + ";") +
                    " was it made with another configuration?");
    for (auto& [name, tensor] : own)
        if (auto found = tensors.find(name); found != tensors.end()) tensor.copy_(found->second);
}

void Module::set_requires_grad(bool wanted) {
    for (auto& [name, parameter] : parameters()) parameter->set_requires_grad(wanted);
}

namespace {

template <class Where>
void convert(Var& parameter, Where to) {
    const bool differentiated = parameter.has_grad_slot();
    parameter = Var(parameter.value().to(to));
    parameter.set_requires_grad(differentiated);
}

}  // namespace

void Module::to(DeviceType device) {
    for (auto& [name, parameter] : parameters()) convert(*parameter, device);
    walk("", [&](const std::string&, Module& module) {
        for (auto& [name, buffer] : module.buffers_) *buffer = buffer->to(device);
        for (Tensor* constant : module.constants_) *constant = constant->to(device);
    });
}

DeviceType Module::device() const {
    if (!parameters_.empty()) return parameters_.front().second->value().device();
    if (!buffers_.empty()) return buffers_.front().second->device();
    for (const auto& [name, child] : children_)
        if (child->device() != DeviceType::cpu) return child->device();
    return DeviceType::cpu;
}

void Module::to(DType dtype) {
    for (auto& [name, parameter] : parameters()) convert(*parameter, dtype);
    walk("", [&](const std::string&, Module& module) {
        for (auto& [name, buffer] : module.buffers_)
            if (buffer->dtype() == DType::f32 || buffer->dtype() == DType::f64)
                *buffer = buffer->to(dtype);
        for (Tensor* constant : module.constants_) *constant = constant->to(dtype);
    });
}

std::vector<uint64_t> Module::fingerprint() const {
    std::vector<uint64_t> all;
    const auto add = [&](const Tensor& t) {
        all.push_back(reinterpret_cast<uintptr_t>(t.raw_ptr()));
        all.push_back(static_cast<uint64_t>(t.dtype()));
        all.push_back(t.version());
    };
    for (const auto& [name, parameter] : parameters_) add(parameter->value());
    for (const auto& [name, buffer] : buffers_) add(*buffer);
    for (const Tensor* constant : constants_) add(*constant);
    for (const auto& [name, child] : children_) {
        const std::vector<uint64_t> below = child->fingerprint();
        all.insert(all.end(), below.begin(), below.end());
    }
    return all;
}

int64_t Module::parameter_count() {
    int64_t n = 0;
    for (auto& [name, parameter] : parameters()) n += parameter->numel();
    return n;
}

}  // namespace mc::nn
