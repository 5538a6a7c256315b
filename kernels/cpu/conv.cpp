// 1-D convolution as a matrix product: the frames that an output frame sees are laid side by side,
// columns (rows, K, Cin), for a block of samples at a time, and multiplied by the weight repacked
// to (Cout, K, Cin). Channels are last, so a column row is K copies of contiguous frames. Blocks
// follow one another in the order of the batch, which fixes the order of the sums in the gradients.
// Where Winograd's filtering has fewer products to do (conv_winograd.h), that is taken instead.
//
// Rejected: K products on shifted inputs without columns. They read and write y K times, and the
// edges of each sample need products of their own.
#include <algorithm>
#include <cstring>

#include "kernels/backend.h"
#include "kernels/cpu/conv_winograd.h"
#include "kernels/cpu/fill.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/cpu/workspace.h"

namespace mc {

namespace {

constexpr int64_t kColumnElements = int64_t{1} << 21;  // 8 MiB of f32: stays in the last cache
constexpr int64_t kCopyGrain = int64_t{1} << 15;       // elements a chunk copies

// Convolutions that are a product as they stand.
bool pointwise(const ConvShape& s) {
    return s.kernel == 1 && s.stride == 1 && s.padding == 0;
}

int64_t samples_in_block(const ConvShape& s) {
    const int64_t one = std::max<int64_t>(s.t_out() * s.kernel * s.c_in, 1);
    return std::clamp<int64_t>(kColumnElements / one, 1, s.batch);
}

int64_t row_grain(int64_t width) {
    return std::max<int64_t>(kCopyGrain / std::max<int64_t>(width, 1), 1);
}

// columns (samples * Tout, K, Cin) <- x (samples, T, Cin).
template <class T>
void make_columns(Context& context, T* columns, const T* x, int64_t samples, const ConvShape& s) {
    const int64_t t_out = s.t_out(), width = s.kernel * s.c_in;
    const size_t frame = static_cast<size_t>(s.c_in) * sizeof(T);
    context.pool->for_ranges(samples * t_out, row_grain(width), [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
            const T* sample = x + row / t_out * s.t_in * s.c_in;
            const int64_t first = row % t_out * s.stride - s.padding;
            for (int64_t k = 0; k < s.kernel; ++k) {
                const int64_t t = first + k * s.dilation;
                T* to = columns + row * width + k * s.c_in;
                if (t >= 0 && t < s.t_in)
                    std::memcpy(to, sample + t * s.c_in, frame);
                else
                    std::memset(to, 0, frame);
            }
        }
    });
}

// dx (samples, T, Cin) = every frame's share of the columns' gradient, added in the order of k.
template <class T>
void gather_columns(Context& context, T* dx, const T* columns, int64_t samples,
                    const ConvShape& s) {
    const int64_t t_out = s.t_out(), width = s.kernel * s.c_in;
    context.pool->for_ranges(samples * s.t_in, row_grain(width), [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
            const T* sample = columns + row / s.t_in * t_out * width;
            T* to = dx + row * s.c_in;
            bool first = true;
            for (int64_t k = 0; k < s.kernel; ++k) {
                const int64_t at = row % s.t_in + s.padding - k * s.dilation;
                if (at < 0 || at % s.stride != 0 || at / s.stride >= t_out) continue;
                const T* from = sample + at / s.stride * width + k * s.c_in;
                if (first)
                    std::memcpy(to, from, static_cast<size_t>(s.c_in) * sizeof(T));
                else
                    for (int64_t c = 0; c < s.c_in; ++c) to[c] += from[c];
                first = false;
            }
            if (first) std::memset(to, 0, static_cast<size_t>(s.c_in) * sizeof(T));
        }
    });
}

// packed (Cout, K, Cin) <- w (Cout, Cin, K).
template <class T>
void pack_weight(Context& context, T* packed, const T* w, const ConvShape& s) {
    const int64_t width = s.kernel * s.c_in;
    context.pool->for_ranges(s.c_out, row_grain(width), [&](int64_t begin, int64_t end) {
        for (int64_t co = begin; co < end; ++co)
            for (int64_t k = 0; k < s.kernel; ++k)
                for (int64_t ci = 0; ci < s.c_in; ++ci)
                    packed[co * width + k * s.c_in + ci] = w[co * width + ci * s.kernel + k];
    });
}

// y (rows, Cout) = columns (rows, width) * weight (Cout, width)^T, bias, relu. `panels`: the weight
// as pack_b_f32 leaves it, or null.
template <class T>
void apply_weight(Context& context, T* y, const T* columns, const T* weight, const void* panels,
                  const T* bias, bool relu, int64_t rows, int64_t width, int64_t c_out) {
    MatmulArgs<T> args;
    args.c = y;
    args.a = columns;
    args.b = weight;
    args.m = rows;
    args.n = args.ldc = c_out;
    args.k = args.lda = args.ldb = width;
    args.trans_b = true;
    args.packed_b.data = panels;
    args.epilogue.bias = bias;
    args.epilogue.activate = relu;
    args.epilogue.op = UnaryOp::relu;
    gemm(context, args);
}

template <class T>
void conv1d(Context& context, T* y, const T* x, const T* w, const void* packed, const T* bias,
            bool relu, const ConvShape& s) {
    const int64_t t_out = s.t_out(), width = s.kernel * s.c_in;
    if (s.batch <= 0 || t_out <= 0 || s.c_out <= 0) return;
    if (pointwise(s))
        return apply_weight(context, y, x, w, packed, bias, relu, s.batch * t_out, width, s.c_out);
    if (winograd_applies(s)) return winograd_conv1d(context, y, x, w, packed, bias, relu, s);
    const int64_t block = samples_in_block(s);
    Loan<T> own(*context.workspace, packed ? 0 : s.c_out * width);
    Loan<T> columns(*context.workspace, block * t_out * width);
    if (!packed) pack_weight(context, own.data(), w, s);
    const T* weight = packed ? static_cast<const T*>(packed) : own.data();
    for (int64_t b = 0; b < s.batch; b += block) {
        const int64_t samples = std::min(block, s.batch - b);
        make_columns(context, columns.data(), x + b * s.t_in * s.c_in, samples, s);
        apply_weight(context, y + b * t_out * s.c_out, columns.data(), weight, nullptr, bias, relu,
                     samples * t_out, width, s.c_out);
    }
}

// The three ways to convolve, each with a packing of its own.
enum Layout { kPanels, kTransformed, kColumns };

Layout layout_of(const ConvShape& s) {
    return pointwise(s) ? kPanels : winograd_applies(s) ? kTransformed : kColumns;
}

ConvPacking conv1d_packing(const ConvShape& s) {
    const int64_t panels = packed_bytes(Precision::f32, s.c_in, s.c_out);
    const Layout layout = layout_of(s);
    return {layout, layout == kPanels        ? panels
                    : layout == kTransformed ? 4 * panels
                                             : 4 * s.c_out * s.kernel * s.c_in};
}

void pack_conv1d(Context& context, void* dst, const float* w, const ConvShape& s) {
    switch (layout_of(s)) {
        case kPanels:
            return pack_b_f32(context, dst, w, s.c_in, true, s.c_in, s.c_out);
        case kTransformed:
            return winograd_pack(context, dst, w, s);
        case kColumns:
            return pack_weight(context, static_cast<float*>(dst), w, s);
    }
}

// dw (Cout, width) += dy (rows, Cout)^T * columns (rows, width); `add` false: =.
template <class T>
void weight_gradient(Context& context, T* dw, const T* dy, const T* columns, int64_t rows,
                     int64_t width, int64_t c_out, bool add) {
    MatmulArgs<T> args;
    args.c = dw;
    args.a = dy;
    args.b = columns;
    args.m = args.lda = c_out;
    args.n = args.ldb = args.ldc = width;
    args.k = rows;
    args.trans_a = true;
    args.accumulate = add;
    gemm(context, args);
}

// columns (rows, width) = dy (rows, Cout) * weight (Cout, width).
template <class T>
void column_gradient(Context& context, T* columns, const T* dy, const T* weight, int64_t rows,
                     int64_t width, int64_t c_out) {
    MatmulArgs<T> args;
    args.c = columns;
    args.a = dy;
    args.b = weight;
    args.m = rows;
    args.n = args.ldb = args.ldc = width;
    args.k = args.lda = c_out;
    gemm(context, args);
}

// dbias (Cout) += column sums of dy (rows, Cout), as a product with a row of ones.
template <class T>
void bias_gradient(Context& context, T* dbias, const T* dy, int64_t rows, int64_t c_out) {
    Loan<T> ones(*context.workspace, rows);
    std::fill_n(ones.data(), rows, T{1});
    MatmulArgs<T> args;
    args.c = dbias;
    args.a = ones.data();
    args.b = dy;
    args.m = 1;
    args.n = args.ldb = args.ldc = c_out;
    args.k = args.lda = rows;
    args.accumulate = true;
    gemm(context, args);
}

template <class T>
void conv1d_backward(Context& context, T* dx, T* dw, T* dbias, const T* dy, const T* x, const T* w,
                     const ConvShape& s) {
    const int64_t t_out = s.t_out(), width = s.kernel * s.c_in;
    if (s.batch <= 0) return;
    if (t_out <= 0 || s.c_out <= 0) {
        if (dx) std::fill_n(dx, s.batch * s.t_in * s.c_in, T{0});
        return;
    }
    const int64_t rows = s.batch * t_out;
    if (dbias) bias_gradient(context, dbias, dy, rows, s.c_out);
    if (pointwise(s)) {
        if (dw) weight_gradient(context, dw, dy, x, rows, width, s.c_out, true);
        if (dx) column_gradient(context, dx, dy, w, rows, width, s.c_out);
        return;
    }
    if (winograd_applies(s)) return winograd_conv1d_backward(context, dx, dw, dy, x, w, s);
    const int64_t block = samples_in_block(s);
    Loan<T> columns(*context.workspace, block * t_out * width);
    Loan<T> weight(*context.workspace, dx ? s.c_out * width : 0);
    Loan<T> packed_dw(*context.workspace, dw ? s.c_out * width : 0);
    if (dx) pack_weight(context, weight.data(), w, s);
    for (int64_t b = 0; b < s.batch; b += block) {
        const int64_t samples = std::min(block, s.batch - b);
        const T* dy_block = dy + b * t_out * s.c_out;
        if (dw) {
            make_columns(context, columns.data(), x + b * s.t_in * s.c_in, samples, s);
            weight_gradient(context, packed_dw.data(), dy_block, columns.data(), samples * t_out,
                            width, s.c_out, b > 0);
        }
        if (dx) {
            column_gradient(context, columns.data(), dy_block, weight.data(), samples * t_out,
                            width, s.c_out);
            gather_columns(context, dx + b * s.t_in * s.c_in, columns.data(), samples, s);
        }
    }
    if (!dw) return;
    for (int64_t co = 0; co < s.c_out; ++co)
        for (int64_t ci = 0; ci < s.c_in; ++ci)
            for (int64_t k = 0; k < s.kernel; ++k)
                dw[co * width + ci * s.kernel + k] += packed_dw[co * width + k * s.c_in + ci];
}

template <class T>
void upsample2(Context& context, T* y, const T* x, int64_t batch, int64_t frames,
               int64_t channels) {
    const size_t bytes = static_cast<size_t>(channels) * sizeof(T);
    context.pool->for_ranges(batch * frames, row_grain(channels), [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) {
            std::memcpy(y + 2 * t * channels, x + t * channels, bytes);
            std::memcpy(y + (2 * t + 1) * channels, x + t * channels, bytes);
        }
    });
}

template <class T>
void upsample2_backward(Context& context, T* dx, const T* dy, int64_t batch, int64_t frames,
                        int64_t channels) {
    context.pool->for_ranges(batch * frames, row_grain(channels), [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) {
            const T* from = dy + 2 * t * channels;
            for (int64_t c = 0; c < channels; ++c)
                dx[t * channels + c] = from[c] + from[channels + c];
        }
    });
}

template <class T>
void fill_table(KernelTable<T>& table) {
    table.conv1d = conv1d<T>;
    table.conv1d_backward = conv1d_backward<T>;
    table.upsample2 = upsample2<T>;
    table.upsample2_backward = upsample2_backward<T>;
}

}  // namespace

void fill_conv(Backend& backend) {
    fill_table(backend.f32);
    fill_table(backend.f64);
    backend.f32.conv1d_packing = conv1d_packing;
    backend.f32.pack_conv1d = pack_conv1d;
}

}  // namespace mc
