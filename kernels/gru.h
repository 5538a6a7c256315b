// One step of a gated recurrent unit (Cho et al. 2014, with PyTorch's gates r, z, n), between the
// two matrix products of its input and its state.
#pragma once

#include "kernels/kernel.h"

namespace mc {

template <class T>
struct GruKernels {
    // r, z = sigmoid(input + state) of the first and second third, n = tanh(input + r state) of the
    // last; next = (1 - z) n + z h. Where a row is not `on`, next = h.
    struct CellArgs {
        T* next;         // (rows, width)
        T* gates;        // (rows, 3 width): r, z, n, for backward; null: not wanted
        const T* input;  // (rows, 3 width): W x + b
        const T* state;  // (rows, 3 width): U h + c
        const T* h;      // (rows, width)
        const bool* on;  // (rows); null: all
        int64_t rows, width;
    };
    Kernel<const CellArgs&> gru_cell{"gru_cell"};
    // Rows that are not on: dh = dnext, dinput = dstate = 0. dh is of the direct way alone: what
    // comes through `state` is its product's.
    struct CellBackwardArgs {
        T *dinput, *dstate;  // (rows, 3 width)
        T* dh;               // (rows, width)
        const T* dnext;      // (rows, width)
        const T *gates, *state, *h;
        const bool* on;
        int64_t rows, width;
    };
    Kernel<const CellBackwardArgs&> gru_cell_backward{"gru_cell_backward"};
};

}  // namespace mc
