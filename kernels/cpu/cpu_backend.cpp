// The list of the CPU's kernel families.
#include "kernels/bind.h"
#include "kernels/cpu/fill.h"
#include "kernels/cuda.h"

namespace mc {

namespace {

Backend make_cpu_backend() {
    Backend b;
    bind_backend(b, DeviceType::cpu);
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
    return b;
}

}  // namespace

Backend& backend(DeviceType device) {
    if (device == DeviceType::cuda) return cuda_backend();
    static Backend cpu = make_cpu_backend();
    return cpu;
}

}  // namespace mc
