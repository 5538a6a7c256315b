// Matrix products in f32 and f64: by cuBLASLt where it is there, else by our own tiled kernel, with
// the epilogue on a tile in registers.
#include "kernels/matmul.h"

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
bool library_gemm(Context& context, const MatmulArgs<T>& args) {
    const Epilogue<T>& e = args.epilogue;
    const bool pass = e.activate || e.before_activation;
    const bool dense = args.ldc == args.n && (args.batch == 1 || args.stride_c == args.m * args.n);
    if ((pass && !dense) || (args.accumulate && e.before_activation)) return false;
    T* sums = e.before_activation ? e.before_activation : args.c;
    if (!blaslt_product(context, args, sums)) return false;
    if (pass)
        map("matmul", context, Activation<T>{e.activate, e.op, e.param},
            args.batch * args.m * args.n, args.c, static_cast<const T*>(sums));
    return true;
}

template <class T>
void matmul(Context& context, const MatmulArgs<T>& args) {
    gemm(context, args);
}

}  // namespace

template <class T>
void gemm(Context& context, const MatmulArgs<T>& args, Tile tile) {
    if (args.m <= 0 || args.n <= 0 || args.batch <= 0) return;
    if (tile == Tile::fitting && library_gemm(context, args)) return;
    const MatrixOperand<T> a{args.a, args.trans_a ? 1 : args.lda, args.trans_a ? args.lda : 1,
                             args.stride_a, !args.trans_a};
    const MatrixOperand<T> b{args.b, args.trans_b ? args.ldb : 1, args.trans_b ? 1 : args.ldb,
                             args.stride_b, args.trans_b};
    const MatmulStore<T> store{args.c,     args.ldc,        args.stride_c,
                               args.alpha, args.accumulate, args.epilogue};
    product<T>("matmul", context, args.m, args.n, args.k, args.batch, a, b, store, tile);
}
template void gemm(Context&, const MatmulArgs<float>&, Tile);
template void gemm(Context&, const MatmulArgs<double>&, Tile);

void fill_matmul(Backend& backend) {
    backend.f32.matmul = matmul<float>;
    backend.f64.matmul = matmul<double>;
}

}  // namespace mc::cuda
