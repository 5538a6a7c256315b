// What every CUDA kernel file shares: checked calls, launches, shared and scratch memory.
//
// The files in kernels/cuda/ are compiled by nvcc for the GPU and by the host's compiler for
// tests/simt/, which has a <cuda_runtime.h> of its own. So kernels keep to the portable part of
// CUDA: no lockstep, explicit masks, no early return of a thread whose warp or block still meets.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels/backend.h"
#include "kernels/cuda/graph.h"

namespace mc::cuda {

// "[op] statement: status; place".
[[noreturn]] void throw_cuda_error(const char* op, const char* statement, cudaError_t status);

inline void check(const char* op, const char* statement, cudaError_t status) {
    if (status != cudaSuccess) throw_cuda_error(op, statement, status);
}
#define MC_CUDA(op, statement) ::mc::cuda::check((op), #statement, (statement))

inline cudaStream_t stream_of(const Context& context) {
    return static_cast<cudaStream_t>(context.stream);
}

constexpr int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

// Blocks of a grid whose threads walk their work in steps of the grid: enough for some 16 blocks on
// each of the largest card's multiprocessors. The result must not depend on it.
inline constexpr int64_t kMaxWalkingBlocks = 2112;
inline unsigned walking_blocks(int64_t work, int64_t per_block) {
    const int64_t blocks = ceil_div(work, per_block);
    return static_cast<unsigned>(blocks < kMaxWalkingBlocks ? blocks : kMaxWalkingBlocks);
}

// The number of blocks as a grid's x; the largest is 2^31 - 1.
unsigned grid_size(const char* op, int64_t blocks);

struct Launch {
    dim3 grid, block;
    size_t shared_bytes = 0;  // dynamic
};

// Puts kernel(args...) on the context's stream. Debug builds wait for it, so that an error is
// reported where it was made.
template <class... P, class... A>
void launch(const char* op, const Context& context, const Launch& shape, void (*kernel)(P...),
            A... args) {
    constexpr size_t kAlwaysAllowed = 48 * 1024;
    if (shape.shared_bytes > kAlwaysAllowed)
        MC_CUDA(op, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                         static_cast<int>(shape.shared_bytes)));
    cudaLaunchConfig_t config{};
    config.gridDim = shape.grid;
    config.blockDim = shape.block;
    config.dynamicSmemBytes = shape.shared_bytes;
    config.stream = stream_of(context);
    check(op, "launch", cudaLaunchKernelEx(&config, kernel, static_cast<P>(args)...));
#ifndef NDEBUG
    if (!recording_graph()) MC_CUDA(op, cudaStreamSynchronize(config.stream));
#endif
}
#if defined(__CUDACC__) || defined(MC_SIMT)  // kernels' side; host files do without
// The block's dynamic shared memory.
template <class T>
__device__ inline T* dynamic_shared() {
#ifdef MC_SIMT
    return static_cast<T*>(simt::dynamic_shared());
#else
    extern __shared__ __align__(16) unsigned char mc_dynamic_shared[];
    return reinterpret_cast<T*>(mc_dynamic_shared);
#endif
}
#endif
// CUDA's pool keeps what is given back to it (cuda_backend.cu sets that), and so does the cache of
// the tensors' memory; neither can take what the other has. take_scratch, memory in the order of
// the stream, where there is no more has both give back what nobody uses (on_cuda_memory_short),
// and tries once more; empty_pools is the pool's part.
void* take_scratch(const char* op, const Context& context, size_t bytes);
void empty_pools(cudaStream_t stream);
// Scratch memory, so that a steady-state step asks the driver for nothing.
template <class T>
class DeviceLoan {
  public:
    DeviceLoan(const char* op, const Context& context, int64_t count)
        : stream_(stream_of(context)) {
        if (count > 0) data_ = take_scratch(op, context, static_cast<size_t>(count) * sizeof(T));
    }
    ~DeviceLoan() {
        if (data_) (void)cudaFreeAsync(data_, stream_);  // a failure shows at the next call
    }
    DeviceLoan(const DeviceLoan&) = delete;
    DeviceLoan& operator=(const DeviceLoan&) = delete;
    T* data() const { return static_cast<T*>(data_); }

  private:
    cudaStream_t stream_;
    void* data_ = nullptr;
};
#if defined(__CUDACC__) || defined(MC_SIMT)
__device__ inline int64_t global_thread() {
    return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ inline int64_t all_threads() {
    return static_cast<int64_t>(gridDim.x) * blockDim.x;
}
#endif
}  // namespace mc::cuda
