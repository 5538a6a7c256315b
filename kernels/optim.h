// Optimiser steps over flat blocks of parameters.
#pragma once

#include "kernels/kernel.h"

namespace mc {

template <class T>
struct OptimKernels {
    // AdamW with PyTorch's semantics (moclip.md 5.3): p *= 1 - lr*wd; m, v moments; bias
    // corrections for step k >= 1; p -= lr * mhat / (sqrt(vhat) + eps). grad is multiplied by
    // grad_scale first (clipping).
    struct AdamWArgs {
        T* param;
        T* m;
        T* v;
        const T* grad;
        int64_t n;
        double lr, beta1, beta2, eps, weight_decay, grad_scale;
        int64_t step;
    };
    Kernel<const AdamWArgs&> adamw{"adamw"};
};

}  // namespace mc
