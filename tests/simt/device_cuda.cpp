// CUDA as the device under test: every entry stages the host memory that it is handed. What a call
// reads and writes follows from the entry's contract alone (kernels/*.h). Layers:
// device_cuda_layers.cpp.
#include <algorithm>
#include <vector>

#include "tests/kernels/device_under_test.h"
#include "tests/simt/device_cuda.h"

namespace mc::testing {

const DeviceUnderTest& device_under_test() {
    static const DeviceUnderTest device{DeviceType::cuda, "cuda: " + cuda_description()};
    return device;
}

namespace {

template <class T>
void elementwise(ElementwiseKernels<T>& table) {
    table.binary = [](Context&, BinaryOp op, T* dst, const T* a, const T* b,
                      const StridedLoop& loop) {
        Staging s;
        int64_t count = 1;
        for (int i = 0; i < loop.dims; ++i) count *= loop.size[i];
        s.write(dst, count);
        s.strided(a, loop, loop.stride_a, sizeof(T), false);
        s.strided(b, loop, loop.stride_b, sizeof(T), false);
        s.upload();
        cuda_table<T>().binary(context(), op, s(dst), s(a), s(b), loop);
        s.download();
    };
    table.unary = [](Context&, UnaryOp op, T param, T* dst, const T* src, int64_t n) {
        Staging s;
        s.write(dst, n);
        s.read(src, n);
        s.upload();
        cuda_table<T>().unary(context(), op, param, s(dst), s(src), n);
        s.download();
    };
    table.unary_backward = [](Context&, UnaryOp op, T param, T* dst, const T* grad, const T* x,
                              int64_t n) {
        Staging s;
        s.write(dst, n);
        s.read(grad, n);
        s.read(x, n);
        s.upload();
        cuda_table<T>().unary_backward(context(), op, param, s(dst), s(grad), s(x), n);
        s.download();
    };
    table.affine = [](Context&, T* dst, const T* src, T alpha, T beta, int64_t n) {
        Staging s;
        s.write(dst, n);
        s.read(src, n);
        s.upload();
        cuda_table<T>().affine(context(), s(dst), s(src), alpha, beta, n);
        s.download();
    };
    table.axpy = [](Context&, T* dst, const T* src, T alpha, int64_t n) {
        Staging s;
        s.write(dst, n);
        s.read(src, n);
        s.upload();
        cuda_table<T>().axpy(context(), s(dst), s(src), alpha, n);
        s.download();
    };
    table.fill = [](Context&, T* dst, T value, int64_t n) {
        Staging s;
        s.write(dst, n);
        s.upload();
        cuda_table<T>().fill(context(), s(dst), value, n);
        s.download();
    };
    table.select = [](Context&, T* dst, const bool* cond, const T* a, const T* b, int64_t n) {
        Staging s;
        s.write(dst, n);
        s.read(cond, n);
        s.read(a, n);
        s.read(b, n);
        s.upload();
        cuda_table<T>().select(context(), s(dst), s(cond), s(a), s(b), n);
        s.download();
    };
    table.dropout = [](Context&, T* dst, const T* src, double p, RandomStream random, int64_t n) {
        Staging s;
        s.write(dst, n);
        s.read(src, n);
        s.upload();
        cuda_table<T>().dropout(context(), s(dst), s(src), p, random, n);
        s.download();
    };
    table.epilogue_backward = [](Context&,
                                 const typename ElementwiseKernels<T>::EpilogueBackwardArgs& args) {
        Staging s;
        auto a = args;
        const int64_t n = a.rows * a.cols;
        s.write(a.dz, n);
        s.write(a.dbias, a.cols);
        s.read(a.dy, n);
        s.read(a.z, n);
        s.upload();
        a.dz = s(a.dz);
        a.dbias = s(a.dbias);
        a.dy = s(a.dy);
        a.z = s(a.z);
        cuda_table<T>().epilogue_backward(context(), a);
        s.download();
    };
}

template <class T>
void reduce(ReduceKernels<T>& table) {
    table.sum = [](Context&, T* dst, const T* src, T scale, int64_t outer, int64_t n,
                   int64_t inner) {
        Staging s;
        s.write(dst, outer * inner);
        s.read(src, outer * n * inner);
        s.upload();
        cuda_table<T>().sum(context(), s(dst), s(src), scale, outer, n, inner);
        s.download();
    };
    table.max = [](Context&, T* dst, int64_t* index, const T* src, int64_t outer, int64_t n,
                   int64_t inner) {
        Staging s;
        s.write(dst, outer * inner);
        s.write(index, outer * inner);
        s.read(src, outer * n * inner);
        s.upload();
        cuda_table<T>().max(context(), s(dst), s(index), s(src), outer, n, inner);
        s.download();
    };
    using Array = typename ReduceKernels<T>::Array;
    table.sum_of_squares = [](Context&, double* dst, const Array* host, int64_t count) {
        std::vector<Array> arrays(host, host + count);
        Staging s;
        s.write(dst, count);
        for (const Array& a : arrays) s.read(a.data, a.n);
        s.upload();
        for (Array& a : arrays) a.data = s(a.data);
        cuda_table<T>().sum_of_squares(context(), s(dst), arrays.data(), count);
        std::fill(arrays.begin(), arrays.end(), Array{nullptr, 1});  // read within the call
        s.download();
    };
    table.find_non_finite = [](Context&, int64_t* dst, const T* src, int64_t n) {
        Staging s;
        s.write(dst, 1);
        s.read(src, n);
        s.upload();
        cuda_table<T>().find_non_finite(context(), s(dst), s(src), n);
        s.download();
    };
    table.top_k = [](Context&, int64_t* index, const T* src, int64_t rows, int64_t n, int64_t k) {
        Staging s;
        s.write(index, rows * k);
        s.read(src, rows * n);
        s.upload();
        cuda_table<T>().top_k(context(), s(index), s(src), rows, n, k);
        s.download();
    };
    table.cumsum = [](Context&, T* dst, const T* src, int64_t outer, int64_t n, int64_t inner,
                      bool reverse) {
        Staging s;
        s.write(dst, outer * n * inner);
        s.read(src, outer * n * inner);
        s.upload();
        cuda_table<T>().cumsum(context(), s(dst), s(src), outer, n, inner, reverse);
        s.download();
    };
}

template <class T>
void matmul(MatmulKernels<T>& table) {
    table.matmul = [](Context&, const MatmulArgs<T>& host) {
        Staging s;
        MatmulArgs<T> a = host;
        const auto matrix = [&](int64_t stride, int64_t rows, int64_t cols, int64_t ld) {
            const int64_t one = extent(rows, cols, ld);
            return a.batch > 0 && one > 0 ? (a.batch - 1) * stride + one : 0;
        };
        const int64_t c = matrix(a.stride_c, a.m, a.n, a.ldc);
        s.write(a.c, c);
        s.write(a.epilogue.before_activation, c);
        s.read(a.epilogue.bias, a.n);
        s.read(static_cast<const uint16_t*>(a.packed_b.data),
               packed_bytes(a.packed_b.precision, a.k, a.n) / 2);
        s.read(a.a, a.trans_a ? matrix(a.stride_a, a.k, a.m, a.lda)
                              : matrix(a.stride_a, a.m, a.k, a.lda));
        s.read(a.b, a.trans_b ? matrix(a.stride_b, a.n, a.k, a.ldb)
                              : matrix(a.stride_b, a.k, a.n, a.ldb));
        s.upload();
        a.c = s(a.c);
        a.a = s(a.a);
        a.b = s(a.b);
        a.packed_b.data = s(a.packed_b.data);
        a.epilogue.bias = s(a.epilogue.bias);
        a.epilogue.before_activation = s(a.epilogue.before_activation);
        cuda_table<T>().matmul(context(), a);
        s.download();
    };
    const auto pack = [&]<Precision precision>(std::integral_constant<Precision, precision>,
                                               auto& kernel) {
        if (!cuda_table<T>().pack_b(precision)) return;
        kernel = [](Context&, void* dst, const T* b, int64_t ldb, bool trans_b, int64_t k,
                    int64_t n) {
            Staging s;
            s.write(static_cast<uint16_t*>(dst), packed_bytes(precision, k, n) / 2);
            s.read(b, trans_b ? extent(n, k, ldb) : extent(k, n, ldb));
            s.upload();
            cuda_table<T>().pack_b(precision)(context(), s(dst), s(b), ldb, trans_b, k, n);
            s.download();
        };
    };
    pack(std::integral_constant<Precision, Precision::bf16>{}, table.pack_b_bf16);
    pack(std::integral_constant<Precision, Precision::f16>{}, table.pack_b_f16);
}

template <class T>
void optim(OptimKernels<T>& table) {
    using Item = typename OptimKernels<T>::AdamWItem;
    table.adamw = [](Context&, const typename OptimKernels<T>::AdamWArgs& host) {
        std::vector<Item> items(host.items, host.items + host.count);
        Staging s;
        for (const Item& a : items) {
            s.write(a.param, a.n);
            s.write(a.m, a.n);
            s.write(a.v, a.n);
            s.read(a.grad, a.n);
        }
        s.upload();
        for (Item& a : items) {
            a.param = s(a.param);
            a.m = s(a.m);
            a.v = s(a.v);
            a.grad = s(a.grad);
        }
        auto args = host;
        args.items = items.data();
        cuda_table<T>().adamw(context(), args);
        std::fill(items.begin(), items.end(), Item{});  // read within the call
        s.download();
    };
}

template <class T>
void random(RandomKernels<T>& table) {
    table.uniform = [](Context&, T* dst, T low, T high, RandomStream stream, int64_t n) {
        Staging s;
        s.write(dst, n);
        s.upload();
        cuda_table<T>().uniform(context(), s(dst), low, high, stream, n);
        s.download();
    };
    table.normal = [](Context&, T* dst, T mean, T deviation, RandomStream stream, int64_t n) {
        Staging s;
        s.write(dst, n);
        s.upload();
        cuda_table<T>().normal(context(), s(dst), mean, deviation, stream, n);
        s.download();
    };
}

template <class T>
void sort(SortKernels<T>& table) {
    table.argsort = [](Context&, int64_t* order, int64_t* rank, const T* src, int64_t rows,
                       int64_t n) {
        Staging s;
        s.write(order, order ? rows * n : 0);
        s.write(rank, rank ? rows * n : 0);
        s.read(src, rows * n);
        s.upload();
        cuda_table<T>().argsort(context(), s(order), s(rank), s(src), rows, n);
        s.download();
    };
    table.mask_lowest = [](Context&, bool* masked, int64_t* id, const T* src, const int64_t* count,
                           int64_t mask_id, int64_t rows, int64_t n) {
        Staging s;
        s.write(masked, rows * n);
        s.write(id, rows * n);
        s.read(src, rows * n);
        s.read(count, rows);
        s.upload();
        cuda_table<T>().mask_lowest(context(), s(masked), s(id), s(src), s(count), mask_id, rows,
                                    n);
        s.download();
    };
}

// `u_count`: how many uniform draws the entry reads.
void staged_draw(const Kernel<const DrawArgs&>& kernel, DrawArgs a, int64_t u_count) {
    Staging s;
    s.write(a.id, extent(a.rows, 1, a.id_stride));
    s.write(a.probability, extent(a.rows, 1, a.probability_stride));
    s.read(a.drawn, a.rows);
    s.read(a.logits, a.rows * a.classes);
    s.read(a.u, u_count);
    s.upload();
    a.id = s(a.id);
    a.probability = s(a.probability);
    a.drawn = s(a.drawn);
    a.logits = s(a.logits);
    a.u = s(a.u);
    kernel(context(), a);
    s.download();
}

}  // namespace

void elementwise_kernels(Backend& b) {
    elementwise(b.f32);
    elementwise(b.f64);
}
void reduce_kernels(Backend& b) {
    reduce(b.f32);
    reduce(b.f64);
}
void matmul_kernels(Backend& b) {
    matmul(b.f32);
    matmul(b.f64);
}
void optim_kernels(Backend& b) {
    optim(b.f32);
    optim(b.f64);
}
void random_kernels(Backend& b) {
    random(b.f32);
    random(b.f64);
}
void mask_kernels(Backend& b) {
    b.mask.permuted_mask = [](Context&, const PermutedMaskArgs& host) {
        PermutedMaskArgs a = host;
        Staging s;
        s.write(a.hidden, a.batch * (a.n + 2) * (a.n + 2));
        s.read(a.row_id, a.batch * a.n);
        s.read(a.column_id, a.batch * a.n);
        s.read(a.open, a.batch);
        s.upload();
        a.hidden = s(a.hidden);
        a.row_id = s(a.row_id);
        a.column_id = s(a.column_id);
        a.open = s(a.open);
        cuda_backend().mask.permuted_mask(context(), a);
        s.download();
    };
}
void sampling_kernels(Backend& b) {
    b.sampling.draw_categorical = [](Context&, const DrawArgs& a) {
        staged_draw(cuda_backend().sampling.draw_categorical, a, a.rows);
    };
    b.sampling.draw_gumbel = [](Context&, const DrawArgs& a) {
        staged_draw(cuda_backend().sampling.draw_gumbel, a, a.rows * a.classes);
    };
}
void sort_kernels(Backend& b) {
    sort(b.f32);
    sort(b.f64);
}
void copy_kernels(Backend& b) {
    b.copy.gather_strided = [](Context&, void* dst, const void* src, const StridedLoop& loop,
                               size_t size) {
        Staging s;
        int64_t count = 1;
        for (int i = 0; i < loop.dims; ++i) count *= loop.size[i];
        s.write(static_cast<unsigned char*>(dst), count * static_cast<int64_t>(size));
        s.strided(src, loop, loop.stride_a, size, false);
        s.upload();
        cuda_backend().copy.gather_strided(context(), s(dst), s(src), loop, size);
        s.download();
    };
    b.copy.scatter_strided = [](Context&, void* dst, const void* src, const StridedLoop& loop,
                                size_t size) {
        Staging s;
        int64_t count = 1;
        for (int i = 0; i < loop.dims; ++i) count *= loop.size[i];
        s.strided(dst, loop, loop.stride_a, size, true);
        s.read(static_cast<const unsigned char*>(src), count * static_cast<int64_t>(size));
        s.upload();
        cuda_backend().copy.scatter_strided(context(), s(dst), s(src), loop, size);
        s.download();
    };
    b.copy.cast = [](Context&, void* dst, DType to, const void* src, DType from, int64_t n) {
        Staging s;
        s.write(static_cast<unsigned char*>(dst), n * static_cast<int64_t>(size_of(to)));
        s.read(static_cast<const unsigned char*>(src), n * static_cast<int64_t>(size_of(from)));
        s.upload();
        cuda_backend().copy.cast(context(), s(dst), to, s(src), from, n);
        s.download();
    };
}

}  // namespace mc::testing
