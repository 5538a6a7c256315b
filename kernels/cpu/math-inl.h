// Vector functions for the kernels: partial loads, and every UnaryOp with its derivative.
//
// Included by sources that go through hwy/foreach_target.h; lives in mc::HWY_NAMESPACE. d is a
// ScalableTag<T> (or a capped one), T float or double.
//
// f32: polynomials, errors measured in tests/kernels/math_test.cpp: exp, log, tanh, sigmoid within
// 4 ulp, GELU and its derivative as said there. f64 serves gradient checks: std:: lane by lane, so
// as exact as the C library. NaN gives NaN, infinities give limits, in both.
//
// The polynomials are minimax fits of our own (Lawson's iteration on Chebyshev nodes).

#if defined(MC_KERNELS_CPU_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MC_KERNELS_CPU_MATH_INL_H_
#undef MC_KERNELS_CPU_MATH_INL_H_
#else
#define MC_KERNELS_CPU_MATH_INL_H_
#endif

#include <hwy/highway.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/elementwise.h"

HWY_BEFORE_NAMESPACE();
namespace mc {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// ---- Partial vectors: n < Lanes(d) elements, the others 0 / left alone -------------------------

template <class D, class T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> load_n(D d, const T* p, size_t n) {
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
    return hn::MaskedLoad(hn::FirstN(d, n), d, p);  // touches nothing beyond n here
#else
    HWY_ALIGN T lanes[hn::MaxLanes(D())] = {};
    std::memcpy(lanes, p, n * sizeof(T));
    return hn::Load(d, lanes);
#endif
}

template <class D, class V, class T = hn::TFromD<D>>
HWY_INLINE void store_n(V v, D d, T* p, size_t n) {
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
    hn::BlendedStore(v, hn::FirstN(d, n), d, p);
#else
    HWY_ALIGN T lanes[hn::MaxLanes(D())];
    hn::Store(v, d, lanes);
    std::memcpy(p, lanes, n * sizeof(T));
#endif
}

// f lane by lane.
template <class D, class V, class F>
HWY_NOINLINE V map_lanes(D d, V x, F f) {
    using T = hn::TFromD<D>;
    HWY_ALIGN T lanes[hn::MaxLanes(D())];
    hn::Store(x, d, lanes);
    for (size_t i = 0; i < hn::Lanes(d); ++i) lanes[i] = f(lanes[i]);
    return hn::Load(d, lanes);
}

template <class D>
inline constexpr bool kIsF32 = sizeof(hn::TFromD<D>) == 4;

// c[0] + c[1] x + c[2] x^2 + ... by Estrin's scheme: neighbours are joined, then the pairs with
// x^2, and so on. The chain of dependent operations is short, which is what bounds these functions.
template <class V, size_t kCount>
HWY_INLINE V polynomial_of(V x, const V (&c)[kCount]) {
    if constexpr (kCount == 1) {
        return c[0];
    } else {
        V joined[(kCount + 1) / 2];
        for (size_t i = 0; i < kCount / 2; ++i) joined[i] = hn::MulAdd(c[2 * i + 1], x, c[2 * i]);
        if constexpr (kCount % 2 == 1) joined[kCount / 2] = c[kCount - 1];
        return polynomial_of(hn::Mul(x, x), joined);
    }
}
template <class D, class V, class... Rest>
HWY_INLINE V polynomial(D, V x, V first, Rest... rest) {
    const V c[] = {first, rest...};
    return polynomial_of(x, c);
}
// Vectors side by side: what is done with one is done with each before the next operation, so that
// a chain of dependent ones has others between its links. One after another the processor's
// scheduler is full of the first vectors' before it sees that others could go on: 12 % of GELU.
template <class V, int kCount>
struct Group {
    V v[kCount];
};
template <class V, int kCount, class F>
HWY_INLINE Group<V, kCount> map_group(const Group<V, kCount>& x, const F& f) {
    Group<V, kCount> y;
#pragma GCC unroll 8
    for (int i = 0; i < kCount; ++i) y.v[i] = f(x.v[i]);
    return y;
}

// The same by Horner's scheme: no powers of x to multiply and less rounding, where other vectors
// fill the time of its long chain.
template <class D, class V, int kCount>
HWY_INLINE Group<V, kCount> horner(D d, const Group<V, kCount>& x, float last) {
    return map_group(x, [d, last](V) HWY_ATTR { return hn::Set(d, last); });
}
template <class D, class V, int kCount, class... Rest>
HWY_INLINE Group<V, kCount> horner(D d, const Group<V, kCount>& x, float first, Rest... rest) {
    Group<V, kCount> p = horner(d, x, rest...);
    const V c = hn::Set(d, first);
#pragma GCC unroll 8
    for (int i = 0; i < kCount; ++i) p.v[i] = hn::MulAdd(p.v[i], x.v[i], c);
    return p;
}
template <class D, class V, class... Rest>
HWY_INLINE V horner(D d, V x, float first, Rest... rest) {
    return horner(d, Group<V, 1>{{x}}, first, rest...).v[0];
}

// ---- Functions --------------------------------------------------------------------------------

// 1.5 2^23: a float near it has no bits for a fraction, and its lowest bits are an integer's.
inline constexpr float kNoFraction = 12582912.0f;

// e 2^q, rounded once, for e near 1 and a whole q from -150 to 129. AVX-512 has an instruction for
// it, with the same bits.
template <class D, class V>
HWY_INLINE V times_power_of_two(D d, V e, V q) {
#if HWY_TARGET == HWY_AVX3
    if constexpr (hn::MaxLanes(D()) == 16) return V{_mm512_scalef_ps(e.raw, q.raw)};
#endif
    // In two factors: denormals and the last octave need it.
    const hn::Rebind<int32_t, D> di;
    const V whole = hn::Set(d, kNoFraction);
    const auto n = hn::Sub(hn::BitCast(di, hn::Add(q, whole)), hn::BitCast(di, whole));
    const auto bias = hn::Set(di, 127);
    const auto half = hn::ShiftRight<1>(n);
    const V s0 = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(half, bias)));
    const V s1 = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(hn::Sub(n, half), bias)));
    return hn::Mul(hn::Mul(e, s0), s1);
}

// exp(x) = e 2^q in f32, e near 1 and q whole, for x from -104 to 89; of a NaN both are.
template <class V>
struct ExpParts {
    V e, q;
};
template <class D, class V>
HWY_INLINE ExpParts<V> exp_parts(D d, V x) {
    const V whole = hn::Set(d, kNoFraction);  // added, it rounds to the nearest integer
    const V q = hn::Sub(hn::Add(hn::Mul(x, hn::Set(d, 1.44269504f)), whole), whole);
    // r = x - q ln 2 in two parts; the first has trailing zeros, so that the product is exact.
    V r = hn::NegMulAdd(q, hn::Set(d, 0.693145752f), x);
    r = hn::NegMulAdd(q, hn::Set(d, 1.42860677e-6f), r);
    const V p =
        polynomial(d, r, hn::Set(d, 0.5f), hn::Set(d, 0.16666666f), hn::Set(d, 0.04166629f),
                   hn::Set(d, 0.008333498f), hn::Set(d, 0.0013944784f), hn::Set(d, 0.00019790219f));
    return {hn::Add(hn::MulAdd(p, hn::Mul(r, r), r), hn::Set(d, 1.0f)), q};
}

template <class D, class V>
HWY_INLINE V vexp(D d, V x) {
    if constexpr (kIsF32<D>) {
        // 0 below half the smallest denormal number, and not computed: on Intel's processors a
        // result in that range costs over a hundred cycles. Above 89 it is inf all the same.
        const auto none = hn::Lt(x, hn::Set(d, -104.0f));
#if HWY_TARGET == HWY_AVX3
        // The same bits with less: vminps gives its second operand where that is a NaN.
        if constexpr (hn::MaxLanes(D()) == 16) {
            const auto [e, q] = exp_parts(d, V{_mm512_min_ps(hn::Set(d, 89.0f).raw, x.raw)});
            return V{_mm512_maskz_scalef_ps(hn::Not(none).raw, e.raw, q.raw)};
        }
#endif
        const V bounded = hn::IfThenZeroElse(none, hn::Min(x, hn::Set(d, 89.0f)));
        const auto [e, q] = exp_parts(d, bounded);
        return hn::IfThenElse(hn::IsNaN(x), x,
                              hn::IfThenZeroElse(none, times_power_of_two(d, e, q)));
    } else {
        return map_lanes(d, x, [](double v) { return std::exp(v); });
    }
}

template <class D, class V>
HWY_INLINE V vlog(D d, V x) {
    if constexpr (kIsF32<D>) {
        const hn::Rebind<int32_t, D> di;
        // Denormals are scaled into the normal range.
        const auto small = hn::Lt(x, hn::Set(d, std::numeric_limits<float>::min()));
        const V y = hn::IfThenElse(small, hn::Mul(x, hn::Set(d, 33554432.0f)), x);
        // y = 2^e m with m in [sqrt(1/2), sqrt 2): shift the bits so that the exponent's border is
        // sqrt(1/2).
        const auto shifted = hn::Sub(hn::BitCast(di, y), hn::Set(di, 0x3f3504f3));
        const auto e = hn::ShiftRight<23>(shifted);
        const V m = hn::BitCast(d, hn::Sub(hn::BitCast(di, y), hn::ShiftLeft<23>(e)));
        const V ef = hn::Sub(hn::ConvertTo(d, e), hn::IfThenElseZero(small, hn::Set(d, 25.0f)));
        // log m = 2 atanh(s), s = f / (2 + f), f = m - 1, as f - s (f - 2 s^2 P(s^2)): exact
        // near 1.
        const V f = hn::Sub(m, hn::Set(d, 1.0f));
        const V s = hn::Div(f, hn::Add(f, hn::Set(d, 2.0f)));
        const V s2 = hn::Mul(s, s);
        const V r = hn::Mul(s2, polynomial(d, s2, hn::Set(d, 0.6666666f), hn::Set(d, 0.40000334f),
                                           hn::Set(d, 0.28537285f), hn::Set(d, 0.235826f)));
        const V half_f2 = hn::Mul(hn::Mul(hn::Set(d, 0.5f), f), f);
        const V ln2_hi = hn::Set(d, 0.693138123f), ln2_lo = hn::Set(d, 9.05800061e-6f);
        V result = hn::MulAdd(s, hn::Add(half_f2, r), hn::Mul(ef, ln2_lo));
        result = hn::MulAdd(ef, ln2_hi, hn::Add(hn::Sub(result, half_f2), f));
        const V inf = hn::Set(d, std::numeric_limits<float>::infinity());
        result = hn::IfThenElse(hn::Eq(x, inf), inf, result);
        result = hn::IfThenElse(hn::Eq(x, hn::Zero(d)), hn::Neg(inf), result);
        const V nan = hn::Set(d, std::numeric_limits<float>::quiet_NaN());
        result = hn::IfThenElse(hn::Lt(x, hn::Zero(d)), nan, result);
        return hn::IfThenElse(hn::IsNaN(x), x, result);
    } else {
        return map_lanes(d, x, [](double v) { return std::log(v); });
    }
}

template <class D, class V>
HWY_INLINE V vtanh(D d, V x) {
    if constexpr (kIsF32<D>) {
        const V one = hn::Set(d, 1.0f);
        const V a = hn::Abs(x);
        const V x2 = hn::Mul(x, x);
        const V p = polynomial(d, x2, hn::Set(d, -0.3333328f), hn::Set(d, 0.13331442f),
                               hn::Set(d, -0.053739715f), hn::Set(d, 0.020639086f),
                               hn::Set(d, -0.005704987f));
        const V near = hn::MulAdd(hn::Mul(x, x2), p, x);
        const V e = vexp(d, hn::Add(a, a));
        const V far = hn::Sub(one, hn::Div(hn::Set(d, 2.0f), hn::Add(e, one)));
        return hn::IfThenElse(hn::Lt(a, hn::Set(d, 0.625f)), near, hn::CopySign(far, x));
    } else {
        return map_lanes(d, x, [](double v) { return std::tanh(v); });
    }
}

template <class D, class V>
HWY_INLINE V vsigmoid(D d, V x) {
    const V one = hn::Set(d, hn::TFromD<D>{1});
    return hn::Div(one, hn::Add(one, vexp(d, hn::Neg(x))));
}

// GELU is x Phi(x), Phi the normal distribution (1 + erf(x / sqrt 2)) / 2. In f32 Phi - 1/2 and
// GELU' - 1/2 are x P(x^2 - centre): about the middle of the range of x^2 a plain polynomial is
// well conditioned, and it needs neither a division nor an exponential. The largest absolute
// errors, over every float up to 16 and samples beyond: of Phi 1.1e-7 (1.6e-7 without FMA), of
// GELU' 2.7e-7 (3.2e-7); a relative bound on the left tail would take more than twice the time.

// Phi; of a NaN anything, which the product with x mends.
template <class D, class V, int kCount>
HWY_INLINE Group<V, kCount> vnormal_cdf(D d, const Group<V, kCount>& x) {
    if constexpr (kIsF32<D>) {
        const auto t =
            map_group(x, [d](V v) HWY_ATTR { return hn::MulSub(v, v, hn::Set(d, 13.5f)); });
        auto p = horner(d, t, 0.136050299f, -0.00502160331f, 0.000274651014f, -1.62322049e-05f,
                        9.62179115e-07f, -5.51757822e-08f, 2.9874323e-09f, -1.50770341e-10f,
                        7.28182705e-12f, -3.38187188e-13f, 1.27298244e-14f, -3.59540763e-16f,
                        1.80694081e-17f, -1.12116753e-18f, 2.69203313e-20f);
        // Beyond |x| = 5.25 it grows past 0 and 1: Horner's chain of one sign, infinities and all.
#pragma GCC unroll 8
        for (int i = 0; i < kCount; ++i) {
            const V value = hn::MulAdd(x.v[i], p.v[i], hn::Set(d, 0.5f));
            p.v[i] = hn::Min(hn::Max(value, hn::Zero(d)), hn::Set(d, 1.0f));
        }
        return p;
    } else {
        return map_group(x, [d](V v) HWY_ATTR {
            const V half = hn::Set(d, 0.5), root = hn::Set(d, 0.70710678118654752440);
            const V e = map_lanes(d, hn::Mul(v, root), [](double u) { return std::erf(u); });
            return hn::MulAdd(half, e, half);
        });
    }
}
template <class D, class V>
HWY_INLINE V vnormal_cdf(D d, V x) {
    return vnormal_cdf(d, Group<V, 1>{{x}}).v[0];
}

template <class D, class V, int kCount>
HWY_INLINE Group<V, kCount> vgelu(D d, const Group<V, kCount>& x) {
    auto y = vnormal_cdf(d, x);
#pragma GCC unroll 8
    for (int i = 0; i < kCount; ++i) y.v[i] = hn::Mul(x.v[i], y.v[i]);
    return y;
}
template <class D, class V>
HWY_INLINE V vgelu(D d, V x) {
    return vgelu(d, Group<V, 1>{{x}}).v[0];
}

// Phi(x) + x phi(x), phi the normal density.
template <class D, class V>
HWY_INLINE V vgelu_grad(D d, V x) {
    if constexpr (kIsF32<D>) {
        const V t = hn::MulSub(x, x, hn::Set(d, 16.0f));
        const V p = horner(d, t, 0.125125915f, -0.00396873243f, 0.000198578506f, -1.20859686e-05f,
                           8.35456603e-07f, -6.00136119e-08f, 4.15450208e-09f, -2.68538108e-10f,
                           1.59343337e-11f, -8.26540984e-13f, 3.77531597e-14f, -1.86166894e-15f,
                           9.36858674e-17f, -2.75552639e-18f, 2.59954481e-20f, -2.77234106e-21f,
                           2.45574848e-22f, -5.33230923e-24f);
        // From |x| = 5.7 on, where the polynomial is anything, 0 or 1.
        const V half = hn::Set(d, 0.5f);
        const auto far = hn::Ge(t, hn::Set(d, 16.49f));
        return hn::Add(half, hn::IfThenElse(far, hn::CopySign(half, x), hn::Mul(x, p)));
    } else {
        const V density = hn::Mul(hn::Set(d, 0.39894228040143267794),
                                  vexp(d, hn::Mul(hn::Mul(x, x), hn::Set(d, -0.5))));
        return hn::MulAdd(x, density, vnormal_cdf(d, x));
    }
}

template <class D, class V>
HWY_INLINE V vquick_gelu(D d, V x) {
    return hn::Mul(x, vsigmoid(d, hn::Mul(x, hn::Set(d, hn::TFromD<D>(1.702)))));
}

template <class D, class V>
HWY_INLINE V vquick_gelu_grad(D d, V x) {
    using T = hn::TFromD<D>;
    const V k = hn::Set(d, T(1.702));
    const V s = vsigmoid(d, hn::Mul(x, k));
    return hn::MulAdd(hn::Mul(hn::Mul(k, x), s), hn::Sub(hn::Set(d, T{1}), s), s);
}

// ---- UnaryOp as a template argument -----------------------------------------------------------

template <UnaryOp op, class D, class V>
HWY_INLINE V vunary(D d, V x, V param) {
    using T = hn::TFromD<D>;
    (void)param;
    if constexpr (op == UnaryOp::neg) return hn::Neg(x);
    if constexpr (op == UnaryOp::exp) return vexp(d, x);
    if constexpr (op == UnaryOp::log) return vlog(d, x);
    if constexpr (op == UnaryOp::sqrt) return hn::Sqrt(x);
    if constexpr (op == UnaryOp::square) return hn::Mul(x, x);
    if constexpr (op == UnaryOp::reciprocal) return hn::Div(hn::Set(d, T{1}), x);
    if constexpr (op == UnaryOp::tanh) return vtanh(d, x);
    if constexpr (op == UnaryOp::sigmoid) return vsigmoid(d, x);
    // Comparisons rather than Max: a NaN stays.
    if constexpr (op == UnaryOp::relu) return hn::IfThenZeroElse(hn::Lt(x, hn::Zero(d)), x);
    if constexpr (op == UnaryOp::leaky_relu)
        return hn::IfThenElse(hn::Lt(x, hn::Zero(d)), hn::Mul(x, param), x);
    if constexpr (op == UnaryOp::gelu) return vgelu(d, x);
    if constexpr (op == UnaryOp::quick_gelu) return vquick_gelu(d, x);
    if constexpr (op == UnaryOp::abs) return hn::Abs(x);
    if constexpr (op == UnaryOp::sin) return map_lanes(d, x, [](T v) { return std::sin(v); });
    if constexpr (op == UnaryOp::cos) return map_lanes(d, x, [](T v) { return std::cos(v); });
}

template <UnaryOp op, class D, class V, int kCount>
HWY_INLINE Group<V, kCount> vunary(D d, const Group<V, kCount>& x, V param) {
    if constexpr (op == UnaryOp::gelu)
        return vgelu(d, x);
    else
        return map_group(x, [d, param](V v) HWY_ATTR { return vunary<op>(d, v, param); });
}

// f'(x), x being the input of f.
template <UnaryOp op, class D, class V>
HWY_INLINE V vunary_grad(D d, V x, V param) {
    using T = hn::TFromD<D>;
    (void)param;
    const V one = hn::Set(d, T{1});
    if constexpr (op == UnaryOp::neg) return hn::Neg(one);
    if constexpr (op == UnaryOp::exp) return vexp(d, x);
    if constexpr (op == UnaryOp::log) return hn::Div(one, x);
    if constexpr (op == UnaryOp::sqrt) return hn::Div(hn::Set(d, T(0.5)), hn::Sqrt(x));
    if constexpr (op == UnaryOp::square) return hn::Add(x, x);
    if constexpr (op == UnaryOp::reciprocal) return hn::Div(hn::Neg(one), hn::Mul(x, x));
    if constexpr (op == UnaryOp::tanh) {
        const V t = vtanh(d, x);
        return hn::NegMulAdd(t, t, one);
    }
    if constexpr (op == UnaryOp::sigmoid) {
        const V s = vsigmoid(d, x);
        return hn::Mul(s, hn::Sub(one, s));
    }
    if constexpr (op == UnaryOp::relu) return hn::IfThenElseZero(hn::Gt(x, hn::Zero(d)), one);
    if constexpr (op == UnaryOp::leaky_relu)
        return hn::IfThenElse(hn::Gt(x, hn::Zero(d)), one, param);
    if constexpr (op == UnaryOp::gelu) return vgelu_grad(d, x);
    if constexpr (op == UnaryOp::quick_gelu) return vquick_gelu_grad(d, x);
    if constexpr (op == UnaryOp::abs)
        return hn::IfThenElseZero(hn::Ne(x, hn::Zero(d)), hn::CopySign(one, x));
    if constexpr (op == UnaryOp::sin) return map_lanes(d, x, [](T v) { return std::cos(v); });
    if constexpr (op == UnaryOp::cos) return map_lanes(d, x, [](T v) { return -std::sin(v); });
}

// Calls f with the op as a compile-time constant: f(std::integral_constant<UnaryOp, op>).
template <class F>
HWY_INLINE void with_unary_op(UnaryOp op, F&& f) {
#define MC_CASE(name)   \
    case UnaryOp::name: \
        return f(std::integral_constant<UnaryOp, UnaryOp::name>());
    switch (op) {
        MC_CASE(neg)
        MC_CASE(exp)
        MC_CASE(log)
        MC_CASE(sqrt)
        MC_CASE(square)
        MC_CASE(reciprocal)
        MC_CASE(tanh)
        MC_CASE(sigmoid)
        MC_CASE(relu)
        MC_CASE(leaky_relu)
        MC_CASE(gelu)
        MC_CASE(quick_gelu)
        MC_CASE(abs)
        MC_CASE(sin)
        MC_CASE(cos)
    }
#undef MC_CASE
}

}  // namespace HWY_NAMESPACE
}  // namespace mc
HWY_AFTER_NAMESPACE();

#endif  // MC_KERNELS_CPU_MATH_INL_H_
