// Winograd's minimal filtering F(2,3) for convolutions with a kernel of 3 and stride 1: two outputs
// from four products where the sum asks for six (Winograd, "Arithmetic complexity of computations",
// 1980; Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016).
//
// A tile is the outputs t and t + d, d the dilation, of the padded input's frames t, t + d, t + 2d
// and t + 3d. A sample's outputs are cut into blocks of 2d frames, which hold the tiles of
// t = 2d block + r, r in [0, d); at the end of the sample a tile may lack its second output, and
// none lacks the first.
//
//     V = d0 - d2, d1 + d2, d2 - d1, d1 - d3          (4, tiles, Cin)
//     U = g0, (g0 + g1 + g2) / 2, (g0 - g1 + g2) / 2, g2      (4, Cout, Cin)
//     M_j = V_j U_j^T                                 (4, tiles, Cout)
//     y0 = M_1 + M_2 + M_3, y1 = M_2 - M_3 - M_4, then bias and relu
//
// and backward the transposed maps. A sample's result is the same bits wherever in whatever batch
// it stands; gradients of the weight are added up in the order of the batch. In f32 the root mean
// square errors are 0.9 to 1.4 times the direct sum's. A value that is not finite reaches the
// elements of y and dx that the direct sum would carry it to, of dw the other taps too; where that
// had an infinity, here may be a NaN.
#pragma once

#include <algorithm>

#include "kernels/conv.h"

namespace mc {

// Tiles of a sample.
inline int64_t winograd_tiles(const ConvShape& shape) {
    const int64_t t_out = shape.t_out(), d = shape.dilation;
    return t_out / (2 * d) * d + std::min(t_out % (2 * d), d);
}

// U as products read it (`packed` below), of 4 times packed_bytes(f32, Cin, Cout); for more than 4
// output channels.
void winograd_pack(Context& context, void* dst, const float* w, const ConvShape& shape);

// Whether this way is the faster one; of a sample's shape alone, so that its result does not depend
// on the batch around it.
bool winograd_applies(const ConvShape& shape);

// ConvKernels' conv1d and conv1d_backward (without dbias) for a kernel of 3, stride 1, and at least
// one output.
void winograd_conv1d(Context& context, float* y, const float* x, const float* w, const void* packed,
                     const float* bias, bool relu, const ConvShape& shape);
void winograd_conv1d(Context& context, double* y, const double* x, const double* w,
                     const void* packed, const double* bias, bool relu, const ConvShape& shape);
void winograd_conv1d_backward(Context& context, float* dx, float* dw, const float* dy,
                              const float* x, const float* w, const ConvShape& shape);
void winograd_conv1d_backward(Context& context, double* dx, double* dw, const double* dy,
                              const double* x, const double* w, const ConvShape& shape);

}  // namespace mc
