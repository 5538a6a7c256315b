#include "tools/common/bench_problem.h"

#include <cmath>
#include <limits>

#include "kernels/backend.h"

namespace mc {

Tensor bench_values(DeviceType device, DType dtype, int64_t n, uint64_t seed) {
    const Tensor values = Tensor::empty({n});
    uint64_t state = 0x9E3779B97F4A7C15u * (seed + 1);
    for (int64_t i = 0; i < n; ++i) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        values.data<float>()[i] =
            static_cast<float>(static_cast<int64_t>(state >> 40)) * 0x1p-23f - 1;
    }
    return values.to(dtype).to(device);
}

double bench_error(const BenchProblem& problem, DeviceType device) {
    const BenchProblem::Ready ready = problem.in_f32(device), exact = problem.in_f64();
    ready.run(default_context(device));
    exact.run(default_context(DeviceType::cpu));
    const double allowed = problem.rounding + 0x1p-24 * (16 + 4 * std::sqrt(problem.terms));
    double worst = 0;
    for (size_t i = 0; i < exact.outputs.size(); ++i) {
        const Tensor want = exact.outputs[i].to(DType::f64),
                     got = ready.outputs[i].cpu().to(DType::f64);
        double largest = 0, off = 0;
        for (int64_t e = 0; e < want.numel(); ++e) {
            const double w = want.data<double>()[e], d = got.data<double>()[e] - w;
            if (!std::isfinite(d)) return std::numeric_limits<double>::infinity();
            largest = std::max(largest, std::abs(w));
            off = std::max(off, std::abs(d));
        }
        if (off > 0) worst = std::max(worst, off / (allowed * largest));
    }
    return worst;
}

}  // namespace mc
