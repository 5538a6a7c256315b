// The four questions that the CUDA library answers, or in a build without it
// kernels/cuda_stub.cpp.
#pragma once

#include <string>

#include "kernels/backend.h"

namespace mc {

Backend& cuda_backend();
bool cuda_available();
Context& cuda_default_context();  // throws Error where cuda_available() is false
// One line: the device, and what computes matrix products; or that there is none.
std::string cuda_description();

}  // namespace mc
