// Matrix products: by cuBLASLt where it is there, else by our own tiled kernel, with the epilogue
// on a tile in registers.
//
// Operands that are rounded to bf16 or f16 are both laid out along k, in rows of whole 16 bytes
// that end in zeros: B by pack_b_*, once, and A by each product, in scratch memory. So the library
// always gets the transposes and the alignment that tensor cores like best.
#include "kernels/matmul.h"

#include "kernels/convert.h"
#include "kernels/cuda/blaslt.h"
#include "kernels/cuda/fill.h"
#include "kernels/cuda/gemm_tile.h"
#include "kernels/cuda/map.h"

namespace mc::cuda {

namespace {

template <class T>
struct MatmulStore {
    T* c;
    int64_t ldc, stride_c;
    T alpha;
    bool accumulate;
    Epilogue<T> epilogue;

    __device__ void operator()(int64_t batch, int64_t row, int64_t col, T sum) const {
        const int64_t at = batch * stride_c + row * ldc + col;
        T v = alpha * sum;
        if (accumulate) v += c[at];
        if (epilogue.bias) v += epilogue.bias[col];
        if (epilogue.before_activation) epilogue.before_activation[at] = v;
        c[at] = epilogue.activate ? unary_value(epilogue.op, v, epilogue.param) : v;
    }
};

template <class T>
struct Activation {
    bool activate;
    UnaryOp op;
    T param;
    __device__ T operator()(T v) const { return activate ? unary_value(op, v, param) : v; }
};

// By cuBLASLt, with an activation in a pass of its own: the library's gelu is the tanh
// approximation, and its relu loses NaN. False: not by it, nothing was done.
template <class T>
bool library_gemm(Context& context, const MatmulArgs<T>& args, const ProductOperands& operands) {
    const Epilogue<T>& e = args.epilogue;
    const bool pass = e.activate || e.before_activation;
    const bool dense = args.ldc == args.n && (args.batch == 1 || args.stride_c == args.m * args.n);
    if ((pass && !dense) || (args.accumulate && e.before_activation)) return false;
    T* sums = e.before_activation ? e.before_activation : args.c;
    if (!blaslt_product(context, args, operands, sums)) return false;
    if (pass)
        map("matmul", context, Activation<T>{e.activate, e.op, e.param},
            args.batch * args.m * args.n, args.c, static_cast<const T*>(sums));
    return true;
}

template <class T, class A, class B>
void tiled_gemm(Context& context, const MatmulArgs<T>& args, const A& a, const B& b, Tile tile) {
    const MatmulStore<T> store{args.c,     args.ldc,        args.stride_c,
                               args.alpha, args.accumulate, args.epilogue};
    product<T>("matmul", context, args.m, args.n, args.k, args.batch, a, b, store, tile);
}

// ---- Operands rounded to H, bf16_bits or f16_bits ----------------------------------------------

// Elements of 16 bytes of them.
constexpr int kHalves = 8;
constexpr int64_t rounded_depth(int64_t k) {
    return ceil_div(k, kHalves) * kHalves;
}

// dst (rows, rounded_depth(k)) <- rounded src (rows, k) at any two strides; n neighbours a thread.
template <int n, class H>
__global__ void round_rows_kernel(H* dst, const float* src, int64_t stride_i, int64_t stride_k,
                                  int64_t rows, int64_t k) {
    const int64_t packs = rounded_depth(k) / n;
    for (int64_t at = global_thread(); at < rows * packs; at += all_threads()) {
        const int64_t i = at / packs, first = at % packs * n;
        const float* from = src + i * stride_i + first * stride_k;
        Pack<H, n> rounded;
#pragma unroll
        for (int j = 0; j < n; ++j)
            rounded.value[j] = convert<H>(first + j < k ? from[j * stride_k] : 0.0f);
        reinterpret_cast<Pack<H, n>*>(dst)[at] = rounded;
    }
}

template <class H>
void round_rows(const char* op, Context& context, H* dst, const float* src, int64_t stride_i,
                int64_t stride_k, int64_t rows, int64_t k) {
    constexpr int kThreads = 256;
    const int64_t count = rows * rounded_depth(k);
    if (count <= 0) return;
    const bool wide = pack_aligned(dst, kHalves);
    launch(op, context, {walking_blocks(count, wide ? kThreads * kHalves : kThreads), kThreads},
           wide ? round_rows_kernel<kHalves, H> : round_rows_kernel<1, H>, dst, src, stride_i,
           stride_k, rows, k);
}

template <class H>
void pack_b(Context& context, void* dst, const float* b, int64_t ldb, bool trans_b, int64_t k,
            int64_t n) {
    round_rows("pack_b", context, static_cast<H*>(dst), b, trans_b ? ldb : 1, trans_b ? 1 : ldb, n,
               k);
}

template <class H>
struct RoundedOperand {
    const H* data;
    int64_t stride_i;
    bool along_k = true;
    __device__ float operator()(int64_t, int64_t i, int64_t k) const {
        return widen(data[i * stride_i + k]);
    }
};

template <class H>
constexpr DType kDType = std::is_same_v<H, bf16_bits> ? DType::bf16 : DType::f16;

template <class H>
void rounded_gemm(Context& context, const MatmulArgs<float>& args, Tile tile) {
    MatmulArgs<float> rounded = args;
    rounded.k = rounded.lda = rounded.ldb = rounded_depth(args.k);
    rounded.trans_a = false;
    rounded.trans_b = true;
    const DeviceLoan<H> a("matmul", context, args.m * rounded.k);
    round_rows("matmul", context, a.data(), args.a, args.trans_a ? 1 : args.lda,
               args.trans_a ? args.lda : 1, args.m, args.k);
    const H* b = static_cast<const H*>(args.packed_b.data);
    if (tile == Tile::fitting && library_gemm(context, rounded, {kDType<H>, a.data(), b}))
        return;
    tiled_gemm(context, rounded, RoundedOperand<H>{a.data(), rounded.k},
               RoundedOperand<H>{b, rounded.k}, tile);
}

template <class T>
void matmul(Context& context, const MatmulArgs<T>& args) {
    gemm(context, args);
}

}  // namespace

template <class T>
void gemm(Context& context, const MatmulArgs<T>& args, Tile tile) {
    if (args.m <= 0 || args.n <= 0 || args.batch <= 0) return;
    if constexpr (std::is_same_v<T, float>)
        if (args.packed_b.data) {
            const bool bf16 = args.packed_b.precision == Precision::bf16;
            return (bf16 ? rounded_gemm<bf16_bits> : rounded_gemm<f16_bits>)(context, args, tile);
        }
    if (tile == Tile::fitting && library_gemm(context, args, {DTypeOf<T>::value, args.a, args.b}))
        return;
    const MatrixOperand<T> a{args.a, args.trans_a ? 1 : args.lda, args.trans_a ? args.lda : 1,
                             args.stride_a, !args.trans_a};
    const MatrixOperand<T> b{args.b, args.trans_b ? args.ldb : 1, args.trans_b ? 1 : args.ldb,
                             args.stride_b, args.trans_b};
    tiled_gemm(context, args, a, b, tile);
}
template void gemm(Context&, const MatmulArgs<float>&, Tile);
template void gemm(Context&, const MatmulArgs<double>&, Tile);

void fill_matmul(Backend& backend) {
    backend.f32.matmul = matmul<float>;
    backend.f32.pack_b_bf16 = pack_b<bf16_bits>;
    backend.f32.pack_b_f16 = pack_b<f16_bits>;
    backend.f64.matmul = matmul<double>;
}

}  // namespace mc::cuda
