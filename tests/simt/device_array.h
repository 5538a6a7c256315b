// What the emulation's own tests share.
#pragma once

#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <vector>

namespace simt {

// A device array of a test, with a copy to and from the host that waits.
template <class T>
class DeviceArray {
  public:
    explicit DeviceArray(const std::vector<T>& values) : count_(values.size()) {
        void* p = nullptr;
        REQUIRE(cudaMalloc(&p, count_ * sizeof(T)) == cudaSuccess);
        data_ = static_cast<T*>(p);
        REQUIRE(cudaMemcpy(data_, values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice) ==
                cudaSuccess);
    }
    DeviceArray(const DeviceArray&) = delete;
    DeviceArray& operator=(const DeviceArray&) = delete;
    ~DeviceArray() { (void)cudaFree(data_); }
    T* data() { return data_; }
    std::vector<T> copy() const {
        std::vector<T> values(count_);
        REQUIRE(cudaMemcpy(values.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost) ==
                cudaSuccess);
        return values;
    }

  private:
    size_t count_;
    T* data_ = nullptr;
};

// The launch of a kernel on the default stream.
template <class... P, class... A>
cudaError_t start(dim3 grid, dim3 block, size_t shared, void (*kernel)(P...), A... args) {
    cudaLaunchConfig_t config;
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared;
    return cudaLaunchKernelEx(&config, kernel, args...);
}

}  // namespace simt
