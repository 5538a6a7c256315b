// Which instruction sets the vector sources are compiled for; included before
// hwy/foreach_target.h. AVX2, AVX-512 and NEON matter; each further one costs compile time. A
// processor that has none of them runs the portable target.
#pragma once

#ifndef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL)
#endif
