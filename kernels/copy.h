// Moving and converting bytes, whatever they mean.
#pragma once

#include "kernels/kernel.h"

namespace mc {

struct CopyKernels {
    // dst (contiguous) <- src read with stride_a of the loop; element_size in {1, 2, 4, 8} bytes.
    Kernel<void*, const void*, const StridedLoop&, size_t> gather_strided{"gather_strided"};
    // dst written with stride_a of the loop <- src (contiguous).
    Kernel<void*, const void*, const StridedLoop&, size_t> scatter_strided{"scatter_strided"};
    // n elements converted between dtypes; f16/bf16 round to nearest even, float -> int truncates,
    // bool is != 0.
    Kernel<void*, DType, const void*, DType, int64_t> cast{
        "cast"};  // (dst, dst dtype, src, src dtype, n)
};

}  // namespace mc
