// Loops over Highway vectors, for kernel files that are compiled once per instruction set. Include
// it after hwy/foreach_target.h. Tails are handled with partial loads and stores that touch nothing
// beyond the last element.

#if defined(MOCLIP_KERNELS_CPU_VECTOR_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MOCLIP_KERNELS_CPU_VECTOR_INL_H_
#undef MOCLIP_KERNELS_CPU_VECTOR_INL_H_
#else
#define MOCLIP_KERNELS_CPU_VECTOR_INL_H_
#endif

#include <cstdint>

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "kernels/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mc {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class T>
using Tag = hn::ScalableTag<T>;
template <class T>
using VecOf = hn::Vec<Tag<T>>;

template <class T>
constexpr int64_t lanes_of() {
    return static_cast<int64_t>(hn::MaxLanes(Tag<T>()));
}

// So far ahead of what is read memory is fetched, where much is read in a row: the processor's own
// fetching ends with every page.
template <class T>
inline constexpr int64_t kFetchAhead = 4096 / sizeof(T);

// Fetches what is a page beyond a row of n: for loops over rows that are one piece of memory.
template <class T>
HWY_INLINE void fetch_beyond(const T* row, int64_t n) {
    for (int64_t i = 0; i < n; i += 64 / static_cast<int64_t>(sizeof(T)))
        hwy::Prefetch(row + i + kFetchAhead<T>);
}

// dst[i] = f(src[i]...) for i in [0, n); f takes and returns vectors. dst may equal any src.
template <class T, class F, class... Src>
HWY_INLINE void map_vectors(T* dst, int64_t n, F f, const Src*... src) {
    const Tag<T> d;
    constexpr int64_t N = lanes_of<T>();
    int64_t i = 0;
    if (n >= kFetchAhead<T>)
        for (; i + N <= n; i += N) {
            (hwy::Prefetch(src + i + kFetchAhead<T>), ...);
            hn::StoreU(f(hn::LoadU(d, src + i)...), d, dst + i);
        }
    for (; i + N <= n; i += N) hn::StoreU(f(hn::LoadU(d, src + i)...), d, dst + i);
    if (i < n) {
        const size_t rest = static_cast<size_t>(n - i);
        store_n(f(load_n(d, src + i, rest)...), d, dst + i, rest);
    }
}

// sum over i of f(src[i]...), in 4 vectors of partial sums: the error grows as for n / (4 lanes)
// summands.
template <class T, class F, class... Src>
HWY_INLINE T sum_vectors(int64_t n, F f, const Src*... src) {
    const Tag<T> d;
    constexpr int64_t N = lanes_of<T>();
    VecOf<T> s0 = hn::Zero(d), s1 = hn::Zero(d), s2 = hn::Zero(d), s3 = hn::Zero(d);
    int64_t i = 0;
    for (; i + 4 * N <= n; i += 4 * N) {
        s0 = hn::Add(s0, f(hn::LoadU(d, src + i)...));
        s1 = hn::Add(s1, f(hn::LoadU(d, src + i + N)...));
        s2 = hn::Add(s2, f(hn::LoadU(d, src + i + 2 * N)...));
        s3 = hn::Add(s3, f(hn::LoadU(d, src + i + 3 * N)...));
    }
    for (; i + N <= n; i += N) s0 = hn::Add(s0, f(hn::LoadU(d, src + i)...));
    if (i < n) {
        const auto used = hn::FirstN(d, static_cast<size_t>(n - i));
        s1 = hn::Add(
            s1, hn::IfThenElseZero(used, f(load_n(d, src + i, static_cast<size_t>(n - i))...)));
    }
    return hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))));
}

}  // namespace HWY_NAMESPACE
}  // namespace mc
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
