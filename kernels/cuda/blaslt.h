// cuBLASLt, NVIDIA's library of matrix products, opened at run time: the same binary runs where it
// is absent, on our own tiles then.
//
// Looked for: libcublasLt.so.13, .so.12, .so, by the loader's paths and in /usr/local/cuda. The
// environment variable MOCLIP_CUBLASLT names another file, or is "off".
//
// Numbers: f32 is f32 (no TF32), f64 is f64; bf16 and f16 operands are multiplied and added in f32,
// by tensor cores. A problem gets its algorithm once, by the library's
// heuristic, from sizes, strides and alignments alone, and a sum that is cut along k is put
// together in a pass of its own: so the bits are the same in every call and every run on the same
// card.
#pragma once

#include <string>

#include "kernels/backend.h"

namespace mc::cuda {

// True if it is there; the first call opens it.
bool blaslt_available();

// One line: "cuBLASLt 13.1.0 (libcublasLt.so.13)", or why there is none.
std::string blaslt_report();

// A and B as they are in memory: of T, or where T is float of bf16 or f16.
struct ProductOperands {
    DType dtype;
    const void *a, *b;
};

// out = alpha op(A) op(B) + (accumulate ? out : 0) + bias: `args` without its a, b, c and
// activation. out (m, n) lies as C would. False if the library is absent or has nothing for this
// problem; nothing was done then.
template <class T>
bool blaslt_product(Context& context, const MatmulArgs<T>& args, const ProductOperands& operands,
                    T* out);

}  // namespace mc::cuda
