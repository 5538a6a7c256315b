// Module: a named tree of parameters and buffers.
//
//     struct Head : nn::Module {
//         nn::Linear dense;
//         Head(int64_t width, Generator* init) : dense(width, width, init) { add("dense", dense); }
//     };
//     Head head(384, &generator);
//     head.state()                       // {"dense.weight", ...} as tensors, to save
//     head.load(tensors)                 // strict: every missing, unexpected and mis-shaped name
//     in one error
//
// Names are the public checkpoints' own, so that a state dict loads without a translation table. A
// module is where its members are: it is neither copied nor moved.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "autograd/ops.h"

namespace mc::nn {

using TensorMap = std::map<std::string, Tensor>;

// How a forward pass runs: with dropout or without, and who draws.
struct Pass {
    bool training = false;
    Generator* generator = nullptr;  // needed where training draws
};

struct LoadOptions {
    // Names for which this says true may be missing from, or superfluous in, the file.
    std::function<bool(const std::string&)> optional;
    std::string source = "state";  // for the error: the file's name
};

class Module {
  public:
    Module() = default;
    virtual ~Module() = default;
    Module(const Module&) = delete;
    Module& operator=(const Module&) = delete;

    // Depth first, in the order of registration, with dotted names.
    std::vector<std::pair<std::string, Var*>> parameters();
    std::vector<std::pair<std::string, Tensor*>> buffers();
    TensorMap state();  // parameters and buffers, sharing storage
    void load(const TensorMap& tensors,
              const LoadOptions& options = {});  // copies, converting dtype
    void set_requires_grad(bool wanted);
    void to(DType dtype);
    // Parameters and buffers go to the device; where they are: of a module without any, the CPU.
    // Inputs that a model computes with must be there; ids, labels and masks may be on the CPU.
    void to(DeviceType device);
    DeviceType device() const;
    int64_t parameter_count();
    // Where everything is that to() moves, its dtype and its version: what was recorded with it
    // (tensor/graph.h) holds as long as this stays the same.
    std::vector<uint64_t> fingerprint() const;

  protected:
    // An empty name puts the child's own names at this level.
    void add(const std::string& name, Module& child) { children_.emplace_back(name, &child); }
    void add_parameter(const std::string& name, Var& parameter) {
        parameters_.emplace_back(name, &parameter);
    }
    void add_buffer(const std::string& name, Tensor& buffer) {
        buffers_.emplace_back(name, &buffer);
    }

    // What follows from the configuration: it is where the parameters are and of their dtype, but
    // no part of the state.
    void add_constant(Tensor& constant) { constants_.push_back(&constant); }

  private:
    template <class Visit>
    void walk(const std::string& prefix, const Visit& visit);

    std::vector<std::pair<std::string, Module*>> children_;
    std::vector<std::pair<std::string, Var*>> parameters_;
    std::vector<std::pair<std::string, Tensor*>> buffers_;
    std::vector<Tensor*> constants_;
};

// Children named "0", "1", ... as in PyTorch's ModuleList and Sequential.
template <class M>
class ModuleList : public Module {
  public:
    template <class... Args>
    M& emplace(Args&&... args) {
        items_.push_back(std::make_unique<M>(std::forward<Args>(args)...));
        add(std::to_string(items_.size() - 1), *items_.back());
        return *items_.back();
    }
    size_t size() const { return items_.size(); }
    M& operator[](size_t i) { return *items_[i]; }
    const M& operator[](size_t i) const { return *items_[i]; }
    auto begin() { return items_.begin(); }
    auto end() { return items_.end(); }

  private:
    std::vector<std::unique_ptr<M>> items_;
};

}  // namespace mc::nn
