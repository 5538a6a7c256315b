// The GPU's memory. An upload goes through a ring of page-locked memory, so that nobody waits for
// it: the step's small inputs (ids, masks, scalars) would each drain the stream otherwise.
#include "kernels/memory.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>

#include "kernels/cuda.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/fill.h"
#include "kernels/cuda/graph.h"

namespace mc::cuda {

namespace {

// Two halves: one is written while what was put in the other is on its way.
class UploadRing {
  public:
    static constexpr size_t kHalf = size_t{8} << 20;

    void upload(const Context& context, void* dst, const void* src, size_t bytes) {
        const cudaStream_t stream = stream_of(context);
        if (bytes > kHalf) {  // large: what waiting costs is little beside it
            MC_CUDA("upload", cudaMemcpyAsync(dst, src, bytes, cudaMemcpyHostToDevice, stream));
            MC_CUDA("upload", cudaStreamSynchronize(stream));
            return;
        }
        const std::lock_guard lock(mutex_);
        if (!data_) begin();
        if (used_ + bytes > kHalf) {
            MC_CUDA("upload", cudaEventRecord(left_[half_], stream));
            half_ ^= 1;
            used_ = 0;
            MC_CUDA("upload", cudaEventSynchronize(left_[half_]));
        }
        unsigned char* place = data_ + static_cast<size_t>(half_) * kHalf + used_;
        std::memcpy(place, src, bytes);
        used_ = std::min(kHalf, (used_ + bytes + 63) / 64 * 64);
        MC_CUDA("upload", cudaMemcpyAsync(dst, place, bytes, cudaMemcpyHostToDevice, stream));
    }

  private:
    void begin() {
        void* data = nullptr;
        MC_CUDA("upload", cudaMallocHost(&data, 2 * kHalf));
        for (cudaEvent_t& event : left_)
            MC_CUDA("upload", cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
        data_ = static_cast<unsigned char*>(data);
    }

    std::mutex mutex_;
    unsigned char* data_ = nullptr;
    cudaEvent_t left_[2] = {};  // all copies out of a half are in the stream before it
    int half_ = 0;
    size_t used_ = 0;
};

UploadRing& upload_ring() {
    static auto* ring = new UploadRing;  // never given back: the driver may be gone before statics
    return *ring;
}

std::atomic<void (*)()> give_back_cache = nullptr;

void allocate(Context& context, void** data, size_t bytes) {
    require_no_graph("allocate");
    cudaError_t status = cudaMalloc(data, bytes);
    if (status == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError();
        empty_pools(stream_of(context));
        status = cudaMalloc(data, bytes);
    }
    if (status == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError();
        *data = nullptr;
        return;
    }
    check("allocate", "cudaMalloc(data, bytes)", status);
}

}  // namespace

void empty_pools(cudaStream_t stream) {
    int device = 0;
    cudaMemPool_t pool{};
    MC_CUDA("memory", cudaStreamSynchronize(stream));  // what was freed on it is free
    MC_CUDA("memory", cudaGetDevice(&device));
    MC_CUDA("memory", cudaDeviceGetDefaultMemPool(&pool, device));
    MC_CUDA("memory", cudaMemPoolTrimTo(pool, 0));
    MC_CUDA("memory", cudaDeviceGraphMemTrim(device));
}

void* take_scratch(const char* op, const Context& context, size_t bytes) {
    void* data = nullptr;
    const cudaStream_t stream = stream_of(context);
    cudaError_t status = cudaMallocAsync(&data, bytes, stream);
    if (status == cudaErrorMemoryAllocation && !recording_graph()) {
        (void)cudaGetLastError();
        if (const auto give_back = give_back_cache.load()) give_back();
        empty_pools(stream);
        status = cudaMallocAsync(&data, bytes, stream);
    }
    check(op, "cudaMallocAsync", status);
    return data;
}

void fill_memory(Backend& backend) {
    MemoryKernels& memory = backend.memory;
    memory.allocate = allocate;
    memory.release = [](Context&, void* data) {
        require_no_graph("release");
        (void)cudaFree(data);
    };
    memory.copy = [](Context& context, void* dst, const void* src, size_t bytes) {
        if (bytes > 0)
            MC_CUDA("copy",
                    cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, stream_of(context)));
    };
    memory.upload = [](Context& context, void* dst, const void* src, size_t bytes) {
        if (bytes == 0) return;
        require_no_graph("upload");
        upload_ring().upload(context, dst, src, bytes);
    };
    memory.download = [](Context& context, void* dst, const void* src, size_t bytes) {
        if (bytes == 0) return;
        require_no_graph("download");
        MC_CUDA("download",
                cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToHost, stream_of(context)));
        MC_CUDA("download", cudaStreamSynchronize(stream_of(context)));
    };
    memory.zero = [](Context& context, void* dst, size_t bytes) {
        if (bytes > 0) MC_CUDA("zero", cudaMemsetAsync(dst, 0, bytes, stream_of(context)));
    };
}

}  // namespace mc::cuda

void mc::on_cuda_memory_short(void (*give_back)()) {
    cuda::give_back_cache = give_back;
}
