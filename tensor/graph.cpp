#include "tensor/graph.h"

#include <atomic>

namespace mc {
namespace {

std::atomic<uint64_t> recorded{0}, operations{0}, launches{0};

}  // namespace

GraphStats graph_stats() {
    return {recorded, operations, launches};
}

void put(DeviceType device, Tensor& place, const Tensor& value) {
    if (place.defined())
        place.copy_(value);
    else
        place = value.device() == device ? value.clone() : value.to(device);
}

Graph::~Graph() {
    if (recorded_) backend(device_).graph.release(default_context(device_), recorded_);
}

void Graph::run(const std::function<void()>& work) {
    if (!available()) return work();
    if (!warm_) {
        const MemoryPool::Use own(pool_, false);
        work();
        warm_ = true;
        return;
    }
    if (!recorded_) record(work);
    backend(device_).graph.launch(default_context(device_), recorded_);
    ++launches;
}

void Graph::record(const std::function<void()>& work) {
    const GraphKernels& graph = backend(device_).graph;
    Context& context = default_context(device_);
    const MemoryPool::Use own(pool_, true);
    graph.begin(context);
    try {
        work();
    } catch (...) {
        graph.end(context, nullptr, nullptr);
        throw;
    }
    size_t count = 0;
    graph.end(context, &recorded_, &count);
    ++recorded;
    operations += count;
}

}  // namespace mc
