#include "tests/simt/runtime.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "tests/simt/fiber.h"

namespace simt {

namespace {

constexpr size_t kGuardBytes = 256;
constexpr unsigned char kGuardPattern = 0xA5;
constexpr size_t kDefaultSharedLimit = 48 * 1024;

struct Operation {
    uint64_t number;  // in the order of the calls, over all streams
    std::function<void()> run;
};

}  // namespace

// What was captured; shared by the graph, its executables and their launches on their way.
struct Recorded {
    std::vector<std::function<void()>> operations;
    std::vector<void*> memory;  // taken by the capture
    size_t taken = 0;           // of it not given back
    ~Recorded();
};
struct Graph {
    std::shared_ptr<Recorded> recorded;
};
struct GraphExec {
    std::shared_ptr<Recorded> recorded;
};

struct Capture {
    std::shared_ptr<Recorded> recorded = std::make_shared<Recorded>();
    cudaStreamCaptureMode mode;
    std::thread::id thread;
    bool valid = true;
};

struct Stream {
    bool blocking = true;  // ordered with the default stream
    std::deque<Operation> queue;
    std::unique_ptr<Capture> capture;
};

// The point that was recorded: an event is done when its stream is past it.
struct Event {
    Stream* stream = nullptr;
    uint64_t number = 0;
};

namespace {

struct Allocation {
    size_t bytes = 0;
    std::vector<unsigned char> block;  // guard, the bytes, guard
};

class Runtime {
  public:
    std::recursive_mutex mutex;
    cudaError_t error = cudaSuccess;
    std::string report;
    size_t launches = 0;

    Stream* stream_of(cudaStream_t s) { return s ? s : &default_; }

    cudaError_t enqueue(Stream* stream, std::function<void()> run) {
        if (error != cudaSuccess) return error;
        if (Capture* capture = stream->capture.get()) {
            if (!capture->valid) return cudaErrorStreamCaptureInvalidated;
            capture->recorded->operations.push_back(std::move(run));
            return cudaSuccess;
        }
        if (stream == &default_)  // would have to wait for what is not going to be done
            for (const auto& s : streams_)
                if (s->blocking && s->capture) {
                    s->capture->valid = false;
                    return cudaErrorStreamCaptureImplicit;
                }
        stream->queue.push_back({++number_, std::move(run)});
        return cudaSuccess;
    }
    uint64_t last_number() const { return number_; }

    // For a call that may wait for the device: an error, and the end of it, if the calling thread's
    // capture, or another's in global mode, forbids that.
    cudaError_t unsafe() {
        cudaError_t status = error;
        for (const auto& s : streams_) {
            Capture* capture = s->capture.get();
            if (!capture || capture->mode == cudaStreamCaptureModeRelaxed ||
                (capture->mode == cudaStreamCaptureModeThreadLocal &&
                 capture->thread != std::this_thread::get_id()))
                continue;
            capture->valid = false;
            status = cudaErrorStreamCaptureUnsupported;
        }
        return status;
    }
    // For a call that needs what is on the stream to be done.
    cudaError_t waits_for(Stream* stream) {
        if (!stream || !stream->capture) return error;
        stream->capture->valid = false;
        return cudaErrorStreamCaptureUnsupported;
    }

    // Does everything on the stream up to operation `number`, and what that waits for.
    void run_until(Stream* stream, uint64_t number) {
        while (!stream->queue.empty() && stream->queue.front().number <= number) {
            const uint64_t next = stream->queue.front().number;
            if (stream == &default_) {
                for (const auto& s : streams_)
                    if (s->blocking) run_until(s.get(), next);
            } else if (stream->blocking) {
                run_until(&default_, next);
            }
            if (stream->queue.empty() || stream->queue.front().number != next) continue;
            const Operation operation = std::move(stream->queue.front());
            stream->queue.pop_front();
            operation.run();
        }
    }
    void run_all() {
        // The youngest stream first: nothing orders streams.
        for (auto s = streams_.rbegin(); s != streams_.rend(); ++s) run_until(s->get(), number_);
        run_until(&default_, number_);
    }
    // What cudaMemcpy without a stream waits for.
    void run_blocking() {
        run_until(&default_, number_);
        for (const auto& s : streams_)
            if (s->blocking) run_until(s.get(), number_);
    }

    Stream* add_stream(bool blocking) {
        streams_.push_back(std::make_unique<Stream>());
        streams_.back()->blocking = blocking;
        return streams_.back().get();
    }
    // The object stays: events may point at it.
    void remove_stream(Stream* stream) { run_until(stream, number_); }

    // Bytes of the device, those in use, and those that the pool has been given back and keeps.
    size_t limit = SIZE_MAX, taken = 0, pooled = 0;
    bool has_room(size_t bytes) const { return bytes <= limit - std::min(limit, taken + pooled); }
    size_t size_of(void* p) const { return heap_.at(static_cast<unsigned char*>(p))->bytes; }

    void* allocate(size_t bytes) {
        taken += bytes;
        auto a = std::make_unique<Allocation>();
        a->bytes = bytes;
        a->block.assign(bytes + 2 * kGuardBytes + 256, kGuardPattern);
        const auto at = reinterpret_cast<uintptr_t>(a->block.data()) + kGuardBytes;
        auto* p = reinterpret_cast<unsigned char*>((at + 255) / 256 * 256);
        std::fill_n(p, bytes, 0xff);  // NaN for whoever reads before it writes
        poison(a->block.data(), static_cast<size_t>(p - a->block.data()));
        poison(p + bytes, static_cast<size_t>(a->block.data() + a->block.size() - (p + bytes)));
        heap_[p] = std::move(a);
        return p;
    }
    bool release(void* p) {
        const auto it = heap_.find(static_cast<unsigned char*>(p));
        if (it == heap_.end()) return false;
        taken -= it->second->bytes;
        unpoison(it->second->block.data(), it->second->block.size());
        std::fill_n(it->first, it->second->bytes, 0xff);
        heap_.erase(it);
        return true;
    }
    bool on_device(const void* p, size_t bytes) const {
        auto it = heap_.upper_bound(static_cast<unsigned char*>(const_cast<void*>(p)));
        if (it == heap_.begin()) return false;
        --it;
        const auto* begin = it->first;
        const auto* at = static_cast<const unsigned char*>(p);
        return at + bytes <= begin + it->second->bytes;
    }
    bool starts_on_device(const void* p) const { return on_device(p, 0); }
    void* allocate_locked(size_t bytes) {
        const auto block = std::make_unique<unsigned char[]>(bytes).release();
        locked_[block] = bytes;
        return block;
    }
    // Page-locked memory of the host's, or the device's.
    bool device_reaches(const void* p) const {
        auto it = locked_.upper_bound(static_cast<const unsigned char*>(p));
        return starts_on_device(p) || (it != locked_.begin() && p < (--it)->first + it->second);
    }
    // The first allocation whose guard zones were written to, or null.
    const Allocation* damaged() const {
        if (asan_present()) return nullptr;  // it has seen more
        for (const auto& [p, a] : heap_) {
            const auto bad = [](unsigned char c) { return c != kGuardPattern; };
            const unsigned char *begin = a->block.data(), *end = begin + a->block.size();
            const unsigned char* data = p;
            if (std::any_of(begin, data, bad) || std::any_of(data + a->bytes, end, bad))
                return a.get();
        }
        return nullptr;
    }
    size_t allocations() const { return heap_.size(); }
    void reset() {
        error = cudaSuccess;
        report.clear();
        default_.queue.clear();
        for (auto& s : streams_) {
            s->queue.clear();
            s->capture.reset();
        }
        while (!heap_.empty()) release(heap_.begin()->first);
    }

    std::map<const void*, size_t> shared_limit;

  private:
    Stream default_;
    std::vector<std::unique_ptr<Stream>> streams_;
    std::map<unsigned char*, std::unique_ptr<Allocation>> heap_;
    std::map<const unsigned char*, size_t> locked_;  // page-locked, never given back
    uint64_t number_ = 0;
};

Runtime& runtime() {
    static auto* r = new Runtime;  // a static graph may outlive a static object
    return *r;
}

using Lock = std::lock_guard<std::recursive_mutex>;

bool valid(const Runtime& r, void* dst, const void* src, size_t bytes, cudaMemcpyKind kind) {
    const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (bytes == 0 || kind == cudaMemcpyDefault) return true;
    return (to_device ? r.on_device(dst, bytes) : !r.starts_on_device(dst)) &&
           (from_device ? r.on_device(src, bytes) : !r.starts_on_device(src));
}

void forget_value(void* p, size_t bytes) {
    std::fill_n(static_cast<unsigned char*>(p), bytes, 0xff);
}

void launch_now(const cudaLaunchConfig_t& config, const std::function<void()>& body) {
    Runtime& r = runtime();
    if (r.error != cudaSuccess) return;
    std::string report = run_grid(body, config.gridDim, config.blockDim, config.dynamicSmemBytes);
    if (report.empty())
        if (const Allocation* a = r.damaged())
            report = "a write outside a device allocation of " + std::to_string(a->bytes) +
                     " bytes, by a kernel or since the last one";
    if (report.empty()) return;
    r.report = report;
    r.error = cudaErrorLaunchFailure;
}

}  // namespace

cudaError_t enqueue_launch(const cudaLaunchConfig_t& config, const void* kernel,
                           std::function<void()> body) {
    Runtime& r = runtime();
    const Lock lock(r.mutex);
    if (r.error != cudaSuccess) return r.error;
    const auto empty = [](dim3 d) { return d.x == 0 || d.y == 0 || d.z == 0; };
    const dim3 g = config.gridDim, b = config.blockDim;
    if (empty(g) || empty(b) || b.x * b.y * b.z > 1024 || b.z > 64 || g.x > 0x7fffffffu ||
        g.y > 65535 || g.z > 65535)
        return cudaErrorInvalidConfiguration;
    const auto limit = r.shared_limit.find(kernel);
    if (config.dynamicSmemBytes >
        (limit == r.shared_limit.end() ? kDefaultSharedLimit : limit->second))
        return cudaErrorInvalidValue;
    Stream* stream = r.stream_of(config.stream);
    r.launches += !stream->capture;
    return r.enqueue(stream, [config, body = std::move(body)] { launch_now(config, body); });
}

cudaError_t enqueue(cudaStream_t stream, std::function<void()> work) {
    const Lock lock(runtime().mutex);
    return runtime().enqueue(runtime().stream_of(stream), std::move(work));
}

Recorded::~Recorded() {
    const Lock lock(runtime().mutex);
    for (void* p : memory) runtime().release(p);
}

cudaError_t allow_shared(const void* kernel, int bytes) {
    Runtime& r = runtime();
    const Lock lock(r.mutex);
    if (bytes < 0 || static_cast<size_t>(bytes) > kMaxSharedBytes) return cudaErrorInvalidValue;
    r.shared_limit[kernel] = static_cast<size_t>(bytes);
    return cudaSuccess;
}

std::string report() {
    const Lock lock(runtime().mutex);
    return runtime().report;
}
void reset() {
    const Lock lock(runtime().mutex);
    runtime().reset();
}
size_t live_allocations() {
    const Lock lock(runtime().mutex);
    return runtime().allocations();
}
size_t launches() {
    const Lock lock(runtime().mutex);
    return runtime().launches;
}
void limit_memory(size_t more) {
    const Lock lock(runtime().mutex);
    const size_t held = runtime().taken + runtime().pooled;
    runtime().limit = more > SIZE_MAX - held ? SIZE_MAX : held + more;
}

}  // namespace simt

using simt::Lock;
using simt::runtime;

cudaError_t cudaGetDeviceCount(int* count) {
    *count = 1;
    return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
    *device = 0;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
    if (device != 0 || attribute != cudaDevAttrMaxSharedMemoryPerBlockOptin)
        return cudaErrorInvalidValue;
    *value = static_cast<int>(simt::kMaxSharedBytes);
    return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
    *properties = {"emulation on the CPU (tests/simt)", 8, 0, 1};
    return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
    const Lock lock(runtime().mutex);
    if (const cudaError_t status = runtime().unsafe(); status != cudaSuccess) return status;
    runtime().run_all();
    return runtime().error;
}
cudaError_t cudaGetLastError() {
    const Lock lock(runtime().mutex);
    return runtime().error;
}
const char* cudaGetErrorString(cudaError_t error) {
    if (error == cudaErrorLaunchFailure) return runtime().report.c_str();
    return cudaGetErrorName(error);
}

cudaError_t cudaMalloc(void** p, size_t bytes) {
    const Lock lock(runtime().mutex);
    if (const cudaError_t status = runtime().unsafe(); status != cudaSuccess) return status;
    if (!runtime().has_room(bytes)) return cudaErrorMemoryAllocation;
    *p = bytes ? runtime().allocate(bytes) : nullptr;
    return cudaSuccess;
}
cudaError_t cudaFree(void* p) {
    const Lock lock(runtime().mutex);
    if (const cudaError_t status = runtime().unsafe(); status != cudaSuccess) return status;
    runtime().run_all();  // as the real one does
    if (p && !runtime().release(p)) return cudaErrorInvalidValue;
    return runtime().error;
}
// Page-locked memory is the host's: only the copies know.
cudaError_t cudaMallocHost(void** p, size_t bytes) {
    const Lock lock(runtime().mutex);
    if (const cudaError_t status = runtime().unsafe(); status != cudaSuccess) return status;
    *p = runtime().allocate_locked(bytes);
    return cudaSuccess;
}
cudaError_t cudaMallocAsync(void** p, size_t bytes, cudaStream_t s) {
    const Lock lock(runtime().mutex);
    simt::Stream* stream = runtime().stream_of(s);
    if (!stream->capture) {
        if (runtime().pooled >= bytes) runtime().pooled -= bytes;
        return cudaMalloc(p, bytes);
    }
    if (!stream->capture->valid) return cudaErrorStreamCaptureInvalidated;
    *p = runtime().allocate(bytes);
    simt::Recorded& recorded = *stream->capture->recorded;
    recorded.memory.push_back(*p);
    ++recorded.taken;
    return runtime().enqueue(stream, [to = *p, bytes] { simt::forget_value(to, bytes); });
}
cudaError_t cudaFreeAsync(void* p, cudaStream_t s) {
    const Lock lock(runtime().mutex);
    if (p && !runtime().on_device(p, 0)) return cudaErrorInvalidValue;
    if (!p) return cudaSuccess;
    simt::Stream* stream = runtime().stream_of(s);
    if (!stream->capture)
        return runtime().enqueue(stream, [p] {
            runtime().pooled += runtime().size_of(p);
            runtime().release(p);
        });
    simt::Recorded& recorded = *stream->capture->recorded;
    if (std::find(recorded.memory.begin(), recorded.memory.end(), p) == recorded.memory.end())
        return cudaErrorNotSupported;  // what it would do a second time, the emulation cannot
    --recorded.taken;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int) {
    *pool = nullptr;
    return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) {
    return cudaSuccess;
}
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, size_t bytes) {
    const Lock lock(runtime().mutex);
    runtime().pooled = std::min(runtime().pooled, bytes);
    return runtime().error;
}
cudaError_t cudaDeviceGraphMemTrim(int) {
    return cudaSuccess;  // a graph has no memory but what it uses
}
cudaError_t cudaMemcpyAsync(void* dst, const void* src, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
    const Lock lock(runtime().mutex);
    if (!simt::valid(runtime(), dst, src, bytes, kind)) return cudaErrorInvalidValue;
    simt::Stream* on = runtime().stream_of(stream);
    if (!runtime().device_reaches(dst) || !runtime().device_reaches(src))  // may have to wait
        if (const cudaError_t status = runtime().waits_for(on); status != cudaSuccess)
            return status;
    return runtime().enqueue(on, [dst, src, bytes] { std::memmove(dst, src, bytes); });
}
cudaError_t cudaMemcpy(void* dst, const void* src, size_t bytes, cudaMemcpyKind kind) {
    const Lock lock(runtime().mutex);
    if (const cudaError_t status = runtime().unsafe(); status != cudaSuccess) return status;
    const cudaError_t status = cudaMemcpyAsync(dst, src, bytes, kind, nullptr);
    runtime().run_blocking();
    return status != cudaSuccess ? status : runtime().error;
}
cudaError_t cudaMemsetAsync(void* dst, int value, size_t bytes, cudaStream_t stream) {
    const Lock lock(runtime().mutex);
    if (bytes > 0 && !runtime().on_device(dst, bytes)) return cudaErrorInvalidValue;
    return simt::enqueue(stream, [dst, value, bytes] { std::memset(dst, value, bytes); });
}
cudaError_t cudaMemset(void* dst, int value, size_t bytes) {
    return cudaMemsetAsync(dst, value, bytes, nullptr);  // asynchronous, as the real one is
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
    return simt::enqueue(stream, [function, data] { function(data); });
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
    const Lock lock(runtime().mutex);
    *stream = runtime().add_stream(flags != cudaStreamNonBlocking);
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) {
    return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    const Lock lock(runtime().mutex);
    runtime().remove_stream(stream);
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    const Lock lock(runtime().mutex);
    simt::Stream* s = runtime().stream_of(stream);
    if (const cudaError_t status = runtime().waits_for(s); status != cudaSuccess) return status;
    runtime().run_until(s, runtime().last_number());
    return runtime().error;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
    const Lock lock(runtime().mutex);
    simt::Stream* s = runtime().stream_of(stream);
    if (const cudaError_t status = runtime().waits_for(s); status != cudaSuccess) return status;
    if (s->queue.empty()) return runtime().error;
    runtime().run_until(s, s->queue.front().number);  // who polls sees progress
    return cudaErrorNotReady;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    const Lock lock(runtime().mutex);
    if (!event->stream) return cudaSuccess;  // never recorded
    simt::Stream* s = runtime().stream_of(stream);
    if (const cudaError_t status = runtime().waits_for(s); status != cudaSuccess) return status;
    return runtime().enqueue(
        s, [from = event->stream, number = event->number] { runtime().run_until(from, number); });
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
    *event = new simt::Event;
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) {
    return cudaEventCreateWithFlags(event, cudaEventDefault);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete event;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    const Lock lock(runtime().mutex);
    simt::Stream* s = runtime().stream_of(stream);
    if (const cudaError_t status = runtime().waits_for(s); status != cudaSuccess) return status;
    const cudaError_t status = runtime().enqueue(s, [] {});
    event->stream = s;
    event->number = runtime().last_number();
    return status;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    const Lock lock(runtime().mutex);
    if (const cudaError_t status = runtime().unsafe(); status != cudaSuccess) return status;
    if (event->stream) runtime().run_until(event->stream, event->number);
    return runtime().error;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
    const Lock lock(runtime().mutex);
    simt::Stream* s = event->stream;
    if (!s || s->queue.empty() || s->queue.front().number > event->number) return runtime().error;
    runtime().run_until(s, s->queue.front().number);
    return cudaErrorNotReady;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
    const Lock lock(runtime().mutex);
    if (runtime().error != cudaSuccess) return runtime().error;
    if (!stream) return cudaErrorStreamCaptureUnsupported;  // the default stream waits for others
    if (stream->capture) return cudaErrorIllegalState;
    stream->capture = std::make_unique<simt::Capture>();
    stream->capture->mode = mode;
    stream->capture->thread = std::this_thread::get_id();
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
    const Lock lock(runtime().mutex);
    *graph = nullptr;
    if (!stream || !stream->capture) return cudaErrorIllegalState;
    if (stream->capture->thread != std::this_thread::get_id() &&
        stream->capture->mode != cudaStreamCaptureModeRelaxed)
        return cudaErrorStreamCaptureWrongThread;
    const std::unique_ptr<simt::Capture> capture = std::move(stream->capture);
    if (!capture->valid) return cudaErrorStreamCaptureInvalidated;
    *graph = new simt::Graph{capture->recorded};
    return runtime().error;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t*, size_t* count) {
    *count = graph->recorded->operations.size();
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* exec, cudaGraph_t graph,
                                          unsigned long long) {
    // A graph that keeps what it took can be launched once.
    if (graph->recorded->taken > 0) return cudaErrorNotSupported;
    *exec = new simt::GraphExec{graph->recorded};
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
    return simt::enqueue(stream, [recorded = exec->recorded] {
        for (const auto& operation : recorded->operations) operation();
    });
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    delete exec;
    return cudaSuccess;
}
