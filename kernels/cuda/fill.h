// What makes up CUDA's table: one function a family, each in the file of its family, all called
// once by cuda_backend.cu. All pointers that their kernels are handed are device memory; the work
// is put on the context's stream and nobody waits for it.
#pragma once

#include "kernels/backend.h"

namespace mc::cuda {

void fill_elementwise(Backend& backend);
void fill_reduce(Backend& backend);
void fill_matmul(Backend& backend);
void fill_norm(Backend& backend);
void fill_softmax(Backend& backend);
void fill_attention(Backend& backend);
void fill_mask(Backend& backend);
void fill_conv(Backend& backend);
void fill_embedding(Backend& backend);
void fill_optim(Backend& backend);
void fill_random(Backend& backend);
void fill_sampling(Backend& backend);
void fill_sort(Backend& backend);
void fill_gru(Backend& backend);
void fill_copy(Backend& backend);
void fill_memory(Backend& backend);
void fill_graph(Backend& backend);
void fill_collective(Backend& backend);

// The table with every family, whether there is a device or not.
Backend make_backend();

}  // namespace mc::cuda
