#include "kernels/gru.h"

#include <algorithm>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/chunking.h"
#include "kernels/cpu/fill.h"
#include "kernels/cpu/simd_targets.h"
#include "kernels/cpu/thread_pool.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/gru.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mc {
namespace HWY_NAMESPACE {
namespace {

// gates (3 width) of one row; next (width) from them.
template <class T>
void cell_row(T* next, T* gates, const T* input, const T* state, const T* h, int64_t width) {
    const Tag<T> d;
    T *r = gates, *z = gates + width, *n = gates + 2 * width;
    map_vectors(
        r, 2 * width, [d](auto x, auto s) HWY_ATTR { return vsigmoid(d, hn::Add(x, s)); }, input,
        state);
    map_vectors(
        n, width,
        [d](auto x, auto s, auto reset)
            HWY_ATTR { return vtanh(d, hn::Add(x, hn::Mul(reset, s))); },
        input + 2 * width, state + 2 * width, static_cast<const T*>(r));
    map_vectors(
        next, width,
        [d](auto keep, auto fresh, auto old) HWY_ATTR {
            return hn::Add(hn::Mul(hn::Sub(hn::Set(d, T{1}), keep), fresh), hn::Mul(keep, old));
        },
        static_cast<const T*>(z), static_cast<const T*>(n), h);
}

template <class T>
void gru_cell(Context& context, const typename GruKernels<T>::CellArgs& a) {
    const int64_t width = a.width;
    context.pool->for_ranges(a.rows, rows_per_chunk(16 * width), [&](int64_t begin, int64_t end) {
        std::vector<T> scratch(static_cast<size_t>(a.gates ? 0 : 3 * width));
        for (int64_t r = begin; r < end; ++r) {
            T* gates = a.gates ? a.gates + 3 * width * r : scratch.data();
            if (!a.on || a.on[r]) {
                cell_row(a.next + width * r, gates, a.input + 3 * width * r,
                         a.state + 3 * width * r, a.h + width * r, width);
                continue;
            }
            std::copy_n(a.h + width * r, width, a.next + width * r);
            std::fill_n(gates, 3 * width, T{0});
        }
    });
}

template <class T>
void gru_cell_backward(Context& context, const typename GruKernels<T>::CellBackwardArgs& a) {
    const int64_t width = a.width;
    context.pool->for_ranges(a.rows, rows_per_chunk(16 * width), [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
            const T *g = a.dnext + width * row, *h = a.h + width * row;
            T *dh = a.dh + width * row, *dinput = a.dinput + 3 * width * row,
              *dstate = a.dstate + 3 * width * row;
            if (a.on && !a.on[row]) {
                std::copy_n(g, width, dh);
                std::fill_n(dinput, 3 * width, T{0});
                std::fill_n(dstate, 3 * width, T{0});
                continue;
            }
            const T *r = a.gates + 3 * width * row, *z = r + width, *n = z + width;
            const T* s = a.state + 3 * width * row + 2 * width;
            for (int64_t i = 0; i < width; ++i) {
                const T dn = g[i] * (T{1} - z[i]) * (T{1} - n[i] * n[i]);
                const T dz = g[i] * (h[i] - n[i]) * z[i] * (T{1} - z[i]);
                const T dr = dn * s[i] * r[i] * (T{1} - r[i]);
                dinput[i] = dstate[i] = dr;
                dinput[width + i] = dstate[width + i] = dz;
                dinput[2 * width + i] = dn;
                dstate[2 * width + i] = dn * r[i];
                dh[i] = g[i] * z[i];
            }
        }
    });
}

template <class T>
void fill_table(GruKernels<T>& table) {
    table.gru_cell = gru_cell<T>;
    table.gru_cell_backward = gru_cell_backward<T>;
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
void fill_gru(Backend& b) {
    HWY_DYNAMIC_DISPATCH(fill)(b);
}
}  // namespace mc
#endif
