#include "tools/common/bench_flops.h"

#include <atomic>
#include <cstdint>

#include "kernels/backend.h"

namespace mc {
namespace {

std::atomic<int64_t> total{0};

int64_t flop_of(const MatmulArgs<float>& a) {
    return 2 * a.batch * a.m * a.n * a.k;
}
int64_t flop_of(float*, const float*, const float*, const void*, const float*, bool,
                const ConvShape& s) {
    return 2 * s.batch * s.t_out() * s.c_out * s.c_in * s.kernel;
}
int64_t flop_of(float* dx, float* dw, float*, const float*, const float*, const float*,
                const ConvShape& s) {
    const int64_t product = 2 * s.batch * s.t_out() * s.c_out * s.c_in * s.kernel;
    return (dx ? product : 0) + (dw ? product : 0);
}
int64_t flop_of(const AttentionArgs<float>& a) {
    return 4 * a.batch * a.heads * a.lq * a.lk * a.head_dim;
}
int64_t flop_of(const AttentionBackwardArgs<float>& a) {
    return flop_of(a.forward) / 2 * 5;
}
int64_t flop_of(int64_t*, float*, const float*, const float*, int64_t rows, int64_t codes,
                int64_t cols) {
    return 2 * rows * codes * cols;
}

// Puts a counting function in the entry's place, or the entry's own back. A kernel is a plain
// function, so what it stands before is static: one for each `which`.
template <int which, class... Args>
void exchange(Kernel<Args...>& kernel, bool count) {
    static typename Kernel<Args...>::Function own = nullptr;
    if (!kernel) return;
    if (!count) {
        kernel = own;
        return;
    }
    own = kernel.function();
    kernel = [](Context& context, Args... args) {
        total += flop_of(args...);
        own(context, args...);
    };
}

void exchange_all(DeviceType device, bool count) {
    KernelTable<float>& table = backend(device).f32;
    exchange<0>(table.matmul, count);
    exchange<1>(table.conv1d, count);
    exchange<2>(table.conv1d_backward, count);
    exchange<3>(table.attention, count);
    exchange<4>(table.attention_backward, count);
    exchange<5>(table.nearest_code, count);
}

}  // namespace

FlopCounter::FlopCounter(DeviceType device) : device_(device) {
    total = 0;
    exchange_all(device_, true);
}

FlopCounter::~FlopCounter() {
    exchange_all(device_, false);
}

double FlopCounter::flop() const {
    return static_cast<double>(total.load());
}

}  // namespace mc
