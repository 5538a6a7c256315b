// The tensors' cache and CUDA's pool of scratch memory on a device that is full: each gets what the
// other has and nobody uses.
#include <doctest/doctest.h>

#include "kernels/cuda.h"
#include "tensor/allocator.h"
#include "tensor/tensor.h"
#include "tests/simt/runtime.h"

namespace mc::testing {
namespace {

constexpr int64_t kRows = 4096, kCols = 64;

// As long as one lives, the device has no more memory than is held now.
struct FullDevice {
    FullDevice() { simt::limit_memory(0); }
    ~FullDevice() { simt::limit_memory(SIZE_MAX); }
};

Tensor on_gpu(const Shape& shape) {
    return Tensor::zeros(shape, DType::f32, DeviceType::cuda);
}

// A kernel that takes scratch memory: the sums of columns, by parts.
void sum_columns(const Tensor& x, const Tensor& y) {
    backend(DeviceType::cuda)
        .f32.sum(default_context(DeviceType::cuda), y.ptr<float>(), x.ptr<float>(), 1, 1, kRows,
                 kCols);
}

TEST_CASE("memory: a kernel's scratch comes from the tensors' cache when the device is full") {
    const Tensor x = on_gpu({kRows, kCols}), y = on_gpu({kCols});
    on_gpu({1 << 20});  // freed: the cache has it
    y.cpu();
    CHECK(cudaMemPoolTrimTo(nullptr, 0) == cudaSuccess);  // and the pool nothing
    const FullDevice full;
    const uint64_t cached = allocator_stats(DeviceType::cuda).cached;
    CHECK(cached >= 4 << 20);
    sum_columns(x, y);
    CHECK(allocator_stats(DeviceType::cuda).cached < cached);
    CHECK(y.to_vector<float>() == std::vector<float>(kCols, 0));
}

TEST_CASE("memory: a tensor's comes from the pool of scratch memory when the device is full") {
    empty_cache(DeviceType::cuda);
    const Tensor x = on_gpu({kRows, kCols}), y = on_gpu({kCols});
    sum_columns(x, y);
    y.cpu();  // the scratch has been given back
    const FullDevice full;
    CHECK(on_gpu({kCols}).numel() == kCols);
}

TEST_CASE("memory: where neither has any, one line says what was asked for") {
    const Tensor x = on_gpu({kRows, kCols}), y = on_gpu({kCols});
    y.cpu();
    empty_cache(DeviceType::cuda);
    simt::limit_memory(0);
    std::string tensor, scratch;
    try {
        on_gpu({1 << 20});
    } catch (const Error& error) {
        tensor = error.what();
    }
    try {
        sum_columns(x, y);
    } catch (const Error& error) {
        scratch = error.what();
    }
    simt::limit_memory(SIZE_MAX);
    CHECK(tensor.starts_with("[allocator] out of memory on cuda: asked for 4194304 bytes with "));
    CHECK(scratch.starts_with("[sum] cudaMallocAsync: "));
    sum_columns(x, y);  // and that is all that has happened
    CHECK(y.to_vector<float>() == std::vector<float>(kCols, 0));
}

}  // namespace
}  // namespace mc::testing
