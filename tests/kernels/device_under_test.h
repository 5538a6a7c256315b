// The operator suite knows no device: it fills tables by these functions and hands kernels plain
// host memory. Which device answers is decided by what is linked:
//
//     test_kernels   device_cpu.cpp              the CPU's tables as they are
//     test_simt      tests/simt/device_cuda.cpp  CUDA's kernels, run by the emulation
//     test_gpu       tests/simt/device_cuda.cpp  CUDA's kernels, compiled by nvcc, on the GPU
#pragma once

#include <string>

#include "kernels/backend.h"

namespace mc::testing {

struct DeviceUnderTest {
    DeviceType type;
    std::string description;  // for the report
};
const DeviceUnderTest& device_under_test();

// Fills a table with the kernels of one family; they take host memory on every device.
void elementwise_kernels(Backend& backend);
void reduce_kernels(Backend& backend);
void matmul_kernels(Backend& backend);
void norm_kernels(Backend& backend);
void softmax_kernels(Backend& backend);
void attention_kernels(Backend& backend);
void mask_kernels(Backend& backend);
void conv_kernels(Backend& backend);
void embedding_kernels(Backend& backend);
void optim_kernels(Backend& backend);
void random_kernels(Backend& backend);
void sampling_kernels(Backend& backend);
void sort_kernels(Backend& backend);
void gru_kernels(Backend& backend);
void copy_kernels(Backend& backend);

}  // namespace mc::testing
