#include "tensor/allocator.h"

#include <bit>
#include <deque>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kernels/backend.h"

namespace mc {
namespace {

constexpr size_t kAlignment = 64;
constexpr uint64_t kHostCacheLimit = uint64_t{2} << 30;  // at first

size_t size_class(size_t bytes) {
    if (bytes <= 512) return (bytes + kAlignment - 1) / kAlignment * kAlignment;
    const size_t step = std::bit_floor(bytes) / 8;
    return (bytes + step - 1) / step * step;
}

class Cache {
  public:
    explicit Cache(DeviceType device)
        : limit_(device == DeviceType::cpu ? kHostCacheLimit : ~uint64_t{0}), device_(device) {}

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
            data = from_system(size);
            if (!data) {
                empty();
                data = from_system(size);
            }
            if (!data)
                throw Error(std::string("[allocator] out of memory on ") + name_of(device_) +
                            ": asked for " + std::to_string(bytes) + " bytes with " +
                            std::to_string(stats_.in_use) +
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
            to_system(blocks.front());
            blocks.erase(blocks.begin());
            stats_.cached -= oldest;
        }
        if (stats_.cached > limit_) empty();  // blocks whose free order_ has forgotten
    }

    void empty() {  // the caller holds the lock
        for (auto& [size, blocks] : free_)
            for (void* data : blocks) to_system(data);
        free_.clear();
        order_.clear();
        stats_.cached = 0;
    }

    std::mutex mutex_;
    AllocatorStats stats_;
    uint64_t limit_;

  private:
    void* from_system(size_t bytes) {
        void* data = nullptr;
        backend(device_).memory.allocate(default_context(device_), &data, bytes);
        return data;
    }
    void to_system(void* data) { backend(device_).memory.release(default_context(device_), data); }

    DeviceType device_;
    std::unordered_map<size_t, std::vector<void*>> free_;
    std::deque<size_t> order_;  // classes in the order of their frees
};

Cache& cache(DeviceType device) {
    // Both outlive every static tensor.
    static auto *cpu = new Cache(DeviceType::cpu), *cuda = new Cache(DeviceType::cuda);
    return device == DeviceType::cpu ? *cpu : *cuda;
}

}  // namespace

void* allocate(DeviceType device, size_t bytes) {
    return cache(device).allocate(bytes);
}
void release(DeviceType device, void* data, size_t bytes) noexcept {
    cache(device).free(data, bytes);
}
void empty_cache(DeviceType device) {
    std::lock_guard lock(cache(device).mutex_);
    cache(device).empty();
}
uint64_t set_cache_limit(DeviceType device, uint64_t bytes) {
    Cache& of = cache(device);
    std::lock_guard lock(of.mutex_);
    const uint64_t before = std::exchange(of.limit_, bytes);
    of.trim();
    return before;
}
AllocatorStats allocator_stats(DeviceType device) {
    std::lock_guard lock(cache(device).mutex_);
    return cache(device).stats_;
}
void reset_peak(DeviceType device) {
    Cache& of = cache(device);
    std::lock_guard lock(of.mutex_);
    of.stats_.peak = of.stats_.in_use;
}

}  // namespace mc
