// Convolutions by cuDNN 9, NVIDIA's library, opened at run time: the same binary runs where it is
// absent, on our own kernels then (conv.cu, which also says when it is asked).
//
// Looked for: libcudnn.so.9, by the loader's paths and in /usr/local/cuda; that is a small library
// which finds its parts beside itself. The environment variable MOCLIP_CUDNN names another file
// (the pip wheel's is site-packages/nvidia/cudnn/lib/libcudnn.so.9), is "on", or is "off".
//
// Numbers: f32 is f32 (FMA, no TF32), and the bits are the same in every call and every run on the
// same card: a problem gets its algorithm once, by the library's heuristic (never by a clock), from
// its sizes alone, among those that the library calls deterministic and that add up products as
// they are (FFT and Winograd lose digits). cuDNN 9's documentation has nothing in f64 for
// channels-last: such problems are ours.
//
// It is called through cudnnConvolutionForward and its like, which cuDNN 9 calls deprecated and
// keeps: a few functions that say which algorithm is deterministic. The graph API, which replaces
// them, is worth its descriptors where operations are fused. Bias and relu are a pass of conv.cu
// instead: the library's fused call takes a bias without relu in one algorithm alone, and NaN has
// to flow through relu.
#pragma once

#include <string>

#include "kernels/backend.h"

namespace mc::cuda {

// True if it is there; the first call opens it.
bool dnn_available();

// True if MOCLIP_CUDNN is "on" or a file. Opens nothing.
bool dnn_asked_for();

// One line: "cuDNN 9.19.0 (libcudnn.so.9)", or why there is none.
std::string dnn_report();

// The three products of kernels/conv.h, each overwriting its first argument; no bias, no relu. A
// weight is packed (Cout, K, Cin). False if the library is absent or has nothing for this problem
// (among them tensors that do not begin at 16 bytes, or have 2^31 elements); nothing was done then.
template <class T>
bool dnn_conv1d(Context& context, T* y, const T* x, const T* w, const ConvShape& shape);
template <class T>
bool dnn_conv1d_data(Context& context, T* dx, const T* dy, const T* w, const ConvShape& shape);
template <class T>
bool dnn_conv1d_weight(Context& context, T* dw, const T* x, const T* dy, const ConvShape& shape);

}  // namespace mc::cuda
