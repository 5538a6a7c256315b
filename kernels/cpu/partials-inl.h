// Sums over rows that are made in parts, a part a chunk, and put together in order.

#if defined(MOCLIP_KERNELS_CPU_PARTIALS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MOCLIP_KERNELS_CPU_PARTIALS_INL_H_
#undef MOCLIP_KERNELS_CPU_PARTIALS_INL_H_
#else
#define MOCLIP_KERNELS_CPU_PARTIALS_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mc {
namespace HWY_NAMESPACE {

// dst[c] += the sum over p of partial[p * stride + c], in the order of p, c in [begin, end).
template <class T>
void add_partials(T* dst, const T* partial, int64_t partials, int64_t stride, int64_t begin,
                  int64_t end) {
    constexpr int64_t kBlock = 256;
    double sum[kBlock];
    for (int64_t c = begin; c < end; c += kBlock) {
        const int64_t n = std::min(end - c, kBlock);
        std::fill_n(sum, n, 0.0);
        for (int64_t p = 0; p < partials; ++p)
            for (int64_t i = 0; i < n; ++i)
                sum[i] += static_cast<double>(partial[p * stride + c + i]);
        for (int64_t i = 0; i < n; ++i) dst[c + i] += static_cast<T>(sum[i]);
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace mc
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
