// Element by element: every entry here is bounded by memory, but for the transcendental ones.
#include "kernels/elementwise.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/backend.h"
#include "kernels/cpu/chunking.h"
#include "kernels/cpu/fill.h"
#include "kernels/cpu/simd_targets.h"
#include "kernels/cpu/strided.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/cpu/workspace.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/elementwise.cpp"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/partials-inl.h"
#include "kernels/cpu/philox-inl.h"
#include "kernels/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mc {
namespace HWY_NAMESPACE {
namespace {

// ---- Binary with broadcasting ------------------------------------------------------------------

template <BinaryOp op, class V>
HWY_INLINE V apply(V a, V b) {
    if constexpr (op == BinaryOp::add) return hn::Add(a, b);
    if constexpr (op == BinaryOp::sub) return hn::Sub(a, b);
    if constexpr (op == BinaryOp::mul) return hn::Mul(a, b);
    if constexpr (op == BinaryOp::div) return hn::Div(a, b);
}

template <BinaryOp op, class T>
HWY_INLINE T apply_one(T a, T b) {
    if constexpr (op == BinaryOp::add) return a + b;
    if constexpr (op == BinaryOp::sub) return a - b;
    if constexpr (op == BinaryOp::mul) return a * b;
    if constexpr (op == BinaryOp::div) return a / b;
}

template <BinaryOp op, class T>
void binary_row(T* dst, const T* a, int64_t stride_a, const T* b, int64_t stride_b, int64_t n) {
    const Tag<T> d;
    if (stride_a == 1 && stride_b == 1) {
        map_vectors(
            dst, n, [](auto u, auto v) HWY_ATTR { return apply<op>(u, v); }, a, b);
    } else if (stride_a == 1 && stride_b == 0) {
        const auto v = hn::Set(d, *b);
        map_vectors(
            dst, n, [v](auto u) HWY_ATTR { return apply<op>(u, v); }, a);
    } else if (stride_a == 0 && stride_b == 1) {
        const auto u = hn::Set(d, *a);
        map_vectors(
            dst, n, [u](auto v) HWY_ATTR { return apply<op>(u, v); }, b);
    } else {
        for (int64_t i = 0; i < n; ++i) dst[i] = apply_one<op>(a[i * stride_a], b[i * stride_b]);
    }
}

template <BinaryOp op, class T>
void binary_loop(Context& context, T* dst, const T* a, const T* b, const StridedLoop& loop) {
    const int last = loop.dims - 1;
    const int64_t n = loop.size[last], stride_a = loop.stride_a[last],
                  stride_b = loop.stride_b[last];
    if (last == 0) {
        context.pool->for_ranges(n, kChunkElements, [&](int64_t begin, int64_t end) {
            binary_row<op>(dst + begin, a + begin * stride_a, stride_a, b + begin * stride_b,
                           stride_b, end - begin);
        });
        return;
    }
    const int64_t rows = element_count(loop) / n;
    context.pool->for_ranges(rows, rows_per_chunk(n), [&](int64_t begin, int64_t end) {
        RowCursor cursor(loop, begin);
        for (int64_t row = begin; row < end; ++row, cursor.next())
            binary_row<op>(dst + row * n, a + cursor.a(), stride_a, b + cursor.b(), stride_b, n);
    });
}

template <class T>
void binary(Context& context, BinaryOp op, T* dst, const T* a, const T* b,
            const StridedLoop& full_loop) {
    if (element_count(full_loop) == 0) return;
    const StridedLoop loop = collapse(full_loop);
    switch (op) {
        case BinaryOp::add:
            return binary_loop<BinaryOp::add>(context, dst, a, b, loop);
        case BinaryOp::sub:
            return binary_loop<BinaryOp::sub>(context, dst, a, b, loop);
        case BinaryOp::mul:
            return binary_loop<BinaryOp::mul>(context, dst, a, b, loop);
        case BinaryOp::div:
            return binary_loop<BinaryOp::div>(context, dst, a, b, loop);
    }
}

// ---- Unary functions and their derivatives -----------------------------------------------------

template <UnaryOp op, class T>
void unary_range(T param, T* dst, const T* src, int64_t n) {
    const Tag<T> d;
    const auto param_v = hn::Set(d, param);
    map_vectors(
        dst, n, [d, param_v](auto v) HWY_ATTR { return vunary<op>(d, v, param_v); }, src);
}

template <class T>
void unary(Context& context, UnaryOp op, T param, T* dst, const T* src, int64_t n) {
    with_unary_op(op, [&](auto constant) {
        context.pool->for_ranges(n, kChunkElements, [&](int64_t begin, int64_t end) {
            unary_range<decltype(constant)::value>(param, dst + begin, src + begin, end - begin);
        });
    });
}

// g * f'(v).
template <UnaryOp op, class D, class V>
HWY_INLINE V times_gradient(D d, V g, V v, V param) {
    if constexpr (op == UnaryOp::relu) {  // chooses: an infinite gradient is no NaN there
        (void)param;
        return hn::IfThenElseZero(hn::Gt(v, hn::Zero(d)), g);
    } else {
        return hn::Mul(g, vunary_grad<op>(d, v, param));
    }
}

template <UnaryOp op, class T>
void unary_backward_range(T param, T* dst, const T* grad, const T* x, int64_t n) {
    const Tag<T> d;
    const auto param_v = hn::Set(d, param);
    map_vectors(
        dst, n,
        [d, param_v](auto g, auto v) HWY_ATTR { return times_gradient<op>(d, g, v, param_v); },
        grad, x);
}

template <class T>
void unary_backward(Context& context, UnaryOp op, T param, T* dst, const T* grad, const T* x,
                    int64_t n) {
    with_unary_op(op, [&](auto constant) {
        context.pool->for_ranges(n, kChunkElements, [&](int64_t begin, int64_t end) {
            unary_backward_range<decltype(constant)::value>(param, dst + begin, grad + begin,
                                                            x + begin, end - begin);
        });
    });
}

// ---- Affine, axpy, fill, select ----------------------------------------------------------------

template <class T>
void affine_range(T* dst, const T* src, T alpha, T beta, int64_t n) {
    const Tag<T> d;
    const auto alpha_v = hn::Set(d, alpha), beta_v = hn::Set(d, beta);
    map_vectors(
        dst, n, [alpha_v, beta_v](auto v) HWY_ATTR { return hn::MulAdd(alpha_v, v, beta_v); }, src);
}

template <class T>
void affine(Context& context, T* dst, const T* src, T alpha, T beta, int64_t n) {
    context.pool->for_ranges(n, kChunkElements, [&](int64_t begin, int64_t end) {
        affine_range(dst + begin, src + begin, alpha, beta, end - begin);
    });
}

template <class T>
void axpy_range(T* dst, const T* src, T alpha, int64_t n) {
    const auto alpha_v = hn::Set(Tag<T>(), alpha);
    map_vectors(
        dst, n, [alpha_v](auto sum, auto v) HWY_ATTR { return hn::MulAdd(alpha_v, v, sum); }, dst,
        src);
}

template <class T>
void axpy(Context& context, T* dst, const T* src, T alpha, int64_t n) {
    context.pool->for_ranges(n, kChunkElements, [&](int64_t begin, int64_t end) {
        axpy_range(dst + begin, src + begin, alpha, end - begin);
    });
}

template <class T>
void fill_with(Context& context, T* dst, T value, int64_t n) {
    context.pool->for_ranges(n, kChunkElements, [&](int64_t begin, int64_t end) {
        std::fill(dst + begin, dst + end, value);
    });
}

template <class T>
void select_range(T* dst, const bool* cond, const T* a, const T* b, int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
        const T u = a[i], v = b[i];
        dst[i] = cond[i] ? u : v;
    }
}

template <class T>
void select(Context& context, T* dst, const bool* cond, const T* a, const T* b, int64_t n) {
    context.pool->for_ranges(n, kChunkElements, [&](int64_t begin, int64_t end) {
        select_range(dst + begin, cond + begin, a + begin, b + begin, end - begin);
    });
}

// ---- Dropout -----------------------------------------------------------------------------------

template <class T>
void dropout_range(T* dst, const T* src, const DropRule& rule, const RandomStream& random,
                   int64_t begin, int64_t end) {
    const Tag<T> d;
    const auto scale = hn::Set(d, static_cast<T>(rule.scale));
    // So few at a time that the lines of the next ones, fetched while these are drawn, fit the
    // buffers of the processor.
    constexpr int64_t kPiece = 256, kLine = 64 / sizeof(T);
    DropDraws draws(random, rule);
    for (int64_t i = begin; i < end; i += kPiece) {
        const int64_t n = std::min(end - i, kPiece);
        for (int64_t j = i + kPiece; j < std::min(end, i + 2 * kPiece); j += kLine) {
            hwy::Prefetch(src + j);
            hwy::Prefetch(dst + j);
        }
        draws.draw(static_cast<uint64_t>(i), n);
        constexpr int64_t N = lanes_of<T>();
        const auto value = [&](auto v, int64_t j) HWY_ATTR {
            return hn::IfThenZeroElse(draws.dropped(d, j), hn::Mul(v, scale));
        };
        int64_t j = 0;
        for (; j + N <= n; j += N) hn::StoreU(value(hn::LoadU(d, src + i + j), j), d, dst + i + j);
        if (j < n) {
            const size_t rest = static_cast<size_t>(n - j);
            store_n(value(load_n(d, src + i + j, rest), j), d, dst + i + j, rest);
        }
    }
}

template <class T>
void dropout(Context& context, T* dst, const T* src, double p, RandomStream random, int64_t n) {
    const DropRule rule(p);
    context.pool->for_ranges(n, kChunkElements, [&](int64_t begin, int64_t end) {
        dropout_range(dst, src, rule, random, begin, end);
    });
}

// ---- The derivative of a product's epilogue -----------------------------------------------------

template <class T>
using EpilogueBackwardArgs = typename ElementwiseKernels<T>::EpilogueBackwardArgs;

// Rows [begin, end): dz = f(dropout(dy), z), and sums (cols, null: skipped) += its columns.
template <bool drops, class T, class F>
void epilogue_backward_rows(const EpilogueBackwardArgs<T>& a, int64_t begin, int64_t end, T* sums,
                            const F& f) {
    const Tag<T> d;
    constexpr int64_t N = lanes_of<T>();
    // A piece of a row at a time; what comes after it is fetched while its numbers are drawn.
    constexpr int64_t kPiece = 256, kLine = 64 / sizeof(T);
    const DropRule rule(a.p);
    const auto scale = hn::Set(d, static_cast<T>(rule.scale));
    DropDraws draws(a.random, rule);
    for (int64_t at = begin * a.cols; at < end * a.cols;) {
        const int64_t col = at % a.cols, n = std::min(kPiece, a.cols - col);
        const int64_t ahead = at + (drops ? n : kFetchAhead<T>);
        for (int64_t j = ahead; j < ahead + n; j += kLine) {
            hwy::Prefetch(a.dy + j);
            if (a.z) hwy::Prefetch(a.z + j);
        }
        if constexpr (drops) draws.draw(static_cast<uint64_t>(at), n);
        const auto value = [&](auto g, auto z, int64_t j) HWY_ATTR {
            if constexpr (drops) g = hn::IfThenZeroElse(draws.dropped(d, j), hn::Mul(g, scale));
            return f(g, z);
        };
        const T *dy = a.dy + at, *z = (a.z ? a.z : a.dy) + at;
        T *dz = a.dz ? a.dz + at : nullptr, *sum = sums ? sums + col : nullptr;
        int64_t j = 0;
        for (; j + N <= n; j += N) {
            const auto v = value(hn::LoadU(d, dy + j), hn::LoadU(d, z + j), j);
            if (dz) hn::StoreU(v, d, dz + j);
            if (sum) hn::StoreU(hn::Add(hn::LoadU(d, sum + j), v), d, sum + j);
        }
        if (j < n) {
            const size_t rest = static_cast<size_t>(n - j);
            const auto v = value(load_n(d, dy + j, rest), load_n(d, z + j, rest), j);
            if (dz) store_n(v, d, dz + j, rest);
            if (sum) store_n(hn::Add(load_n(d, sum + j, rest), v), d, sum + j, rest);
        }
        at += n;
    }
}

template <class T>
void epilogue_backward(Context& context, const EpilogueBackwardArgs<T>& a) {
    if (a.rows <= 0 || a.cols <= 0) return;
    constexpr int64_t kMostPartials = 64;
    const int64_t grain =
        std::max({rows_per_chunk(a.cols), int64_t{16}, ceil_div(a.rows, kMostPartials)});
    const int64_t partials = ceil_div(a.rows, grain);
    Loan<T> partial(*context.workspace, a.dbias ? partials * a.cols : 0);  // (partials, cols)
    const auto run = [&](auto drops, const auto& f) {
        context.pool->for_ranges(a.rows, grain, [&](int64_t begin, int64_t end) {
            T* sums = a.dbias ? partial.data() + begin / grain * a.cols : nullptr;
            if (sums) std::fill_n(sums, a.cols, T{0});
            epilogue_backward_rows<drops()>(a, begin, end, sums, f);
        });
    };
    const auto with_dropout_or_not = [&](const auto& f) {
        if (a.p > 0)
            run(std::true_type(), f);
        else
            run(std::false_type(), f);
    };
    if (a.z)
        with_unary_op(a.op, [&](auto op) {
            with_dropout_or_not([param = a.param](auto g, auto z) HWY_ATTR {
                const Tag<T> d;
                return times_gradient<decltype(op)::value>(d, g, z, hn::Set(d, param));
            });
        });
    else
        with_dropout_or_not([](auto g, auto) HWY_ATTR { return g; });
    if (a.dbias)
        context.pool->for_ranges(a.cols, std::max<int64_t>(64, kChunkElements / partials),
                                 [&](int64_t begin, int64_t end) {
                                     add_partials(a.dbias, partial.data(), partials, a.cols, begin,
                                                  end);
                                 });
}

template <class T>
void fill_table(ElementwiseKernels<T>& table) {
    table.binary = binary<T>;
    table.unary = unary<T>;
    table.unary_backward = unary_backward<T>;
    table.affine = affine<T>;
    table.axpy = axpy<T>;
    table.fill = fill_with<T>;
    table.select = select<T>;
    table.dropout = dropout<T>;
    table.epilogue_backward = epilogue_backward<T>;
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
void fill_elementwise(Backend& b) {
    HWY_DYNAMIC_DISPATCH(fill)(b);
}
}  // namespace mc
#endif
