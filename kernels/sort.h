// Order within rows.
#pragma once

#include "kernels/kernel.h"

namespace mc {

template <class T>
struct SortKernels {
    // Ascending order of each row of src (rows, n), equal values in increasing position, NaN last:
    // order (rows, n) = the position of what stands at each place, rank (rows, n) = the place of
    // each position. Either may be null.
    Kernel<int64_t*, int64_t*, const T*, int64_t, int64_t> argsort{
        "argsort"};  // (order, rank, src, rows, n)
    // masked (rows, n) = whether an element is among the count[r] first of that order; those get
    // the id `mask_id`, the other ids stay.
    Kernel<bool*, int64_t*, const T*, const int64_t*, int64_t, int64_t, int64_t> mask_lowest{
        "mask_lowest"};  // (masked, id, src, count, mask_id, rows, n)
};

}  // namespace mc
