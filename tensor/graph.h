// Work that a device does many times over, without the program handing it over kernel by kernel.
//
//     struct Step { Graph graph; Tensor x, y; } step;
//     for (...) {
//         put(device, step.x, next);
//         step.graph.run([&] { step.y.copy_(model(step.x)); });
//     }
//
// The first run does the work as it stands: what the backend makes at first use is made, and the
// graph's memory is taken. The second records it (kernels/graph.h) and launches the record; each
// further one launches it, and the function is not called. So what varies between runs is in
// tensors that were made before, at their places, and what comes out is too. Between the two runs
// the work must be the same, keep no tensor that it makes, and neither upload nor read back. What
// it reads must stay where it is (Module::fingerprint() tells of a model's weights).
//
// On a device without graphs every run does the work as it stands.
#pragma once

#include <bit>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/backend.h"
#include "tensor/allocator.h"
#include "tensor/tensor.h"

namespace mc {

// Since the process began: graphs, operations in them, launches of them.
struct GraphStats {
    uint64_t recorded = 0, operations = 0, launches = 0;
};
GraphStats graph_stats();

class Graph {
  public:
    explicit Graph(DeviceType device) : device_(device), pool_(device) {}
    ~Graph();
    Graph(const Graph&) = delete;
    Graph& operator=(const Graph&) = delete;

    void run(const std::function<void()>& work);
    bool available() const { return static_cast<bool>(backend(device_).graph.begin); }
    uint64_t bytes() const { return pool_.bytes(); }  // of memory that is its own

  private:
    void record(const std::function<void()>& work);

    DeviceType device_;
    MemoryPool pool_;
    bool warm_ = false;
    RecordedGraph* recorded_ = nullptr;
};

// Puts a value for the next run where an earlier one was. The first gets a place on the device.
void put(DeviceType device, Tensor& place, const Tensor& value);

// What a graph's work depends on, as a key.
template <class... Values>
std::vector<uint64_t> graph_key(Values... values) {
    const auto bits = [](auto value) {
        if constexpr (std::is_floating_point_v<decltype(value)>)
            return std::bit_cast<uint64_t>(static_cast<double>(value));
        else
            return static_cast<uint64_t>(value);
    };
    return {bits(values)...};
}

// Keeps what graphs work on, by a key that says all their work depends on but the values in their
// tensors; those used last, within a limit. `Work` has a member `graph`.
template <class Work>
class GraphCache {
  public:
    using Key = std::vector<uint64_t>;
    static constexpr size_t kMost = 64;  // MoMask has 49 lengths
    static constexpr uint64_t kMostBytes = uint64_t{1} << 30;

    // What was kept under this key, for its user alone until it is kept again; null if there is
    // none. All are dropped when the weights are not the time before's.
    std::unique_ptr<Work> take(const Key& key, const std::vector<uint64_t>& weights) {
        const std::lock_guard lock(mutex_);
        if (weights != weights_) kept_.clear();
        weights_ = weights;
        for (auto at = kept_.begin(); at != kept_.end(); ++at)
            if (at->first == key) {
                std::unique_ptr<Work> work = std::move(at->second);
                kept_.erase(at);
                return work;
            }
        return nullptr;
    }
    // Nothing where there are no graphs.
    void keep(Key key, std::unique_ptr<Work> work) {
        if (!work->graph.available()) return;
        const std::lock_guard lock(mutex_);
        kept_.emplace_front(std::move(key), std::move(work));
        uint64_t bytes = 0;
        size_t count = 0;
        for (auto at = kept_.begin(); at != kept_.end();) {
            bytes += at->second->graph.bytes();
            at = ++count > kMost || (count > 1 && bytes > kMostBytes) ? kept_.erase(at)
                                                                      : std::next(at);
        }
    }

  private:
    std::mutex mutex_;
    std::vector<uint64_t> weights_;
    std::list<std::pair<Key, std::unique_ptr<Work>>> kept_;  // used last first
};

}  // namespace mc
