// dst[i] = f(src[i]...) over n elements: 16 bytes a thread and step where all pointers are aligned
// for it, so that loads and stores are as wide as the machine has them.
#pragma once

#include "kernels/cuda/device.h"

namespace mc::cuda {

template <class T, int n>
struct alignas(sizeof(T) * n) Pack {
    T value[n];
};

// Elements that make 16 bytes.
template <class T>
inline constexpr int kPack = static_cast<int>(16 / sizeof(T));

template <int n, class T>
__device__ inline Pack<T, n> load_pack(const T* src, int64_t pack) {
    return reinterpret_cast<const Pack<T, n>*>(src)[pack];
}

template <class T, int n, class F, class... S>
__device__ inline Pack<T, n> map_pack(const F& f, const Pack<S, n>&... in) {
    Pack<T, n> out;
#pragma unroll
    for (int i = 0; i < n; ++i) out.value[i] = f(in.value[i]...);
    return out;
}

template <int n, class F, class T, class... S>
__global__ void map_kernel(F f, int64_t count, T* dst, const S*... src) {
    const int64_t packs = count / n, step = all_threads();
    for (int64_t i = global_thread(); i < packs; i += step)
        reinterpret_cast<Pack<T, n>*>(dst)[i] = map_pack<T, n>(f, load_pack<n>(src, i)...);
    for (int64_t i = packs * n + global_thread(); i < count; i += step) dst[i] = f(src[i]...);
}

template <class T>
__host__ __device__ inline bool pack_aligned(const T* p, int n) {
    return reinterpret_cast<uintptr_t>(p) % (sizeof(T) * static_cast<size_t>(n)) == 0;
}

// f is a function object whose operator() is a __device__ function. dst may be one of the sources.
template <class F, class T, class... S>
void map(const char* op, Context& context, const F& f, int64_t count, T* dst, const S*... src) {
    constexpr int kThreads = 256;
    if (count <= 0) return;
    if (pack_aligned(dst, kPack<T>) && (pack_aligned(src, kPack<T>) && ...))
        launch(op, context, {walking_blocks(count, kThreads * kPack<T>), kThreads},
               map_kernel<kPack<T>, F, T, S...>, f, count, dst, src...);
    else
        launch(op, context, {walking_blocks(count, kThreads), kThreads}, map_kernel<1, F, T, S...>,
               f, count, dst, src...);
}

}  // namespace mc::cuda
