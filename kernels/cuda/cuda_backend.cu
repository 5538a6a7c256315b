// The list of CUDA's kernel families, and what kernels/cuda.h declares. Linked instead of
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
    fill_mask(b);
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
    fill_collective(b);
    return b;
}

namespace {

struct Devices {
    int count = 0;
    cudaError_t status = cudaErrorNoDevice;
};

// What cudaGetDeviceCount says is asked once; without a driver it fails and leaves the count.
const Devices& devices() {
    static const Devices found = [] {
        Devices d;
        d.status = cudaGetDeviceCount(&d.count);
        if (d.status != cudaSuccess) {
            (void)cudaGetLastError();
            d.count = 0;
        } else if (d.count == 0) {
            d.status = cudaErrorNoDevice;
        }
        return d;
    }();
    return found;
}

cudaError_t device_status() {
    return devices().status;
}

int chosen_device = 0;  // by cuda_use_device, before any thread has a context
bool device_in_use = false;

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
    thread_local Context context = [] {
        // Each thread begins on the first device.
        if (cuda::chosen_device != 0)
            MC_CUDA("default_context", cudaSetDevice(cuda::chosen_device));
        static const bool once = [] {
            cuda::device_in_use = true;
            cuda::keep_pool_memory();
            return true;
        }();
        (void)once;
        return Context{nullptr, &thread_workspace(), nullptr};
    }();
    return context;
}

void cuda_use_device(int index) {
    const int count = cuda::devices().count;
    if (index < 0 || index >= count)
        throw Error("[cuda] GPU " + std::to_string(index) + " is wanted, this machine has " +
                    std::to_string(count) + "; start at most as many processes on it");
    if (cuda::device_in_use && index != cuda::chosen_device)
        throw Error("[cuda] GPU " + std::to_string(cuda::chosen_device) +
                    " is in use already; choose before the first tensor on it");
    cuda::chosen_device = index;
}

std::string cuda_description() {
    if (!cuda_available())
        return std::string("no CUDA device can be used here (") +
               cudaGetErrorString(cuda::device_status()) +
               "; a GPU needs a driver no older than this build's CUDA)";
    (void)cuda_default_context();  // libraries make their handles on the chosen device
    cudaDeviceProp device;
    MC_CUDA("cuda", cudaGetDeviceProperties(&device, cuda::chosen_device));
    return std::string(device.name) + ", compute capability " + std::to_string(device.major) + "." +
           std::to_string(device.minor) + "; " + cuda::blaslt_report() + "; " + cuda::dnn_report();
}

}  // namespace mc
