// What makes up the CPU's table: one function a family, each in the file of its family
// (fill_matmul in matmul.cpp, ...), all called once by cpu_backend.cpp. A function sets the entries
// of its family for every dtype it has and touches nothing else, so a test may fill a table of its
// own with one family alone.
#pragma once

namespace mc {

struct Backend;

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

}  // namespace mc
