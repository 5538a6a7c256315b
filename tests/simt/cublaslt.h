// A cuBLASLt for the emulation: the few calls of include/cublasLt.h, with plain loops, and as
// strict as the library may be about what a caller promises. Linked into a program whose symbols
// are exported, it is what kernels/cuda/blaslt.cu finds.
#pragma once

#include <cstddef>

namespace simt {

// Products that were put on a stream since the process began.
size_t library_products();

}  // namespace simt
