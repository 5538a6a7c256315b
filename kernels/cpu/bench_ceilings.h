// This machine's ceilings, measured: what a benchmark divides by.
#pragma once

#include "kernels/dtype.h"
#include "kernels/kernel.h"

namespace mc {

// Flop per second of independent multiply-adds in registers, all threads of the pool together, now:
// each does `rounds` of them, some nanoseconds a round. f32: fused multiply-adds. bf16, int16: of
// pairs, with AVX512-BF16 where that is the faster way and with AVX512-VNNI; without, f32's, by
// which such products are computed.
double multiply_add_rate(Context& context, Precision precision, int64_t rounds);
// The best of many: of the machine undisturbed.
double best_multiply_add_rate(Context& context, Precision precision);

// Bytes that no cache holds: 48 MiB, or the last-level cache where that is larger, 512 MiB at most.
int64_t beyond_caches();

// Bytes read plus written per second by copying between two buffers of that size, all threads.
double measure_copy(Context& context);

// The instruction set in use, e.g. "AVX2".
const char* target_name();

}  // namespace mc
