#include "kernels/mask.h"

#include <limits>

#include "kernels/cuda/device.h"
#include "kernels/cuda/fill.h"

namespace mc::cuda {

namespace {

// A column is hidden from a row if it is less: masks are their ids, padding is less than any mask,
// and what is not masked is more.
constexpr int64_t kNotMasked = std::numeric_limits<int64_t>::max();

__global__ void permuted_mask_kernel(PermutedMaskArgs a) {
    const int64_t s = a.n + 2;
    for (int64_t at = global_thread(); at < a.batch * s * s; at += all_threads()) {
        const int64_t b = at / (s * s), q = at / s % s, k = at % s;
        int64_t row = q == 1 ? a.first_mask : kNotMasked, column = kNotMasked;
        if (q >= 2 && a.row_id[b * a.n + q - 2] >= a.first_mask) row = a.row_id[b * a.n + q - 2];
        if (k >= 2 && a.column_id[b * a.n + k - 2] >= a.first_mask - 1)
            column = a.column_id[b * a.n + k - 2];
        a.hidden[at] = column < row && !(a.open && k - 2 == a.open[b]);
    }
}

void permuted_mask(Context& context, const PermutedMaskArgs& a) {
    constexpr int kThreads = 256;
    if (a.batch <= 0) return;
    launch("permuted_mask", context,
           {walking_blocks(a.batch * (a.n + 2) * (a.n + 2), kThreads), kThreads},
           permuted_mask_kernel, a);
}

}  // namespace

void fill_mask(Backend& backend) {
    backend.mask.permuted_mask = permuted_mask;
}

}  // namespace mc::cuda
