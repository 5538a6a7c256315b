// This machine's ceilings, measured: what a benchmark divides by.
#pragma once

#include "kernels/kernel.h"

namespace mc {

// Flop per second of independent f32 fused multiply-adds in registers, all threads of the pool.
double measure_fma_f32(Context& context);

// The same of products of bf16 pairs, with AVX512-BF16 where that is the faster way; else f32's, by
// which they are computed.
double measure_fma_bf16(Context& context);

// The same of int16 pairs, with AVX512-VNNI; without it f32's.
double measure_int16(Context& context);

// Bytes that no cache holds: 48 MiB, or the last-level cache where that is larger, 512 MiB at most.
int64_t beyond_caches();

// Bytes read plus written per second by copying between two buffers of that size, all threads.
double measure_copy(Context& context);

// The instruction set in use, e.g. "AVX2".
const char* target_name();

}  // namespace mc
