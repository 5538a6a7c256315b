// AdamW in one pass: 4 streams read, 3 written, so memory alone bounds it.
#include "kernels/optim.h"

#include <cmath>

#include "kernels/cuda/fill.h"
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

template <int n, class T>
__global__ void adamw_kernel(Step<T> step, T* param, T* m, T* v, const T* grad, int64_t count) {
    using P = Pack<T, n>;
    const int64_t packs = count / n;
    for (int64_t i = global_thread(); i < packs; i += all_threads()) {
        P p = load_pack<n>(static_cast<const T*>(param), i);
        P pm = load_pack<n>(static_cast<const T*>(m), i);
        P pv = load_pack<n>(static_cast<const T*>(v), i);
        const P g = load_pack<n>(grad, i);
#pragma unroll
        for (int j = 0; j < n; ++j) step(p.value[j], pm.value[j], pv.value[j], g.value[j]);
        reinterpret_cast<P*>(param)[i] = p;
        reinterpret_cast<P*>(m)[i] = pm;
        reinterpret_cast<P*>(v)[i] = pv;
    }
    for (int64_t i = packs * n + global_thread(); i < count; i += all_threads())
        step(param[i], m[i], v[i], grad[i]);
}

template <class T>
void adamw(Context& context, const typename OptimKernels<T>::AdamWArgs& a) {
    if (a.n <= 0) return;
    const double correction1 = 1 - std::pow(a.beta1, static_cast<double>(a.step));
    const double correction2 = 1 - std::pow(a.beta2, static_cast<double>(a.step));
    const Step<T> step{static_cast<T>(a.grad_scale),
                       static_cast<T>(1 - a.lr * a.weight_decay),
                       static_cast<T>(a.beta1),
                       static_cast<T>(1 - a.beta1),
                       static_cast<T>(a.beta2),
                       static_cast<T>(1 - a.beta2),
                       static_cast<T>(std::sqrt(correction2)),
                       static_cast<T>(a.eps),
                       static_cast<T>(a.lr / correction1)};
    constexpr int n = kPack<T>;
    const bool aligned = pack_aligned(a.param, n) && pack_aligned(a.m, n) && pack_aligned(a.v, n) &&
                         pack_aligned(a.grad, n);
    if (aligned)
        launch("adamw", context, {walking_blocks(a.n, n * kThreads), kThreads}, adamw_kernel<n, T>,
               step, a.param, a.m, a.v, a.grad, a.n);
    else
        launch("adamw", context, {walking_blocks(a.n, kThreads), kThreads}, adamw_kernel<1, T>,
               step, a.param, a.m, a.v, a.grad, a.n);
}

}  // namespace

void fill_optim(Backend& backend) {
    backend.f32.adamw = adamw<float>;
    backend.f64.adamw = adamw<double>;
}

}  // namespace mc::cuda
