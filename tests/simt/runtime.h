// The host side of the emulation: device memory between guard zones, streams, events and copies.
//
// Work is queued on a stream and done when somebody waits for it (or for something that depends on
// it), and not before: whoever forgets to wait reads old values. Streams that nothing orders are
// run in an order of their own. The functions are CUDA's, declared by include/cuda_runtime.h; what
// is here is what tests ask the emulation besides.
#pragma once

#include <cstddef>
#include <string>

namespace simt {

// What went wrong in the last failed launch, in one line; empty: nothing. A failed launch fails
// every later call, as on a GPU, until reset().
std::string report();
// Forgets the failure, frees all device memory, empties all streams.
void reset();
size_t live_allocations();
size_t launches();  // since the process began

}  // namespace simt
