// Where tensors' bytes come from: for each device a cache of freed blocks by size, so that a
// steady-state step asks the system for nothing.
//
// Sizes are rounded up to classes (eight a power of two), and a request takes the smallest cached
// block that is at most a quarter too large (below 64 KB: four times as large, as sizes that depend
// on the data vary there and waste costs little). On the CPU a request that the cache cannot serve
// makes the blocks freed longest ago go back to the system first, as far as what is held (in use
// and cached) would exceed the most that ever was in use by more than a quarter: steps of ever
// other shapes do not pile blocks up. A block of the GPU's is handed out again while work on it may
// still be in the stream: all work of a process is on one stream, so what its next owner does comes
// after.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "kernels/dtype.h"

namespace mc {

struct AllocatorStats {
    uint64_t in_use = 0, cached = 0, peak = 0;  // bytes; peak is of in_use
    uint64_t requests = 0,
             system_requests = 0;  // how many allocations; how many the cache could not serve
};

// 64-byte aligned memory of the device. Throws Error (requested, in use) when the system has no
// more even after the cache was emptied. bytes may be 0.
void* allocate(DeviceType device, size_t bytes);
void release(DeviceType device, void* data, size_t bytes) noexcept;
void empty_cache(DeviceType device);
// At most so many freed bytes are kept for reuse (at first no limit but the above); returns the
// limit that was.
uint64_t set_cache_limit(DeviceType device, uint64_t bytes);
AllocatorStats allocator_stats(DeviceType device);
void reset_peak(DeviceType device);

// Memory that is nobody else's for as long as the pool lives, as work that is recorded and repeated
// needs it (tensor/graph.h). It counts as in use. Tensors may outlive it.
class MemoryPool {
  public:
    explicit MemoryPool(DeviceType device) : device_(device) {}
    ~MemoryPool();  // what it has may serve others again
    MemoryPool(const MemoryPool&) = delete;
    MemoryPool& operator=(const MemoryPool&) = delete;

    // While one lives, this thread's allocations on the device are the pool's: blocks that were
    // given back to it, by the class that was asked for, so that work which is done a second time
    // finds what it took the first time. `closed`: those alone, an Error where there is none, and
    // nothing goes back to the system.
    class Use {
      public:
        Use(MemoryPool& pool, bool closed);
        ~Use();
        Use(const Use&) = delete;
        Use& operator=(const Use&) = delete;

      private:
        MemoryPool* previous_;
        bool previous_closed_;
    };

    uint64_t bytes() const { return bytes_; }

  private:
    friend class Cache;
    DeviceType device_;
    uint64_t bytes_ = 0;
    std::map<size_t, std::vector<void*>> free_;  // by class
};

}  // namespace mc
