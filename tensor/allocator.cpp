#include "tensor/allocator.h"

#include <bit>
#include <deque>
#include <mutex>
#include <new>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kernels/error.h"

namespace mc {
namespace {

constexpr size_t kAlignment = 64;
constexpr uint64_t kCacheLimit = uint64_t{2} << 30;  // at first

size_t size_class(size_t bytes) {
    if (bytes <= 512) return (bytes + kAlignment - 1) / kAlignment * kAlignment;
    const size_t step = std::bit_floor(bytes) / 8;
    return (bytes + step - 1) / step * step;
}

class HostCache {
  public:
    void* allocate(size_t bytes) {
        const size_t size = size_class(bytes ? bytes : 1);
        std::lock_guard lock(mutex_);
        ++stats_.requests;
        void* data = nullptr;
        if (auto found = free_.find(size); found != free_.end() && !found->second.empty()) {
            data = found->second.back();
            found->second.pop_back();
            stats_.cached -= size;
        } else {
            ++stats_.system_requests;
            data = ::operator new (size, std::align_val_t{kAlignment}, std::nothrow);
            if (!data) {
                empty();
                data = ::operator new (size, std::align_val_t{kAlignment}, std::nothrow);
            }
            if (!data)
                throw Error("[allocator] out of memory: asked for " + std::to_string(bytes) +
                            " bytes with " + std::to_string(stats_.in_use) +
                            " in use; use a smaller batch or model");
        }
        stats_.in_use += size;
        if (stats_.in_use > stats_.peak) stats_.peak = stats_.in_use;
        return data;
    }

    void free(void* data, size_t bytes) {
        const size_t size = size_class(bytes ? bytes : 1);
        std::lock_guard lock(mutex_);
        stats_.in_use -= size;
        free_[size].push_back(data);
        order_.push_back(size);
        stats_.cached += size;
        trim();
        if (order_.size() > 65536) order_.erase(order_.begin(), order_.begin() + 32768);
    }

    void trim() {                                            // the caller holds the lock
        while (stats_.cached > limit_ && !order_.empty()) {  // the oldest class first
            const size_t oldest = order_.front();
            order_.pop_front();
            auto& blocks = free_[oldest];
            if (blocks.empty()) continue;
            ::operator delete (blocks.front(), std::align_val_t{kAlignment});
            blocks.erase(blocks.begin());
            stats_.cached -= oldest;
        }
        if (stats_.cached > limit_) empty();  // blocks whose free order_ has forgotten
    }

    void empty() {  // the caller holds the lock
        for (auto& [size, blocks] : free_)
            for (void* data : blocks) ::operator delete (data, std::align_val_t{kAlignment});
        free_.clear();
        order_.clear();
        stats_.cached = 0;
    }

    std::mutex mutex_;
    AllocatorStats stats_;
    uint64_t limit_ = kCacheLimit;

  private:
    std::unordered_map<size_t, std::vector<void*>> free_;
    std::deque<size_t> order_;  // classes in the order of their frees
};

HostCache& cache() {
    static HostCache* instance = new HostCache;  // outlives every static tensor
    return *instance;
}

}  // namespace

void* host_allocate(size_t bytes) {
    return cache().allocate(bytes);
}
void host_free(void* data, size_t bytes) noexcept {
    cache().free(data, bytes);
}
void host_empty_cache() {
    std::lock_guard lock(cache().mutex_);
    cache().empty();
}
uint64_t host_set_cache_limit(uint64_t bytes) {
    std::lock_guard lock(cache().mutex_);
    const uint64_t before = std::exchange(cache().limit_, bytes);
    cache().trim();
    return before;
}
AllocatorStats host_allocator_stats() {
    std::lock_guard lock(cache().mutex_);
    return cache().stats_;
}
void host_reset_peak() {
    std::lock_guard lock(cache().mutex_);
    cache().stats_.peak = cache().stats_.in_use;
}

}  // namespace mc
