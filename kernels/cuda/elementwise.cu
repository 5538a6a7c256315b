// Element by element: every entry is bounded by memory, so all that matters is that each byte moves
// once and in wide, neighbouring accesses.
#include "kernels/elementwise.h"

#include "kernels/cuda/fill.h"
#include "kernels/cuda/map.h"
#include "kernels/cuda/math.h"
#include "kernels/cuda/partials.h"
#include "kernels/cuda/philox.h"
#include "kernels/cuda/strided.h"

namespace mc::cuda {

namespace {

constexpr int kThreads = 256;

// ---- Functions of map() ------------------------------------------------------------------------

template <class T>
struct Binary {
    BinaryOp op;
    __device__ T operator()(T a, T b) const {
        switch (op) {
            case BinaryOp::add:
                return a + b;
            case BinaryOp::sub:
                return a - b;
            case BinaryOp::mul:
                return a * b;
            case BinaryOp::div:
                return a / b;
        }
        return a;
    }
};

template <class T>
struct Unary {
    UnaryOp op;
    T param;
    __device__ T operator()(T x) const { return unary_value(op, x, param); }
};

template <class T>
struct UnaryGradient {
    UnaryOp op;
    T param;
    __device__ T operator()(T g, T x) const { return unary_gradient(op, g, x, param); }
};

template <class T>
struct Affine {
    T alpha, beta;
    __device__ T operator()(T x) const { return multiply_add(alpha, x, beta); }
};

template <class T>
struct Axpy {
    T alpha;
    __device__ T operator()(T sum, T x) const { return multiply_add(alpha, x, sum); }
};

template <class T>
struct Constant {
    T value;
    __device__ T operator()() const { return value; }
};

template <class T>
struct Select {
    __device__ T operator()(bool condition, T a, T b) const { return condition ? a : b; }
};

// ---- Kernels -----------------------------------------------------------------------------------

template <class T, class Index>
__global__ void binary_kernel(Binary<T> f, T* dst, const T* a, const T* b, LoopIndex<Index> loop,
                              int64_t count) {
    for (int64_t i = global_thread(); i < count; i += all_threads()) {
        int64_t at_a, at_b;
        loop.offsets(i, at_a, at_b);
        dst[i] = f(a[at_a], b[at_b]);
    }
}

// A Philox block, 8 elements, a thread and step: two vectors where all pointers are aligned.
template <bool aligned, class T>
__global__ void dropout_kernel(T* dst, const T* src, uint32_t limit, T scale, RandomStream random,
                               int64_t count) {
    const int64_t blocks = ceil_div(count, 8);
    for (int64_t block = global_thread(); block < blocks; block += all_threads()) {
        uint32_t bits[8];
        drop_bits(bits, random, static_cast<uint64_t>(8 * block));
        if (aligned && 8 * block + 8 <= count) {
            Pack<T, 8> v = load_pack<8>(src, block);
#pragma unroll
            for (int j = 0; j < 8; ++j) v.value[j] = bits[j] < limit ? T{0} : v.value[j] * scale;
            reinterpret_cast<Pack<T, 8>*>(dst)[block] = v;
            continue;
        }
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            const int64_t i = 8 * block + j;
            if (i < count) dst[i] = bits[j] < limit ? T{0} : src[i] * scale;
        }
    }
}

template <class T>
using EpilogueBackwardArgs = typename ElementwiseKernels<T>::EpilogueBackwardArgs;

// n neighbouring columns a thread: a Philox block of them, where all rows begin with one, or one.
// A block has 32 n columns and one part of the rows; its threads take every eighth row. partial
// (parts, cols) = the sums of the columns, or null.
template <int n, class T>
__global__ void epilogue_backward_kernel(EpilogueBackwardArgs<T> a, uint32_t limit, T scale,
                                         T* partial, int64_t rows_per_part) {
    __shared__ T sums[kColumnThreads][32 * n];
    const int64_t col = (static_cast<int64_t>(blockIdx.x) * 32 + threadIdx.x) * n;
    const int64_t part = blockIdx.y, begin = part * rows_per_part;
    const int64_t end = begin + rows_per_part < a.rows ? begin + rows_per_part : a.rows;
    T total[n] = {};
    if (col < a.cols) {
        for (int64_t row = begin + threadIdx.y; row < end; row += kColumnThreads) {
            const int64_t first = row * a.cols + col, pack = first / n;
            Pack<T, n> v = load_pack<n>(a.dy, pack);
            if (limit > 0) {
                uint32_t bits[n];
                drop_bits(bits, a.random, static_cast<uint64_t>(first));
#pragma unroll
                for (int i = 0; i < n; ++i)
                    v.value[i] = bits[i] < limit ? T{0} : v.value[i] * scale;
            }
            if (a.z)
                v = map_pack<T, n>(UnaryGradient<T>{a.op, a.param}, v, load_pack<n>(a.z, pack));
            if (a.dz) reinterpret_cast<Pack<T, n>*>(a.dz)[pack] = v;
#pragma unroll
            for (int i = 0; i < n; ++i) total[i] += v.value[i];
        }
    }
    if (!partial) return;  // all threads alike
#pragma unroll
    for (int i = 0; i < n; ++i) sums[threadIdx.y][threadIdx.x * n + i] = total[i];
    __syncthreads();
    if (threadIdx.y != 0 || col >= a.cols) return;
#pragma unroll
    for (int i = 0; i < n; ++i) {
        T sum = total[i];
        for (int y = 1; y < kColumnThreads; ++y) sum += sums[y][threadIdx.x * n + i];
        partial[part * a.cols + col + i] = sum;
    }
}

// ---- Launchers ---------------------------------------------------------------------------------

template <class T>
void binary(Context& context, BinaryOp op, T* dst, const T* a, const T* b,
            const StridedLoop& full_loop) {
    const int64_t count = element_count(full_loop);
    if (count == 0) return;
    const StridedLoop loop = collapse(full_loop);
    if (loop.dims == 1 && loop.stride_a[0] == 1 && loop.stride_b[0] == 1)
        return map("binary", context, Binary<T>{op}, count, dst, a, b);
    with_loop_index(loop, [&](auto index) {
        launch("binary", context, {walking_blocks(count, kThreads), kThreads},
               binary_kernel<T, std::remove_reference_t<decltype(index.size[0])>>, Binary<T>{op},
               dst, a, b, index, count);
    });
}

template <class T>
void unary(Context& context, UnaryOp op, T param, T* dst, const T* src, int64_t n) {
    map("unary", context, Unary<T>{op, param}, n, dst, src);
}

template <class T>
void unary_backward(Context& context, UnaryOp op, T param, T* dst, const T* grad, const T* x,
                    int64_t n) {
    map("unary_backward", context, UnaryGradient<T>{op, param}, n, dst, grad, x);
}

template <class T>
void affine(Context& context, T* dst, const T* src, T alpha, T beta, int64_t n) {
    map("affine", context, Affine<T>{alpha, beta}, n, dst, src);
}

template <class T>
void axpy(Context& context, T* dst, const T* src, T alpha, int64_t n) {
    map("axpy", context, Axpy<T>{alpha}, n, dst, static_cast<const T*>(dst), src);
}

template <class T>
void fill_with(Context& context, T* dst, T value, int64_t n) {
    map("fill", context, Constant<T>{value}, n, dst);
}

template <class T>
void select(Context& context, T* dst, const bool* cond, const T* a, const T* b, int64_t n) {
    map("select", context, Select<T>{}, n, dst, cond, a, b);
}

template <class T>
void dropout(Context& context, T* dst, const T* src, double p, RandomStream random, int64_t n) {
    if (n <= 0) return;
    const DropRule rule(p);
    const bool aligned = pack_aligned(dst, 8) && pack_aligned(src, 8);
    launch("dropout", context, {walking_blocks(n, 8 * kThreads), kThreads},
           aligned ? dropout_kernel<true, T> : dropout_kernel<false, T>, dst, src, rule.limit,
           static_cast<T>(rule.scale), random, n);
}

template <class T>
void epilogue_backward(Context& context, const EpilogueBackwardArgs<T>& a) {
    if (a.rows <= 0 || a.cols <= 0) return;
    const char* op = "epilogue_backward";
    const RowParts parts(a.rows);
    const DeviceLoan<T> partial(op, context, a.dbias ? parts.count * a.cols : 0);
    const DropRule rule(a.p);
    const auto run = [&](auto wide) {
        constexpr int n = decltype(wide)::value;
        const dim3 grid(grid_size(op, ceil_div(a.cols, 32 * n)),
                        static_cast<unsigned>(parts.count));
        launch(op, context, {grid, dim3(32, kColumnThreads)}, epilogue_backward_kernel<n, T>, a,
               rule.limit, static_cast<T>(rule.scale), partial.data(), parts.rows);
    };
    if (a.cols % 8 == 0 && pack_aligned(a.dy, 8) && pack_aligned(a.z, 8) && pack_aligned(a.dz, 8))
        run(std::integral_constant<int, 8>());
    else
        run(std::integral_constant<int, 1>());
    if (a.dbias)
        add_partials(op, context, a.dbias, static_cast<T*>(nullptr), partial.data(), parts.count,
                     a.cols, a.cols);
}

template <class T>
void fill_table(ElementwiseKernels<T>& table) {
    table.binary = binary<T>;
    table.unary = unary<T>;
    table.unary_backward = unary_backward<T>;
    table.affine = affine<T>;
    table.axpy = axpy<T>;
    table.fill = fill_with<T>;
    table.select = select<T>;
    table.dropout = dropout<T>;
    table.epilogue_backward = epilogue_backward<T>;
}

}  // namespace

void fill_elementwise(Backend& backend) {
    fill_table(backend.f32);
    fill_table(backend.f64);
}

}  // namespace mc::cuda
