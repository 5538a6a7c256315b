// AdamW in one pass: 4 streams read, 3 written, so memory alone bounds it.
#include "kernels/optim.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/backend.h"
#include "kernels/cpu/chunking.h"
#include "kernels/cpu/fill.h"
#include "kernels/cpu/simd_targets.h"
#include "kernels/cpu/thread_pool.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/optim.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mc {
namespace HWY_NAMESPACE {
namespace {

template <class T>
using AdamWArgs = typename OptimKernels<T>::AdamWArgs;

template <class T>
using AdamWItem = typename OptimKernels<T>::AdamWItem;

template <class T>
void adamw_range(const AdamWArgs<T>& group, const AdamWItem<T>& a, int64_t begin, int64_t end) {
    const Tag<T> d;
    const auto set = [d](double value) HWY_ATTR { return hn::Set(d, static_cast<T>(value)); };
    const double correction1 = 1 - std::pow(group.beta1, static_cast<double>(a.step));
    const double correction2 = 1 - std::pow(group.beta2, static_cast<double>(a.step));
    const auto grad_scale = set(group.grad_scale), keep = set(1 - a.lr * a.weight_decay);
    const auto beta1 = set(group.beta1), rest1 = set(1 - group.beta1);
    const auto beta2 = set(group.beta2), rest2 = set(1 - group.beta2);
    const auto root = set(std::sqrt(correction2)), eps = set(group.eps);
    const auto step = set(a.lr / correction1);
    const auto update = [=](auto& p, auto& m, auto& v, auto g) HWY_ATTR {
        g = hn::Mul(g, grad_scale);
        m = hn::MulAdd(g, rest1, hn::Mul(m, beta1));
        v = hn::MulAdd(hn::Mul(g, g), rest2, hn::Mul(v, beta2));
        const auto divisor = hn::Add(hn::Div(hn::Sqrt(v), root), eps);
        p = hn::NegMulAdd(step, hn::Div(m, divisor), hn::Mul(p, keep));
    };
    constexpr int64_t N = lanes_of<T>();
    int64_t i = begin;
    for (; i + N <= end; i += N) {
        auto p = hn::LoadU(d, a.param + i), m = hn::LoadU(d, a.m + i), v = hn::LoadU(d, a.v + i);
        update(p, m, v, hn::LoadU(d, a.grad + i));
        hn::StoreU(m, d, a.m + i);
        hn::StoreU(v, d, a.v + i);
        hn::StoreU(p, d, a.param + i);
    }
    if (i < end) {
        const size_t n = static_cast<size_t>(end - i);
        auto p = load_n(d, a.param + i, n), m = load_n(d, a.m + i, n), v = load_n(d, a.v + i, n);
        update(p, m, v, load_n(d, a.grad + i, n));
        store_n(m, d, a.m + i, n);
        store_n(v, d, a.v + i, n);
        store_n(p, d, a.param + i, n);
    }
}

template <class T>
void adamw(Context& context, const AdamWArgs<T>& group) {
    for (int64_t i = 0; i < group.count; ++i) {
        const AdamWItem<T>& item = group.items[i];
        context.pool->for_ranges(item.n, kChunkElements, [&](int64_t begin, int64_t end) {
            adamw_range<T>(group, item, begin, end);
        });
    }
}

template <class T>
void fill_table(OptimKernels<T>& table) {
    table.adamw = adamw<T>;
}

void fill(Backend& b) {
    fill_table(b.f32);
    fill_table(b.f64);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace mc
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mc {
HWY_EXPORT(fill);
void fill_optim(Backend& b) {
    HWY_DYNAMIC_DISPATCH(fill)(b);
}
}  // namespace mc
#endif
