// Random numbers: whoever draws is handed a generator. A generator hands out Philox streams, one an
// operation, so that the draws of an operation depend on seed and order of operations alone, never
// on threads or device.
#pragma once

#include "tensor/tensor.h"

namespace mc {

class Generator {
  public:
    explicit Generator(uint64_t seed, uint64_t next_stream = 0) : seed_(seed), next_(next_stream) {}

    uint64_t seed() const { return seed_; }
    uint64_t position() const { return next_; }  // with the seed: the whole state, for checkpoints
    void restore(uint64_t seed, uint64_t position) {
        seed_ = seed;
        next_ = position;
    }

    RandomStream stream() { return {seed_, next_++}; }  // a fresh stream for one operation

    // Single draws, each from a stream of its own.
    double uniform() { return uniform_from_bits(philox(seed_, next_++, 0).word[0]); }  // [0, 1)
    uint32_t below(uint32_t n) {  // uniform in [0, n), n >= 1, unbiased to 2^-32
        return static_cast<uint32_t>((uint64_t{philox(seed_, next_++, 0).word[0]} * n) >> 32);
    }
    double normal();

    // The same bits on every device.
    Tensor uniform(const Shape& shape, double low = 0, double high = 1, DType dtype = DType::f32,
                   DeviceType device = DeviceType::cpu);
    Tensor normal(const Shape& shape, double mean = 0, double std = 1, DType dtype = DType::f32);
    std::vector<int64_t> permutation(int64_t n);  // Fisher-Yates

  private:
    uint64_t seed_, next_;
};

}  // namespace mc
