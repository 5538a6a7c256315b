// What the CUDA library answers, or in a build without it kernels/cuda_stub.cpp.
#pragma once

#include <string>

#include "kernels/backend.h"

namespace mc {

Backend& cuda_backend();
bool cuda_available();
Context& cuda_default_context();  // throws Error where cuda_available() is false
// The GPU that this process works on, by its number among those it sees; at first 0. Before the
// device is used. Error if there is none of that number.
void cuda_use_device(int index);
// One line: the device, and what computes matrix products; or that there is none.
std::string cuda_description();

}  // namespace mc
