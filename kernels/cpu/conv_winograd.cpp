#include "kernels/cpu/conv_winograd.h"

#include <algorithm>
#include <optional>
#include <type_traits>

#include "kernels/cpu/chunking.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/simd_targets.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/cpu/workspace.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/conv_winograd.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mc {
namespace HWY_NAMESPACE {
namespace {

// f(load, store) for every vector of rows of n elements: load(row) and store(v, row) at its place.
template <class T, class F>
HWY_INLINE void each_vector(int64_t n, const F& f) {
    const Tag<T> d;
    constexpr int64_t N = lanes_of<T>();
    int64_t i = 0;
    for (; i + N <= n; i += N)
        f([d, i](const T* row) HWY_ATTR { return hn::LoadU(d, row + i); },
          [d, i](auto v, T* row) HWY_ATTR { hn::StoreU(v, d, row + i); });
    if (i == n) return;
    const size_t rest = static_cast<size_t>(n - i);
    f([d, i, rest](const T* row) HWY_ATTR { return load_n(d, row + i, rest); },
      [d, i, rest](auto v, T* row) HWY_ATTR { store_n(v, d, row + i, rest); });
}

// A convolution's tiles, and where a block of samples keeps what belongs to them.
struct Tiling {
    explicit Tiling(const ConvShape& shape)
        : s(shape), d(shape.dilation), tiles(winograd_tiles(shape)) {}
    // The tile's first output; of the padded input, its first frame.
    int64_t first(int64_t tile) const { return tile / d * 2 * d + tile % d; }
    // Samples taken at a time: V and M of them, together 4 MiB of f32, stay in the caches.
    int64_t block() const {
        constexpr int64_t kElements = int64_t{1} << 20;
        return std::clamp<int64_t>(kElements / (4 * tiles * (s.c_in + s.c_out)), 1, s.batch);
    }
    // Rows of a plane of V and M for so many samples: their tiles, sample after sample, and rows of
    // zeros where those are few: gemm sums few rows in another order than more, and a sample's
    // result is not to depend on how many there are beside it.
    int64_t rows(int64_t samples) const {
        return std::max<int64_t>(samples * tiles, kMaxDotRows + 1);
    }

    ConvShape s;
    int64_t d, tiles;  // of a sample
};

// V (4, samples * tiles, Cin) <- x (samples, T, Cin). `zeros` (Cin): a frame of the padding.
template <class T>
void transform_input(Context& context, T* v, const T* x, const T* zeros, int64_t samples,
                     const Tiling& tiling) {
    const int64_t c = tiling.s.c_in, frames = tiling.s.t_in, plane = tiling.rows(samples) * c;
    context.pool->for_ranges(
        tiling.rows(samples), rows_per_chunk(4 * c), [&](int64_t begin, int64_t end) {
            for (int64_t row = begin; row < end; ++row) {
                const bool tile = row < samples * tiling.tiles;
                const T* sample = x + row / tiling.tiles * frames * c;
                const int64_t first = tiling.first(row % tiling.tiles) - tiling.s.padding;
                const auto frame = [&](int64_t i) {
                    const int64_t t = first + i * tiling.d;
                    return tile && t >= 0 && t < frames ? sample + t * c : zeros;
                };
                const T *d0 = frame(0), *d1 = frame(1), *d2 = frame(2), *d3 = frame(3);
                T* to = v + row * c;
                each_vector<T>(c, [=](auto load, auto store) HWY_ATTR {
                    const auto x1 = load(d1), x2 = load(d2);
                    store(hn::Sub(load(d0), x2), to);
                    store(hn::Add(x1, x2), to + plane);
                    store(hn::Sub(x2, x1), to + 2 * plane);
                    store(hn::Sub(x1, load(d3)), to + 3 * plane);
                });
            }
        });
}

// y (samples, Tout, Cout) <- M (4, samples * tiles, Cout); bias may be null.
template <class T>
void transform_output(Context& context, T* y, const T* m, const T* bias, bool relu, int64_t samples,
                      const Tiling& tiling) {
    const Tag<T> d;
    const int64_t c = tiling.s.c_out, t_out = tiling.s.t_out(), plane = tiling.rows(samples) * c;
    const auto rows = [&](auto finish) {
        context.pool->for_ranges(
            samples * tiling.tiles, rows_per_chunk(4 * c), [&](int64_t begin, int64_t end) {
                for (int64_t row = begin; row < end; ++row) {
                    const int64_t first = tiling.first(row % tiling.tiles);
                    T* y0 = y + (row / tiling.tiles * t_out + first) * c;
                    T* y1 = first + tiling.d < t_out ? y0 + tiling.d * c : nullptr;
                    const T* from = m + row * c;
                    each_vector<T>(c, [=](auto load, auto store) HWY_ATTR {
                        const auto m2 = load(from + plane), m3 = load(from + 2 * plane);
                        store(finish(hn::Add(hn::Add(load(from), m2), m3), load), y0);
                        if (y1)
                            store(finish(hn::Sub(hn::Sub(m2, m3), load(from + 3 * plane)), load),
                                  y1);
                    });
                }
            });
    };
    const auto biased = [d, bias](auto v, auto load)
                            HWY_ATTR { return hn::Add(v, bias ? load(bias) : hn::Zero(d)); };
    if (relu)
        rows([d, biased](auto v, auto load)
                 HWY_ATTR { return vunary<UnaryOp::relu>(d, biased(v, load), hn::Zero(d)); });
    else
        rows(biased);
}

// N (4, samples * tiles, Cout) <- dy (samples, Tout, Cout). `zeros` (Cout): what a tile lacks.
template <class T>
void transform_output_gradient(Context& context, T* n, const T* dy, const T* zeros, int64_t samples,
                               const Tiling& tiling) {
    const int64_t c = tiling.s.c_out, t_out = tiling.s.t_out(), plane = tiling.rows(samples) * c;
    context.pool->for_ranges(
        tiling.rows(samples), rows_per_chunk(4 * c), [&](int64_t begin, int64_t end) {
            for (int64_t row = begin; row < end; ++row) {
                const bool tile = row < samples * tiling.tiles;
                const int64_t first = tiling.first(row % tiling.tiles);
                const T* sample = dy + row / tiling.tiles * t_out * c;
                const T* e0 = tile ? sample + first * c : zeros;
                const T* e1 =
                    tile && first + tiling.d < t_out ? sample + (first + tiling.d) * c : zeros;
                T* to = n + row * c;
                each_vector<T>(c, [=](auto load, auto store) HWY_ATTR {
                    const auto g0 = load(e0), g1 = load(e1);
                    store(g0, to);
                    store(hn::Add(g0, g1), to + plane);
                    store(hn::Sub(g0, g1), to + 2 * plane);
                    store(hn::Neg(g1), to + 3 * plane);
                });
            }
        });
}

// dx (samples, T, Cin) <- dV (4, samples * tiles, Cin): a frame's share of the tile that reads it
// as d0 or d1, and of the one d frames before, as d2 or d3. `zeros` (Cin): no such tile.
template <class T>
void gather_input_gradient(Context& context, T* dx, const T* dv, const T* zeros, int64_t samples,
                           const Tiling& tiling) {
    const int64_t c = tiling.s.c_in, frames = tiling.s.t_in, plane = tiling.rows(samples) * c;
    const int64_t d = tiling.d, t_out = tiling.s.t_out();
    context.pool->for_ranges(
        samples * frames, rows_per_chunk(4 * c), [&](int64_t begin, int64_t end) {
            for (int64_t row = begin; row < end; ++row) {
                const T* sample = dv + row / frames * tiling.tiles * c;
                const int64_t at = row % frames + tiling.s.padding;
                const int64_t block = at / (2 * d), r = at % d;
                const bool second = at % (2 * d) >= d;  // d1 and d3, not d0 and d2
                const auto tile = [&](int64_t b, int64_t j) {
                    const bool exists = b >= 0 && 2 * d * b + r < t_out;
                    return exists ? sample + j * plane + (b * d + r) * c : zeros;
                };
                T* to = dx + row * c;
                if (second) {
                    const T *a1 = tile(block, 1), *a2 = tile(block, 2), *a3 = tile(block, 3);
                    const T* b3 = tile(block - 1, 3);
                    each_vector<T>(c, [=](auto load, auto store) HWY_ATTR {
                        const auto d1 = hn::Add(hn::Sub(load(a1), load(a2)), load(a3));
                        store(hn::Sub(d1, load(b3)), to);
                    });
                } else {
                    const T* a0 = tile(block, 0);
                    const T *b0 = tile(block - 1, 0), *b1 = tile(block - 1, 1),
                            *b2 = tile(block - 1, 2);
                    each_vector<T>(c, [=](auto load, auto store) HWY_ATTR {
                        const auto d2 = hn::Sub(hn::Add(load(b1), load(b2)), load(b0));
                        store(hn::Add(load(a0), d2), to);
                    });
                }
            }
        });
}

// f(i) for every vector of `filters` filters of three: i the first filter, whole vectors alone;
// then rest(i) for every filter that is left.
template <class T, class F, class Rest>
void each_filter(Context& context, int64_t filters, const F& f, const Rest& rest) {
    constexpr int64_t N = lanes_of<T>();
    context.pool->for_ranges(filters, kChunkElements / 4, [&](int64_t begin, int64_t end) {
        int64_t i = begin;
        for (; i + N <= end; i += N) f(i);
        for (; i < end; ++i) rest(i);
    });
}

// U (4, Cout, Cin) <- w (Cout, Cin, 3).
template <class T>
void transform_weight(Context& context, T* u, const T* w, const ConvShape& s) {
    const Tag<T> d;
    const int64_t filters = s.c_out * s.c_in;
    each_filter<T>(
        context, filters,
        [=](int64_t i) HWY_ATTR {
            VecOf<T> g0, g1, g2;
            hn::LoadInterleaved3(d, w + 3 * i, g0, g1, g2);
            const auto half = hn::Set(d, T{0.5});
            const auto outer = hn::Add(g0, g2);
            hn::StoreU(g0, d, u + i);
            hn::StoreU(hn::Mul(half, hn::Add(outer, g1)), d, u + filters + i);
            hn::StoreU(hn::Mul(half, hn::Sub(outer, g1)), d, u + 2 * filters + i);
            hn::StoreU(g2, d, u + 3 * filters + i);
        },
        [=](int64_t i) {
            const T g0 = w[3 * i], g1 = w[3 * i + 1], g2 = w[3 * i + 2], outer = g0 + g2;
            u[i] = g0;
            u[filters + i] = T{0.5} * (outer + g1);
            u[2 * filters + i] = T{0.5} * (outer - g1);
            u[3 * filters + i] = g2;
        });
}

// dw (Cout, Cin, 3) += the transpose of transform_weight on dU (4, Cout, Cin).
template <class T>
void add_weight_gradient(Context& context, T* dw, const T* du, const ConvShape& s) {
    const Tag<T> d;
    const int64_t filters = s.c_out * s.c_in;
    each_filter<T>(
        context, filters,
        [=](int64_t i) HWY_ATTR {
            VecOf<T> g0, g1, g2;
            hn::LoadInterleaved3(d, dw + 3 * i, g0, g1, g2);
            const auto half = hn::Set(d, T{0.5});
            const auto u2 = hn::LoadU(d, du + filters + i), u3 = hn::LoadU(d, du + 2 * filters + i);
            const auto sum = hn::Mul(half, hn::Add(u2, u3)), gap = hn::Mul(half, hn::Sub(u2, u3));
            g0 = hn::Add(g0, hn::Add(hn::LoadU(d, du + i), sum));
            g1 = hn::Add(g1, gap);
            g2 = hn::Add(g2, hn::Add(hn::LoadU(d, du + 3 * filters + i), sum));
            hn::StoreInterleaved3(g0, g1, g2, d, dw + 3 * i);
        },
        [=](int64_t i) {
            const T u2 = du[filters + i], u3 = du[2 * filters + i], sum = T{0.5} * (u2 + u3);
            dw[3 * i] += du[i] + sum;
            dw[3 * i + 1] += T{0.5} * (u2 - u3);
            dw[3 * i + 2] += du[3 * filters + i] + sum;
        });
}

// dst = the four planes of u (4, Cout, Cin), packed as op(B): transposed (Cin, Cout), or as it is.
void pack_planes(Context& context, float* dst, const float* u, const ConvShape& s,
                 bool transposed) {
    const int64_t k = transposed ? s.c_in : s.c_out, n = transposed ? s.c_out : s.c_in;
    for (int64_t j = 0; j < 4; ++j)
        pack_b_f32(context, dst + j * (packed_bytes(Precision::f32, k, n) / 4),
                   u + j * s.c_out * s.c_in, s.c_in, transposed, k, n);
}

void pack_f32(Context& context, void* dst, const float* w, const ConvShape& s) {
    Loan<float> u(*context.workspace, 4 * s.c_out * s.c_in);
    transform_weight(context, u.data(), w, s);
    pack_planes(context, static_cast<float*>(dst), u.data(), s, true);
}

// U as op(B) (k, n): transposed (Cin, Cout), or as it is; in f32 packed where several blocks of
// samples read it.
template <class T>
class Weight {
  public:
    Weight(Context& context, const T* w, const ConvShape& s, bool transposed, bool several)
        : Weight(context, s, transposed, false, several && std::is_same_v<T, float>) {
        transform_weight(context, u_.data(), w, s);
        if constexpr (std::is_same_v<T, float>)
            if (several) pack_planes(context, own_.data(), u_.data(), s, transposed);
    }
    // As winograd_pack left it.
    Weight(Context& context, const void* packed, const ConvShape& s)
        : Weight(context, s, true, true, false) {
        packed_ = static_cast<const T*>(packed);
    }
    // c (rows, n) = a (rows, k) * op(U_j).
    void multiply(Context& context, T* c, const T* a, int64_t j, int64_t rows) const {
        MatmulArgs<T> args;
        args.c = c;
        args.a = a;
        args.b = plane(j);
        args.m = rows;
        args.n = args.ldc = n();
        args.k = args.lda = k();
        args.ldb = cols_;
        args.trans_b = transposed_;
        if (packed_) args.packed_b.data = packed_ + j * packed_elements();
        gemm(context, args);
    }

  private:
    Weight(Context& context, const ConvShape& s, bool transposed, bool ready, bool several)
        : rows_(s.c_out),
          cols_(s.c_in),
          transposed_(transposed),
          u_(*context.workspace, ready ? 0 : 4 * s.c_out * s.c_in),
          own_(*context.workspace, several ? 4 * packed_elements() : 0),
          packed_(several ? own_.data() : nullptr) {}
    int64_t k() const { return transposed_ ? cols_ : rows_; }
    int64_t n() const { return transposed_ ? rows_ : cols_; }
    int64_t packed_elements() const { return packed_bytes(Precision::f32, k(), n()) / 4; }
    const T* plane(int64_t j) const { return u_.data() + j * rows_ * cols_; }

    int64_t rows_, cols_;
    bool transposed_;
    Loan<T> u_;  // (4, Cout, Cin)
    Loan<T> own_;
    const T* packed_;  // null: u_ is read
};

template <class T>
void convolve(Context& context, T* y, const T* x, const T* w, const void* packed, const T* bias,
              bool relu, const ConvShape& s) {
    const Tiling tiling(s);
    const int64_t block = tiling.block(), t_out = s.t_out();
    const Weight<T> weight =
        packed ? Weight<T>(context, packed, s) : Weight<T>(context, w, s, true, block < s.batch);
    Loan<T> v(*context.workspace, 4 * tiling.rows(block) * s.c_in);
    Loan<T> m(*context.workspace, 4 * tiling.rows(block) * s.c_out);
    Loan<T> zeros(*context.workspace, s.c_in);
    std::fill_n(zeros.data(), s.c_in, T{0});
    for (int64_t b = 0; b < s.batch; b += block) {
        const int64_t samples = std::min(block, s.batch - b), rows = tiling.rows(samples);
        transform_input(context, v.data(), x + b * s.t_in * s.c_in, zeros.data(), samples, tiling);
        for (int64_t j = 0; j < 4; ++j)
            weight.multiply(context, m.data() + j * rows * s.c_out, v.data() + j * rows * s.c_in, j,
                            rows);
        transform_output(context, y + b * t_out * s.c_out, m.data(), bias, relu, samples, tiling);
    }
}

// dU_j (Cout, Cin) += N_j (rows, Cout)^T V_j (rows, Cin); `add` false: =.
template <class T>
void weight_gradient(Context& context, T* du, const T* n, const T* v, int64_t rows,
                     const ConvShape& s, bool add) {
    for (int64_t j = 0; j < 4; ++j) {
        MatmulArgs<T> args;
        args.c = du + j * s.c_out * s.c_in;
        args.a = n + j * rows * s.c_out;
        args.b = v + j * rows * s.c_in;
        args.m = args.lda = s.c_out;
        args.n = args.ldb = args.ldc = s.c_in;
        args.k = rows;
        args.trans_a = true;
        args.accumulate = add;
        gemm(context, args);
    }
}

template <class T>
void convolve_backward(Context& context, T* dx, T* dw, const T* dy, const T* x, const T* w,
                       const ConvShape& s) {
    if (!dx && !dw) return;
    const Tiling tiling(s);
    const int64_t block = tiling.block(), t_out = s.t_out(), filters = s.c_out * s.c_in;
    Loan<T> du(*context.workspace, dw ? 4 * filters : 0);
    Loan<T> v(*context.workspace, 4 * tiling.rows(block) * s.c_in);  // then dV
    Loan<T> n(*context.workspace, 4 * tiling.rows(block) * s.c_out);
    const int64_t width = std::max(s.c_in, s.c_out);
    Loan<T> zeros(*context.workspace, width);
    std::fill_n(zeros.data(), width, T{0});
    std::optional<Weight<T>> weight;
    if (dx) weight.emplace(context, w, s, false, block < s.batch);
    for (int64_t b = 0; b < s.batch; b += block) {
        const int64_t samples = std::min(block, s.batch - b), rows = tiling.rows(samples);
        transform_output_gradient(context, n.data(), dy + b * t_out * s.c_out, zeros.data(),
                                  samples, tiling);
        if (dw) {
            transform_input(context, v.data(), x + b * s.t_in * s.c_in, zeros.data(), samples,
                            tiling);
            weight_gradient(context, du.data(), n.data(), v.data(), rows, s, b > 0);
        }
        if (!dx) continue;
        for (int64_t j = 0; j < 4; ++j)
            weight->multiply(context, v.data() + j * rows * s.c_in, n.data() + j * rows * s.c_out,
                             j, rows);
        gather_input_gradient(context, dx + b * s.t_in * s.c_in, v.data(), zeros.data(), samples,
                              tiling);
    }
    if (dw) add_weight_gradient(context, dw, du.data(), s);
}

void convolve_f32(Context& context, float* y, const float* x, const float* w, const void* packed,
                  const float* bias, bool relu, const ConvShape& s) {
    convolve(context, y, x, w, packed, bias, relu, s);
}
void convolve_f64(Context& context, double* y, const double* x, const double* w, const void* packed,
                  const double* bias, bool relu, const ConvShape& s) {
    convolve(context, y, x, w, packed, bias, relu, s);
}
void convolve_backward_f32(Context& context, float* dx, float* dw, const float* dy, const float* x,
                           const float* w, const ConvShape& s) {
    convolve_backward(context, dx, dw, dy, x, w, s);
}
void convolve_backward_f64(Context& context, double* dx, double* dw, const double* dy,
                           const double* x, const double* w, const ConvShape& s) {
    convolve_backward(context, dx, dw, dy, x, w, s);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace mc
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mc {

HWY_EXPORT(pack_f32);
HWY_EXPORT(convolve_f32);
HWY_EXPORT(convolve_f64);
HWY_EXPORT(convolve_backward_f32);
HWY_EXPORT(convolve_backward_f64);

// Measured on an AVX-512 machine of two cores, 96 to 512 channels, 12 to 196 frames, batches of 1
// to 64, dilations 1 to 9: 1.1 to 1.6 times as fast (dw of 128 channels and 16 frames 0.85), and
// more where the batch is so small that the
// preparation of the weight counts; with fewer channels the transforms and the narrow products of
// dU eat up the gain. Where the dilation comes near the length, most tiles lack their second output
// (12 frames, dilation 9: as many rows as without).
bool winograd_applies(const ConvShape& s) {
    constexpr int64_t kChannels = 128, kTiles = 6;
    if (s.kernel != 3 || s.stride != 1 || std::min(s.c_in, s.c_out) < kChannels) return false;
    const int64_t tiles = winograd_tiles(s);
    return tiles >= kTiles &&
           6 * 4 * tiles <= 5 * 3 * s.t_out();  // a sixth of the rows saved at least
}

void winograd_pack(Context& context, void* dst, const float* w, const ConvShape& shape) {
    HWY_DYNAMIC_DISPATCH(pack_f32)(context, dst, w, shape);
}
void winograd_conv1d(Context& context, float* y, const float* x, const float* w, const void* packed,
                     const float* bias, bool relu, const ConvShape& shape) {
    HWY_DYNAMIC_DISPATCH(convolve_f32)(context, y, x, w, packed, bias, relu, shape);
}
void winograd_conv1d(Context& context, double* y, const double* x, const double* w,
                     const void* packed, const double* bias, bool relu, const ConvShape& shape) {
    HWY_DYNAMIC_DISPATCH(convolve_f64)(context, y, x, w, packed, bias, relu, shape);
}
void winograd_conv1d_backward(Context& context, float* dx, float* dw, const float* dy,
                              const float* x, const float* w, const ConvShape& shape) {
    HWY_DYNAMIC_DISPATCH(convolve_backward_f32)(context, dx, dw, dy, x, w, shape);
}
void winograd_conv1d_backward(Context& context, double* dx, double* dw, const double* dy,
                              const double* x, const double* w, const ConvShape& shape) {
    HWY_DYNAMIC_DISPATCH(convolve_backward_f64)(context, dx, dw, dy, x, w, shape);
}

}  // namespace mc
#endif
