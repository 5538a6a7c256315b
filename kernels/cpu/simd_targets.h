// Which instruction sets the vector sources are compiled for; included before
// hwy/foreach_target.h. AVX2, AVX-512 and NEON matter; each further one costs compile time. A
// processor that has none of them runs the portable target. Vectors without a compile-time size
// (SVE, RVV) cannot be held in arrays.
#pragma once

#ifndef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS \
    (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#endif
