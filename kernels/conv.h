// 1-D convolution over time, channels last: x (B, T, Cin), weight (Cout, Cin, K) in PyTorch's
// layout, y (B, Tout, Cout), Tout = floor((T + 2 padding - dilation (K - 1) - 1) / stride) + 1.
// Zero padding.
#pragma once

#include <compare>

#include "kernels/elementwise.h"
#include "kernels/kernel.h"

namespace mc {

struct ConvShape {
    int64_t batch = 0, t_in = 0, c_in = 0, c_out = 0, kernel = 1, stride = 1, padding = 0,
            dilation = 1;
    int64_t t_out() const {
        return (t_in + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1;
    }
    auto operator<=>(const ConvShape&) const = default;
};

// How a device keeps a weight that serves many convolutions. Packings of one weight with the same
// `layout` have the same bytes.
struct ConvPacking {
    int layout = 0;
    int64_t bytes = 0;  // 0: w as it is will do
};

template <class T>
struct ConvKernels {
    // y = conv(x, w) + bias (null: none), then relu if the flag is set. `packed`: w as pack_conv1d
    // left it for a shape with the same layout, the same bits of y; null: w alone.
    Kernel<T*, const T*, const T*, const void*, const T*, bool, const ConvShape&> conv1d{
        "conv1d"};  // (y, x, w, packed, bias, relu, shape)
    // (optional; T float, and both or none) The packing that suits a shape, of any batch; and dst
    // (its bytes) = w in it: (dst, w, shape).
    ConvPacking (*conv1d_packing)(const ConvShape&) = nullptr;
    Kernel<void*, const T*, const ConvShape&> pack_conv1d{"pack_conv1d"};
    // dx overwritten (null: skipped); dw (Cout, Cin, K) and dbias (Cout) ADDED to (null: skipped).
    Kernel<T*, T*, T*, const T*, const T*, const T*, const ConvShape&> conv1d_backward{
        "conv1d_backward"};  // (dx, dw, dbias, dy, x, w, shape)
    // y (B, 2T, C): every frame twice.
    Kernel<T*, const T*, int64_t, int64_t, int64_t> upsample2{"upsample2"};  // (y, x, B, T, C)
    // dx (B, T, C) = dy[2t] + dy[2t+1].
    Kernel<T*, const T*, int64_t, int64_t, int64_t> upsample2_backward{"upsample2_backward"};
};

}  // namespace mc
