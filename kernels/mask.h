// Attention masks that follow from the tokens, made where the tokens are.
#pragma once

#include "kernels/kernel.h"

namespace mc {

// BAD's hybrid mask (generators.md 7.4). Rows and columns are [sentence, rate, tokens]. The mask of
// rank r has the id first_mask + r, padding first_mask - 1; what is below is not masked, and the
// end is that too.
struct PermutedMaskArgs {
    bool* hidden;              // (batch, n + 2, n + 2), true = not attended
    const int64_t* row_id;     // (batch, n): tokens as they see
    const int64_t* column_id;  // (batch, n): tokens as they are seen; the original's sampler makes
                               // them differ (QUIRK Q35)
    const int64_t* open;       // (batch): place of a token that all see (QUIRK Q34); null: none
    int64_t batch, n, first_mask;
};

struct MaskKernels {
    // All see the conditions and what is not masked, none sees padding. A masked token sees those
    // masked of its rank or higher, the rate all of them, other rows none (QUIRK Q33).
    Kernel<const PermutedMaskArgs&> permuted_mask{"permuted_mask"};
};

}  // namespace mc
