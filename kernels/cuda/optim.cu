// AdamW in one pass over a whole group: 4 streams read, 3 written, so memory alone bounds it.
#include "kernels/optim.h"

#include <cmath>

#include "kernels/cuda/fill.h"
#include "kernels/cuda/group.h"
#include "kernels/cuda/map.h"
#include "kernels/cuda/math.h"

namespace mc::cuda {

namespace {

constexpr int kThreads = 256;

template <class T>
struct Step {
    T grad_scale, keep, beta1, rest1, beta2, rest2, root, eps, size;

    __device__ void operator()(T& p, T& m, T& v, T g) const {
        g *= grad_scale;
        m = multiply_add(g, rest1, m * beta1);
        v = multiply_add(g * g, rest2, v * beta2);
        const T divisor = sqrt_of(v) / root + eps;
        p = multiply_add(-size, m / divisor, p * keep);
    }
};

template <class T>
struct Item {
    T *param, *m, *v;
    const T* grad;
    int64_t n;
    T keep, root, size;
};
constexpr int kItems = 56;
constexpr int64_t kChunk = 16 * kThreads;  // elements of a block

template <class T>
struct AdamWGroup {
    Group<Item<T>, kItems> items;
    T grad_scale, beta1, rest1, beta2, rest2, eps;
};

template <int n, class T>
__device__ inline void update(const Step<T>& step, const Item<T>& a, int64_t i) {
    using P = Pack<T, n>;
    P p = load_pack<n>(static_cast<const T*>(a.param), i);
    P m = load_pack<n>(static_cast<const T*>(a.m), i);
    P v = load_pack<n>(static_cast<const T*>(a.v), i);
    const P g = load_pack<n>(a.grad, i);
#pragma unroll
    for (int j = 0; j < n; ++j) step(p.value[j], m.value[j], v.value[j], g.value[j]);
    reinterpret_cast<P*>(a.param)[i] = p;
    reinterpret_cast<P*>(a.m)[i] = m;
    reinterpret_cast<P*>(a.v)[i] = v;
}

template <class T>
__global__ void __launch_bounds__(kThreads) adamw_kernel(AdamWGroup<T> group) {
    constexpr int n = kPack<T>;
    const int32_t chunk = static_cast<int32_t>(blockIdx.x);
    const int at = group.items.find(chunk);
    const Item<T> a = group.items.item[at];
    const Step<T> step{group.grad_scale, a.keep, group.beta1, group.rest1, group.beta2,
                       group.rest2,      a.root, group.eps,   a.size};
    const int64_t begin = (chunk - group.items.begin(at)) * kChunk;
    const int64_t end = begin + kChunk < a.n ? begin + kChunk : a.n;
    const int64_t rank = threadIdx.x;
    int64_t rest = begin;  // the first element that no pack has
    if (pack_aligned(a.param, n) && pack_aligned(a.m, n) && pack_aligned(a.v, n) &&
        pack_aligned(a.grad, n)) {
        rest = end / n * n;
        for (int64_t i = begin / n + rank; i < rest / n; i += kThreads) update<n>(step, a, i);
    }
    for (int64_t i = rest + rank; i < end; i += kThreads) update<1>(step, a, i);
}

template <class T>
void adamw(Context& context, const typename OptimKernels<T>::AdamWArgs& a) {
    for (int64_t next = 0; next < a.count;) {
        AdamWGroup<T> group{{},
                            static_cast<T>(a.grad_scale),
                            static_cast<T>(a.beta1),
                            static_cast<T>(1 - a.beta1),
                            static_cast<T>(a.beta2),
                            static_cast<T>(1 - a.beta2),
                            static_cast<T>(a.eps)};
        static_assert(sizeof group <= kMaxArgumentBytes);
        for (; next < a.count; ++next) {
            const auto& x = a.items[next];
            const double correction1 = 1 - std::pow(a.beta1, static_cast<double>(x.step));
            const double correction2 = 1 - std::pow(a.beta2, static_cast<double>(x.step));
            const Item<T> item{x.param,
                               x.m,
                               x.v,
                               x.grad,
                               x.n,
                               static_cast<T>(1 - x.lr * x.weight_decay),
                               static_cast<T>(std::sqrt(correction2)),
                               static_cast<T>(x.lr / correction1)};
            if (!group.items.add(item, x.n, kChunk)) break;
        }
        if (group.items.chunks() > 0)
            launch("adamw", context, {grid_size("adamw", group.items.chunks()), kThreads},
                   adamw_kernel<T>, group);
    }
}

}  // namespace

void fill_optim(Backend& backend) {
    backend.f32.adamw = adamw<float>;
    backend.f64.adamw = adamw<double>;
}

}  // namespace mc::cuda
