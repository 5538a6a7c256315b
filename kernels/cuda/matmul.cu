// Matrix products: our own tiled kernel, in f32 and f64, with the epilogue on a tile in registers.
#include "kernels/matmul.h"

#include "kernels/cuda/fill.h"
#include "kernels/cuda/gemm_tile.h"

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
void matmul(Context& context, const MatmulArgs<T>& args) {
    gemm(context, args);
}

}  // namespace

template <class T>
void gemm(Context& context, const MatmulArgs<T>& args, Tile tile) {
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
