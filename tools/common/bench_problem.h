// What `bench` times: a name, its work, and what to run.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/kernel.h"

namespace mc {

struct BenchProblem {
    std::string name;
    double flop = 0, bytes = 0;  // flop 0: the bytes are what counts
    std::function<void(Context&)> run;
};

using BenchBuffer = std::shared_ptr<std::vector<float>>;

// n values uniform in [-1, 1), always the same.
BenchBuffer random_bench_buffer(int64_t n);

// The kernels that memory bounds, on arrays of 48 MB, beyond any cache level.
void add_memory_problems(std::vector<BenchProblem>& list);

}  // namespace mc
