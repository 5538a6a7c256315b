// Tokens drawn from logits (generators.md 2.5), in f32 alone: what a recorded run of the original
// drew hangs on its rounding.
#pragma once

#include "kernels/kernel.h"

namespace mc {

// A draw a row. The k greatest logits of a row stay, ties to the lower index. A row without a
// distribution (NaN or +inf in it, or -inf alone) gets the id -1 and a NaN for probability: the
// caller reports it when the ids come home.
struct DrawArgs {
    int64_t* id;               // row r's at r * id_stride
    float* probability;        // softmax(logits)[r, id] of all classes, in double, at r *
                               // probability_stride; null: not wanted
    const bool* drawn;         // (rows): where false the id stays, and the probability is
    float otherwise;           // this; null: all are drawn
    const float* logits;       // (rows, classes)
    const float* u;            // uniform draws in [0, 1)
    int64_t rows, classes, k;  // 1 <= k <= classes
    int64_t id_stride, probability_stride;
    float temperature;  // > 0
};

struct SamplingKernels {
    // Softmax of what stays / temperature, then the inverse distribution function at u (rows), in
    // double: the first class up to which the probabilities add to more than u times their sum.
    Kernel<const DrawArgs&> draw_categorical{"draw_categorical"};
    // The first greatest of what stays / temperature + Gumbel noise -log(-log u), u (rows,
    // classes), both logarithms of at least 1e-20; null: no noise.
    Kernel<const DrawArgs&> draw_gumbel{"draw_gumbel"};
};

}  // namespace mc
