// What the CUDA library answers, or in a build without it kernels/cuda_stub.cpp.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/backend.h"

namespace mc {

Backend& cuda_backend();
bool cuda_available();
Context& cuda_default_context();  // throws Error where cuda_available() is false
// The GPU that this process works on, by its number among those it sees; at first 0. Before the
// device is used. Error if there is none of that number.
void cuda_use_device(int index);
// What is to give back the GPU's memory that nobody uses when a kernel finds none for its scratch
// (never while work is recorded); from now on, in every thread.
void on_cuda_memory_short(void (*give_back)());
// One line: the device, and the libraries that were found; or that there is none.
std::string cuda_description();

// Who computes CUDA's convolutions. `chosen`: conv.cu's rule. `own`: our kernels (and matrix
// products). `cudnn`: cuDNN, and an error where it has nothing for a problem.
enum class Convolver : uint8_t { chosen, own, cudnn };
// From now on, in every thread; for tests and measurements. False if there is no such, and nothing
// changes.
bool set_cuda_convolver(Convolver convolver);

}  // namespace mc
