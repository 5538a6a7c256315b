// What `bench` times: a name, its work, and what to run.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace mc {

struct BenchProblem {
    std::string name;
    double flop = 0, bytes = 0;  // flop 0: the bytes are what counts
    std::function<void(Context&)> run;
    bool bf16 = false;                // measured against the ceiling of bf16 products
    std::function<void()> peer = {};  // the same work by another library, if asked for
};

// n values uniform in [-1, 1), always the same.
Tensor random_bench_tensor(DeviceType device, int64_t n);

// The kernels that memory bounds, on arrays beyond any cache level: 48 MB on the CPU, 400 MB on a
// GPU.
void add_memory_problems(std::vector<BenchProblem>& list, DeviceType device);

}  // namespace mc
