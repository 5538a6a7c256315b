// Where samplers and training steps take their uniform draws from: a generator in life, recorded
// numbers in tests. Each draw has the name that the reference cases use, so that a recorded run can
// be replayed draw for draw.
#pragma once

#include <string>

#include "tensor/generator.h"

namespace mc {

class UniformSource {
  public:
    virtual ~UniformSource() = default;
    virtual Tensor uniform(const std::string& name, const Shape& shape) = 0;  // f32 in [0, 1)
    // The same numbers where they are wanted.
    virtual Tensor uniform_on(DeviceType device, const std::string& name, const Shape& shape) {
        const Tensor u = uniform(name, shape);
        return u.defined() ? u.to(device) : u;
    }
};

class GeneratorSource : public UniformSource {
  public:
    explicit GeneratorSource(Generator& generator) : generator_(generator) {}
    Tensor uniform(const std::string&, const Shape& shape) override {
        return generator_.uniform(shape);
    }
    Tensor uniform_on(DeviceType device, const std::string&, const Shape& shape) override {
        return generator_.uniform(shape, 0, 1, DType::f32, device);
    }

  private:
    Generator& generator_;
};

}  // namespace mc
