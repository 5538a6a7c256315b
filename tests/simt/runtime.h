// The host side of the emulation: device memory between guard zones, streams, events and copies.
//
// Work is queued on a stream and done when somebody waits for it (or for something that depends on
// it), and not before: whoever forgets to wait reads old values. Streams that nothing orders are
// run in an order of their own. The functions are CUDA's, declared by include/cuda_runtime.h; what
// is here is what tests ask the emulation besides.
//
// What is put on a stream that is captured is recorded, not done: arguments as they are then, done
// again by each launch of the graph. A call that a capture forbids is refused and ends it, as on a
// GPU. Memory that a capture takes (cudaMallocAsync) and gives back is the graph's own, at one
// address, and without a value at the start of every launch.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace simt {

// What went wrong in the last failed launch, in one line; empty: nothing. A failed launch fails
// every later call, as on a GPU, until reset().
std::string report();
// Forgets the failure, frees all device memory, empties all streams.
void reset();
size_t live_allocations();
size_t launches();  // of kernels, since the process began; a graph's own do not count
// From now on the device has so many bytes more than are in use or kept by the pool; SIZE_MAX: any.
void limit_memory(size_t more);
// Puts work on a stream: for the emulation of libraries.
cudaError_t enqueue(cudaStream_t stream, std::function<void()> work);

}  // namespace simt
