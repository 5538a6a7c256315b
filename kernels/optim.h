// Optimiser steps over groups of parameters: one call for a whole model, because on a GPU launches
// cost more than the arithmetic.
#pragma once

#include "kernels/kernel.h"

namespace mc {

template <class T>
struct OptimKernels {
    // A parameter with its moments and gradient, n elements each.
    struct AdamWItem {
        T* param;
        T* m;
        T* v;
        const T* grad;
        int64_t n;
        double lr, weight_decay;
        int64_t step;  // of this parameter, from 1
    };
    struct AdamWArgs {
        const AdamWItem* items;  // (count), host memory on every device; read within the call
        int64_t count;
        double beta1, beta2, eps, grad_scale;
    };
    // AdamW with PyTorch's semantics (moclip.md 5.3) for every item: p *= 1 - lr*wd; m, v moments;
    // bias corrections for step k; p -= lr * mhat / (sqrt(vhat) + eps). grad is multiplied by
    // grad_scale first (clipping). Items do not overlap.
    Kernel<const AdamWArgs&> adamw{"adamw"};
};

}  // namespace mc
