#include "kernels/cpu/fill.h"
#include "tests/kernels/device_under_test.h"

namespace mc::testing {

const DeviceUnderTest& device_under_test() {
    static const DeviceUnderTest device{DeviceType::cpu, "cpu"};
    return device;
}

void elementwise_kernels(Backend& backend) {
    fill_elementwise(backend);
}
void reduce_kernels(Backend& backend) {
    fill_reduce(backend);
}
void matmul_kernels(Backend& backend) {
    fill_matmul(backend);
}
void norm_kernels(Backend& backend) {
    fill_norm(backend);
}
void softmax_kernels(Backend& backend) {
    fill_softmax(backend);
}
void attention_kernels(Backend& backend) {
    fill_attention(backend);
}
void mask_kernels(Backend& backend) {
    fill_mask(backend);
}
void conv_kernels(Backend& backend) {
    fill_conv(backend);
}
void embedding_kernels(Backend& backend) {
    fill_embedding(backend);
}
void optim_kernels(Backend& backend) {
    fill_optim(backend);
}
void random_kernels(Backend& backend) {
    fill_random(backend);
}
void sampling_kernels(Backend& backend) {
    fill_sampling(backend);
}
void sort_kernels(Backend& backend) {
    fill_sort(backend);
}
void gru_kernels(Backend& backend) {
    fill_gru(backend);
}
void copy_kernels(Backend& backend) {
    fill_copy(backend);
}

}  // namespace mc::testing
