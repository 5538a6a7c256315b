// Sums, means, maxima, running sums over one axis of a contiguous array seen as (outer, n, inner).
#pragma once

#include "kernels/kernel.h"

namespace mc {

template <class T>
struct ReduceKernels {
    // dst (outer, inner) = sum over n of src (outer, n, inner), times `scale`. Fixed order; f32
    // accumulates so that the error grows with the square root of n at most (pairwise or blocked).
    Kernel<T*, const T*, T, int64_t, int64_t, int64_t> sum{
        "sum"};  // (dst, src, scale, outer, n, inner)
    // dst (outer, inner) = maximum, index (outer, inner) = its first position; NaN wins. n >= 1.
    // index may be null.
    Kernel<T*, int64_t*, const T*, int64_t, int64_t, int64_t> max{
        "max"};  // (dst, index, src, outer, n, inner)
    // dst[i] (double) = sum of squares of arrays[i], i < count, accumulated in double. `arrays` is
    // host memory on every device; read within the call.
    struct Array {
        const T* data;
        int64_t n;
    };
    Kernel<double*, const Array*, int64_t> sum_of_squares{
        "sum_of_squares"};  // (dst, arrays, count)
    // *dst = index of the first element that is not finite, or -1.
    Kernel<int64_t*, const T*, int64_t> find_non_finite{"find_non_finite"};
    // index (rows, k) = positions of the k largest of each row (rows, n), descending, ties to the
    // lower index.
    Kernel<int64_t*, const T*, int64_t, int64_t, int64_t> top_k{
        "top_k"};  // (index, src, rows, n, k)
    // dst (outer, n, inner): each element the sum of src's up to and with it along n (reverse: from
    // it to the end), accumulated in double. dst may be src.
    Kernel<T*, const T*, int64_t, int64_t, int64_t, bool> cumsum{
        "cumsum"};  // (dst, src, outer, n, inner, reverse)
};

}  // namespace mc
