// Linked where there is no CUDA: an empty table, so that each use of it is a typed error.
#include "kernels/bind.h"
#include "kernels/cuda.h"

namespace mc {

Backend& cuda_backend() {
    static Backend table = [] {
        Backend b;
        bind_backend(b, DeviceType::cuda);
        return b;
    }();
    return table;
}

bool cuda_available() {
    return false;
}

Context& cuda_default_context() {
    throw Error("[default_context] this build has no CUDA; use the device cpu");
}

void cuda_use_device(int) {
    throw Error("[cuda] this build has no CUDA; use the device cpu");
}

void on_cuda_memory_short(void (*)()) {}

std::string cuda_description() {
    return "this build has no CUDA";
}

bool set_cuda_convolver(Convolver) {
    return false;
}

}  // namespace mc
