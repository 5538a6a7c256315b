// The list of problems that `bench` times, and whose results it and the tests compare: a name, its
// work, and how to make it ready.
//
// Each can be made in f32 on a device and in f64 on the CPU, with the same inputs: the second says
// what the first should leave. (tests/kernels/ compares the f64 kernels with plain loops.)
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace mc {

class OpenBlas;

struct BenchProblem {
    struct Ready {
        std::function<void(Context&)> run;
        std::vector<Tensor> outputs;      // what `run` leaves
        std::function<void()> peer = {};  // the same work by another library, if asked for
    };
    std::string name;
    double flop = 0, bytes = 0;            // flop 0: the bytes are what counts
    double terms = 1;                      // of the longest sum behind an output
    Precision precision = Precision::f32;  // whose products are the ceiling
    double rounding = 0;  // what rounded operands may leave, as a share of the largest output
    std::function<Ready(DeviceType)> in_f32;
    std::function<Ready()> in_f64;  // on the CPU
};

// make(T(), device) -> Ready, for T float and double.
template <class Make>
BenchProblem bench_problem(std::string name, double flop, double bytes, double terms, Make make) {
    return {std::move(name),
            flop,
            bytes,
            terms,
            Precision::f32,
            0,
            [make](DeviceType device) { return make(float{}, device); },
            [make] { return make(double{}, DeviceType::cpu); }};
}

// n values uniform in [-1, 1), exact in f32: for a seed always the same.
Tensor bench_values(DeviceType device, DType dtype, int64_t n, uint64_t seed);
template <class T>
Tensor bench_values(DeviceType device, int64_t n, uint64_t seed) {
    return bench_values(device, DTypeOf<T>::value, n, seed);
}

// Products (those of `peer` beside them, if given), convolutions, attention, nearest codes on the
// project's shapes.
void add_product_problems(std::vector<BenchProblem>& list, DeviceType device,
                          const OpenBlas* peer = nullptr);
// One: a product with a weight (N, K) of many rows, f32 or packed.
BenchProblem large_product(std::optional<Precision> packed = {});

// The kernels that memory bounds, on arrays of (rows, 384). bench_memory_rows: beyond any cache
// level, 48 MB an array on the CPU, 400 MB on a GPU.
void add_memory_problems(std::vector<BenchProblem>& list, int64_t rows);
int64_t bench_memory_rows(DeviceType device);

// The worst output of one run in f32 on the device: |got - f64's| over the largest |f64's|, as a
// share of what rounding may do: the operands', and 16 + 4 sqrt(terms) half units in the last place
// (errors of a sum grow as the square root; a wrong element is off by thousands). 1 or less is
// right. Infinite if anything is not finite.
double bench_error(const BenchProblem& problem, DeviceType device);

}  // namespace mc
