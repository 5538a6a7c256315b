// Counts the floating-point operations that a program asks of a device: it stands before the
// kernels that do nearly all of them and adds up what their shapes say.
//
//     FlopCounter counter(DeviceType::cpu);
//     model.train_step(...);
//     counter.flop();          // so far
//
// Counted, in f32: matrix products, convolutions, attention (backward with the scores computed
// anew; a causal mask halves nothing) and nearest codes, 2 a multiply-add. Not counted: norms,
// activations, the optimiser, which memory bounds. What a model leaves out (rows that two sequences
// share, tokens that nobody draws) no kernel is asked for, and it does not count. A convolution
// counts as the direct sum, also where the CPU does it with fewer products
// (kernels/cpu/conv_winograd.h): its rate may exceed the ceiling.
#pragma once

#include "kernels/dtype.h"

namespace mc {

// One at a time; not while kernels run.
class [[nodiscard]] FlopCounter {
  public:
    explicit FlopCounter(DeviceType device);
    ~FlopCounter();  // the kernels are as they were
    FlopCounter(const FlopCounter&) = delete;
    FlopCounter& operator=(const FlopCounter&) = delete;

    double flop() const;

  private:
    DeviceType device_;
};

}  // namespace mc
