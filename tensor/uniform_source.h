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
};

class GeneratorSource : public UniformSource {
  public:
    explicit GeneratorSource(Generator& generator) : generator_(generator) {}
    Tensor uniform(const std::string&, const Shape& shape) override {
        return generator_.uniform(shape);
    }

  private:
    Generator& generator_;
};

}  // namespace mc
