// The list of CUDA's kernel families, and the answers of kernels/cuda.h. Linked instead of
// kernels/cuda_stub.cpp. Where the process finds no device, the table is as empty as the stub's.
#include "kernels/cuda.h"

#include "kernels/bind.h"
#include "kernels/cpu/workspace.h"
#include "kernels/cuda/blaslt.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/dnn.h"
#include "kernels/cuda/fill.h"

namespace mc {

namespace cuda {

void throw_cuda_error(const char* op, const char* statement, cudaError_t status) {
    (void)cudaGetLastError();  // or the next call gets the blame
    throw Error(std::string("[") + op + "] " + statement + ": " + cudaGetErrorName(status) + ", " +
                cudaGetErrorString(status));
}

unsigned grid_size(const char* op, int64_t blocks) {
    constexpr int64_t kMost = (int64_t{1} << 31) - 1;
    if (blocks > kMost)
        throw Error(std::string("[") + op + "] size: needs " + std::to_string(blocks) +
                    " blocks, a CUDA grid has at most " + std::to_string(kMost) +
                    "; cut the problem into smaller ones");
    return static_cast<unsigned>(blocks);
}

Backend make_backend() {
    Backend b;
    bind_backend(b, DeviceType::cuda);
    fill_elementwise(b);
    fill_reduce(b);
    fill_matmul(b);
    fill_norm(b);
    fill_softmax(b);
    fill_attention(b);
    fill_conv(b);
    fill_embedding(b);
    fill_optim(b);
    fill_random(b);
    fill_sampling(b);
    fill_sort(b);
    fill_gru(b);
    fill_copy(b);
    fill_memory(b);
    fill_graph(b);
    return b;
}

namespace {

// What cudaGetDeviceCount says is asked once; without a driver it fails and leaves the count.
cudaError_t device_status() {
    static const cudaError_t status = [] {
        int count = 0;
        const cudaError_t asked = cudaGetDeviceCount(&count);
        if (asked != cudaSuccess) {
            (void)cudaGetLastError();
            return asked;
        }
        return count > 0 ? cudaSuccess : cudaErrorNoDevice;
    }();
    return status;
}

// The pool that scratch memory comes from keeps all that is given back to it.
void keep_pool_memory() {
    int device = 0;
    cudaMemPool_t pool{};
    uint64_t all = ~uint64_t{0};
    MC_CUDA("cuda", cudaGetDevice(&device));
    MC_CUDA("cuda", cudaDeviceGetDefaultMemPool(&pool, device));
    MC_CUDA("cuda", cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &all));
}

}  // namespace

}  // namespace cuda

bool cuda_available() {
    return cuda::device_status() == cudaSuccess;
}

Backend& cuda_backend() {
    static Backend table = [] {
        if (cuda_available()) return cuda::make_backend();
        Backend none;
        bind_backend(none, DeviceType::cuda);
        return none;
    }();
    return table;
}

// The default stream, which waits for and is waited for by all others: one thread's work is in
// order with another's.
Context& cuda_default_context() {
    if (!cuda_available())
        throw Error(std::string("[default_context] no CUDA device can be used here (") +
                    cudaGetErrorString(cuda::device_status()) + "); use the device cpu");
    static const bool once = [] {
        cuda::keep_pool_memory();
        return true;
    }();
    (void)once;
    thread_local Context context{nullptr, &thread_workspace(), nullptr};
    return context;
}

std::string cuda_description() {
    if (!cuda_available())
        return std::string("no device: ") + cudaGetErrorString(cuda::device_status());
    cudaDeviceProp device;
    MC_CUDA("cuda", cudaGetDeviceProperties(&device, 0));
    return std::string(device.name) + ", compute capability " + std::to_string(device.major) + "." +
           std::to_string(device.minor) + "; " + cuda::blaslt_report() + "; " + cuda::dnn_report();
}

}  // namespace mc
