// Where tensors' bytes come from: a cache of freed blocks by size, so that a steady-state step asks
// the system for nothing.
//
// Sizes are rounded up to classes (eight a power of two), so a block is reused with at most an
// eighth wasted; when the cached bytes exceed the limit the oldest blocks go back to the system
// first.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mc {

struct AllocatorStats {
    uint64_t in_use = 0, cached = 0, peak = 0;  // bytes; peak is of in_use
    uint64_t requests = 0,
             system_requests = 0;  // how many allocations; how many the cache could not serve
};

// 64-byte aligned host memory. Throws Error (requested, in use, cached) when the system has no more
// even after the cache was emptied. bytes may be 0.
void* host_allocate(size_t bytes);
void host_free(void* data, size_t bytes) noexcept;
void host_empty_cache();
// How many freed bytes are kept for reuse (at first 2 GiB); returns the limit that was.
uint64_t host_set_cache_limit(uint64_t bytes);
AllocatorStats host_allocator_stats();
void host_reset_peak();

}  // namespace mc
