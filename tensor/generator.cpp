#include "tensor/generator.h"

#include <cmath>
#include <numbers>
#include <numeric>

namespace mc {

double Generator::normal() {
    const PhiloxBlock block = philox(seed_, next_++, 0);
    const double u = 1.0 - uniform_from_bits(block.word[0]), v = uniform_from_bits(block.word[1]);
    return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
}

Tensor Generator::uniform(const Shape& shape, double low, double high, DType dtype,
                          DeviceType device) {
    Tensor out = Tensor::empty(shape, dtype, device);
    dispatch_float(dtype, "uniform", [&](auto zero) {
        using T = decltype(zero);
        backend(device).table<T>().uniform(default_context(device), out.ptr<T>(),
                                           static_cast<T>(low), static_cast<T>(high), stream(),
                                           out.numel());
    });
    return out;
}

Tensor Generator::normal(const Shape& shape, double mean, double std, DType dtype) {
    Tensor out = Tensor::empty(shape, dtype);
    dispatch_float(dtype, "normal", [&](auto zero) {
        using T = decltype(zero);
        backend(DeviceType::cpu)
            .table<T>()
            .normal(default_context(DeviceType::cpu), out.data<T>(), static_cast<T>(mean),
                    static_cast<T>(std), stream(), out.numel());
    });
    return out;
}

std::vector<int64_t> Generator::permutation(int64_t n) {
    std::vector<int64_t> order(static_cast<size_t>(n));
    std::iota(order.begin(), order.end(), 0);
    const RandomStream draws = stream();
    for (int64_t i = n - 1; i > 0; --i) {
        const uint32_t bits = philox(draws.seed, draws.stream, static_cast<uint64_t>(i)).word[0];
        std::swap(
            order[i],
            order[static_cast<int64_t>((uint64_t{bits} * static_cast<uint64_t>(i + 1)) >> 32)]);
    }
    return order;
}

}  // namespace mc
