#include "tensor/allocator.h"

#include <algorithm>
#include <bit>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda.h"

namespace mc {
namespace {

thread_local MemoryPool* pool_in_use = nullptr;  // the calling thread's
thread_local bool pool_is_closed = false;

constexpr size_t kAlignment = 64;
constexpr uint64_t kHeldAnyway = uint64_t{256} << 20;  // however little was ever in use

size_t size_class(size_t bytes) {
    if (bytes <= 512) return (bytes + kAlignment - 1) / kAlignment * kAlignment;
    const size_t step = std::bit_floor(bytes) / 8;
    return (bytes + step - 1) / step * step;
}

// The largest block that may serve a request of this class: where little is asked for, waste costs
// little, and sizes that depend on the data (how many codes are dead, ...) find a block.
size_t largest_for(size_t size) {
    constexpr size_t kSmall = size_t{64} << 10;
    return std::max(size + size / 4, std::min(4 * size, kSmall));
}

}  // namespace

class Cache {
  public:
    explicit Cache(DeviceType device) : limit_(~uint64_t{0}), device_(device) {}

    void* allocate(size_t bytes) {
        const size_t size = size_class(bytes ? bytes : 1);
        std::lock_guard lock(mutex_);
        ++stats_.requests;
        MemoryPool* pool = pool_in_use && pool_in_use->device_ == device_ ? pool_in_use : nullptr;
        if (pool) {
            std::vector<void*>& own = pool->free_[size];
            if (!own.empty()) {
                void* data = own.back();
                own.pop_back();
                return data;
            }
            if (pool_is_closed)
                throw Error("[allocator] work that is recorded asks for " + std::to_string(bytes) +
                            " bytes more than when it was run; it must be the same each time and "
                            "keep no tensor");
        }
        const auto found = free_.lower_bound(size);
        const bool cached = found != free_.end() && found->first <= largest_for(size);
        const size_t block = cached ? found->first : size;
        void* data = nullptr;
        if (cached) {
            data = found->second.back();
            found->second.pop_back();
            if (found->second.empty()) free_.erase(found);
            stats_.cached -= block;
        } else {
            ++stats_.system_requests;
            make_room(size);
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
        if (block != size) larger_.emplace(data, block);
        if (pool) {
            owner_.emplace(data, pool);
            pool->bytes_ += block;
        }
        stats_.in_use += block;
        stats_.peak = std::max(stats_.peak, stats_.in_use);
        most_ = std::max(most_, stats_.in_use);
        return data;
    }

    void free(void* data, size_t bytes) {
        std::lock_guard lock(mutex_);
        const size_t size = size_class(bytes ? bytes : 1);
        const auto owner = owner_.find(data);
        if (owner == owner_.end())
            give_back(data, size);
        else
            owner->second->free_[size].push_back(data);
    }

    void dissolve(MemoryPool& pool) {
        std::lock_guard lock(mutex_);
        std::erase_if(owner_, [&](const auto& owned) { return owned.second == &pool; });
        for (auto& [size, blocks] : pool.free_)
            for (void* data : blocks) give_back(data, size);
    }

    // A block in use of this class may serve others. The caller holds the lock.
    void give_back(void* data, size_t size) {
        if (const auto larger = larger_.find(data); larger != larger_.end()) {
            size = larger->second;
            larger_.erase(larger);
        }
        stats_.in_use -= size;
        free_[size].push_back(data);
        order_.push_back(size);
        stats_.cached += size;
        if (!pool_is_closed) trim(limit_);
        if (order_.size() > 65536) order_.erase(order_.begin(), order_.begin() + 32768);
    }

    // Keeps at most so many cached bytes, those freed last. The caller holds the lock.
    void trim(uint64_t most) {
        while (stats_.cached > most && !order_.empty()) {  // the oldest class first
            const size_t oldest = order_.front();
            order_.pop_front();
            const auto blocks = free_.find(oldest);
            if (blocks == free_.end()) continue;
            to_system(blocks->second.front());
            blocks->second.erase(blocks->second.begin());
            if (blocks->second.empty()) free_.erase(blocks);
            stats_.cached -= oldest;
        }
        if (stats_.cached > most) empty();  // blocks whose free order_ has forgotten
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
    // For `size` more bytes from the system.
    void make_room(size_t size) {
        if (device_ != DeviceType::cpu) return;
        const uint64_t held = std::max(kHeldAnyway, most_ + most_ / 4), used = stats_.in_use + size;
        trim(held > used ? held - used : 0);
    }
    void* from_system(size_t bytes) {
        void* data = nullptr;
        backend(device_).memory.allocate(default_context(device_), &data, bytes);
        return data;
    }
    void to_system(void* data) { backend(device_).memory.release(default_context(device_), data); }

    DeviceType device_;
    uint64_t most_ = 0;                             // bytes ever in use at once
    std::map<size_t, std::vector<void*>> free_;     // by size, none empty
    std::unordered_map<void*, size_t> larger_;      // blocks in use that exceed their class
    std::unordered_map<void*, MemoryPool*> owner_;  // blocks of pools, in use by a tensor or not
    std::deque<size_t> order_;                      // classes in the order of their frees
};

namespace {

Cache& cache(DeviceType device) {
    // Both outlive every static tensor.
    static auto* cpu = new Cache(DeviceType::cpu);
    static auto* cuda = [] {
        on_cuda_memory_short([] { empty_cache(DeviceType::cuda); });
        return new Cache(DeviceType::cuda);
    }();
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
    of.trim(bytes);
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

MemoryPool::~MemoryPool() {
    cache(device_).dissolve(*this);
}
MemoryPool::Use::Use(MemoryPool& pool, bool closed)
    : previous_(std::exchange(pool_in_use, &pool)),
      previous_closed_(std::exchange(pool_is_closed, closed)) {}
MemoryPool::Use::~Use() {
    pool_in_use = previous_;
    pool_is_closed = previous_closed_;
}

}  // namespace mc
