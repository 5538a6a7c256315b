// 1-D convolution as a product whose operand is read in place: element (b, t), (tap, channel) of
// the columns that the CPU lays out is looked up in x when a slice is loaded, so no column is ever
// stored. The weight is repacked once a call, so that neighbours in k are neighbours in memory.
//
// Where cuBLASLt is there, the same operands are laid out in scratch memory for it, a block of
// samples at a time: its product wins more than the columns cost. Where cuDNN is asked for, it
// takes what cudnn_chosen() says.
#include "kernels/conv.h"

#include <algorithm>
#include <atomic>

#include "kernels/cuda.h"
#include "kernels/cuda/blaslt.h"
#include "kernels/cuda/dnn.h"
#include "kernels/cuda/fill.h"
#include "kernels/cuda/gemm_tile.h"
#include "kernels/cuda/map.h"

namespace mc::cuda {

namespace {

constexpr int kThreads = 256;

// One tap that sees its own frame.
bool pointwise(const ConvShape& s) {
    return s.kernel == 1 && s.stride == 1 && s.padding == 0;
}

// The shape in 32 bits: divisions by it are what a lookup costs.
struct Taps {
    uint32_t t_in, t_out, c_in, c_out;
    int32_t stride, padding, dilation;

    explicit Taps(const ConvShape& s)
        : t_in(static_cast<uint32_t>(s.t_in)),
          t_out(static_cast<uint32_t>(s.t_out())),
          c_in(static_cast<uint32_t>(s.c_in)),
          c_out(static_cast<uint32_t>(s.c_out)),
          stride(static_cast<int32_t>(s.stride)),
          padding(static_cast<int32_t>(s.padding)),
          dilation(static_cast<int32_t>(s.dilation)) {}

    // The same where an element is n channels.
    Taps in_packs(uint32_t n) const {
        Taps taps = *this;
        taps.c_in /= n;
        taps.c_out /= n;
        return taps;
    }
};

// What output frame `row` (b, t) sees at `column` (tap, channel): zero in the padding.
template <class T>
__device__ inline T column_value(const T* x, const Taps& taps, int64_t row, int64_t column) {
    const uint32_t r = static_cast<uint32_t>(row), c = static_cast<uint32_t>(column);
    const uint32_t sample = r / taps.t_out, tap = c / taps.c_in;
    const int32_t at = static_cast<int32_t>(r - sample * taps.t_out) * taps.stride - taps.padding +
                       static_cast<int32_t>(tap) * taps.dilation;
    if (at < 0 || at >= static_cast<int32_t>(taps.t_in)) return T{};
    return x[(static_cast<int64_t>(sample) * taps.t_in + at) * taps.c_in + (c - tap * taps.c_in)];
}

template <class T>
struct Columns {  // operand (row, column)
    const T* x;
    Taps taps;
    bool along_k = true;
    __device__ T operator()(int64_t, int64_t row, int64_t column) const {
        return column_value(x, taps, row, column);
    }
};

template <class T>
struct ColumnsAcross {  // operand (column, row): k runs over the rows
    const T* x;
    Taps taps;
    bool along_k = false;
    __device__ T operator()(int64_t, int64_t column, int64_t row) const {
        return column_value(x, taps, row, column);
    }
};

// What input frame (b, t) gave to, at (tap, output channel): the output frame's gradient, or zero
// where that tap of no output frame looked at it.
template <class T>
struct OutputGradients {
    const T* dy;
    Taps taps;
    bool along_k = true;
    __device__ T operator()(int64_t, int64_t row, int64_t column) const {
        const uint32_t r = static_cast<uint32_t>(row), c = static_cast<uint32_t>(column);
        const uint32_t sample = r / taps.t_in, tap = c / taps.c_out;
        const int32_t at = static_cast<int32_t>(r - sample * taps.t_in) + taps.padding -
                           static_cast<int32_t>(tap) * taps.dilation;
        const int32_t frame = at / taps.stride;
        if (at < 0 || frame * taps.stride != at || frame >= static_cast<int32_t>(taps.t_out))
            return T{};
        return dy[(static_cast<int64_t>(sample) * taps.t_out + frame) * taps.c_out +
                  (c - tap * taps.c_out)];
    }
};

template <class T>
struct OutputStore {
    T* y;
    const T* bias;
    int64_t c_out;
    bool relu;
    __device__ void operator()(int64_t, int64_t row, int64_t col, T sum) const {
        const T v = bias ? sum + bias[col] : sum;
        y[row * c_out + col] = relu && v < T{0} ? T{0} : v;
    }
};

template <class T>
struct PlainStore {
    T* dst;
    int64_t cols;
    __device__ void operator()(int64_t, int64_t row, int64_t col, T sum) const {
        dst[row * cols + col] = sum;
    }
};

// dw (Cout, Cin, K) += element (co, (tap, ci)).
template <class T>
struct WeightStore {
    T* dw;
    int64_t c_in, kernel;
    __device__ void operator()(int64_t, int64_t co, int64_t column, T sum) const {
        const int64_t tap = column / c_in, ci = column - tap * c_in;
        dw[(co * c_in + ci) * kernel + tap] += sum;
    }
};

// packed <- w (Cout, Cin, K): element (co, ci, tap) to co * stride_co + tap * stride_tap + ci.
template <class T>
__global__ void pack_weight_kernel(T* packed, const T* w, int64_t c_out, int64_t c_in,
                                   int64_t kernel, int64_t stride_co, int64_t stride_tap) {
    const int64_t count = c_out * c_in * kernel;
    for (int64_t i = global_thread(); i < count; i += all_threads()) {
        const int64_t ci = i % c_in, tap = i / c_in % kernel, co = i / c_in / kernel;
        packed[co * stride_co + tap * stride_tap + ci] = w[(co * c_in + ci) * kernel + tap];
    }
}

template <class T>
void pack_weight(const char* op, Context& context, T* packed, const T* w, const ConvShape& s,
                 int64_t stride_co, int64_t stride_tap) {
    const int64_t count = s.c_out * s.c_in * s.kernel;
    if (count == 0) return;
    launch(op, context, {walking_blocks(count, kThreads), kThreads}, pack_weight_kernel<T>, packed,
           w, s.c_out, s.c_in, s.kernel, stride_co, stride_tap);
}

// ---- Operands in scratch memory ----------------------------------------------------------------

// dst (rows, cols) = operand.
template <class T, class Operand>
__global__ void lay_out_kernel(T* dst, Operand operand, int64_t rows, int64_t cols) {
    for (int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y; row < rows;
         row += static_cast<int64_t>(gridDim.x) * blockDim.y)
        for (int64_t col = threadIdx.x; col < cols; col += blockDim.x)
            dst[row * cols + col] = operand(0, row, col);
}

// Columns or OutputGradients as a matrix (rows, cols), `channels` of which are a tap's.
template <template <class> class Operand, class T>
class LaidOut {
  public:
    LaidOut(const char* op, Context& context, const T* src, const ConvShape& s, int64_t rows,
            int64_t cols, int64_t channels)
        : itself_(pointwise(s)), src_(src), matrix_(op, context, itself_ ? 0 : rows * cols) {
        if (itself_) return;
        constexpr int n = kPack<T>;
        const Launch shape{walking_blocks(rows, 4), dim3(64, 4)};
        if (channels % n == 0 && pack_aligned(src, n)) {
            using P = Pack<T, n>;
            launch(op, context, shape, lay_out_kernel<P, Operand<P>>,
                   reinterpret_cast<P*>(matrix_.data()),
                   Operand<P>{reinterpret_cast<const P*>(src), Taps(s).in_packs(n)}, rows,
                   cols / n);
        } else {
            launch(op, context, shape, lay_out_kernel<T, Operand<T>>, matrix_.data(),
                   Operand<T>{src, Taps(s)}, rows, cols);
        }
    }
    const T* data() const { return itself_ ? src_ : matrix_.data(); }

  private:
    bool itself_;
    const T* src_;
    DeviceLoan<T> matrix_;
};

// True if there is somebody to multiply a laid-out matrix (rows, cols).
bool lays_out(int64_t rows, int64_t cols) {
    return rows * cols > 0 && blaslt_available();
}

// What is laid out at a time, in bytes: it is read right after it is written, and the second cache
// of every card that the build is for has room for it (A100: 40 MB, H100: 50 MB). It also bounds
// the scratch memory of any batch. The same on every card, as the bits of a weight's gradient
// depend on it.
constexpr int64_t kBlockBytes = int64_t{32} << 20;

// Calls f(first sample, the shape with that block's samples) for all blocks of samples, in order.
// `elements`: of a sample's matrix.
template <class T, class F>
void each_block(const ConvShape& s, int64_t elements, F&& f) {
    const int64_t bytes = elements * static_cast<int64_t>(sizeof(T));
    const int64_t samples =
        pointwise(s) ? s.batch : std::clamp<int64_t>(kBlockBytes / bytes, 1, s.batch);
    ConvShape block = s;
    for (int64_t first = 0; first < s.batch; first += samples) {
        block.batch = std::min(samples, s.batch - first);
        f(first, block);
    }
}

// C (m, n) = A (m, k) B (k, n), dense.
template <class T>
MatmulArgs<T> dense_product(T* c, const T* a, const T* b, int64_t m, int64_t n, int64_t k) {
    MatmulArgs<T> args;
    args.c = c;
    args.a = a;
    args.b = b;
    args.m = m;
    args.n = args.ldc = args.ldb = n;
    args.k = args.lda = k;
    return args;
}

// Stores the elements of a product (rows, cols) that a library left in `sums`.
template <class Store, class T>
__global__ void store_kernel(Store store, const T* sums, int64_t rows, int64_t cols) {
    for (int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y; row < rows;
         row += static_cast<int64_t>(gridDim.x) * blockDim.y)
        for (int64_t col = threadIdx.x; col < cols; col += blockDim.x)
            store(0, row, col, sums[row * cols + col]);
}

template <class Store, class T>
void store_all(const char* op, Context& context, const Store& store, const T* sums, int64_t rows,
               int64_t cols) {
    launch(op, context, {walking_blocks(rows, 4), dim3(64, 4)}, store_kernel<Store, T>, store, sums,
           rows, cols);
}

// ---- Who convolves -----------------------------------------------------------------------------

std::atomic<Convolver> convolver{Convolver::chosen};

// Convolver::chosen: whether cuDNN takes a convolution.
//     MOCLIP_CUDNN not set   no: no card has been timed yet, so nothing is known of who wins where
//                            (bench --device cuda --filter conv1d times both)
//     a pointwise one        no, where cuBLASLt is there: it is one product as it stands
//     any other              yes; what the library has nothing for comes back to us
bool cudnn_chosen(const ConvShape& s) {
    return dnn_asked_for() && !(pointwise(s) && blaslt_available());
}

// Calls product(), one of dnn.h's, if cuDNN is to convolve. False: it did not, nothing was done.
template <class Product>
bool by_cudnn(const char* op, const ConvShape& s, Product&& product) {
    const Convolver who = convolver;
    if (who == Convolver::own || (who == Convolver::chosen && !cudnn_chosen(s))) return false;
    if (product()) return true;
    if (who == Convolver::cudnn)
        throw Error(std::string("[") + op + "] cuDNN has nothing for this problem");
    return false;
}

// ---- The kernels of the table ------------------------------------------------------------------

void check_size(const char* op, const ConvShape& s) {
    const int64_t longest = s.t_in > s.t_out() ? s.t_in : s.t_out();
    const int64_t reach = longest * s.stride + s.padding + s.kernel * s.dilation;
    if (s.batch * longest >= int64_t{1} << 32 || reach >= int64_t{1} << 31)
        throw Error(std::string("[") + op + "] size: batch " + std::to_string(s.batch) + " of " +
                    std::to_string(longest) +
                    " frames is beyond 2^32 rows; cut the batch into smaller ones");
}

template <class T>
void conv1d(Context& context, T* y, const T* x, const T* w, const void*, const T* bias, bool relu,
            const ConvShape& s) {
    const int64_t t_out = s.t_out(), width = s.kernel * s.c_in;
    if (s.batch <= 0 || t_out <= 0 || s.c_out <= 0) return;
    check_size("conv1d", s);
    const DeviceLoan<T> packed("conv1d", context, s.c_out * width);  // (Cout, K, Cin)
    pack_weight("conv1d", context, packed.data(), w, s, width, s.c_in);
    const OutputStore<T> store{y, bias, s.c_out, relu};
    if (by_cudnn("conv1d", s, [&] { return dnn_conv1d(context, y, x, packed.data(), s); })) {
        if (bias || relu) store_all("conv1d", context, store, y, s.batch * t_out, s.c_out);
        return;
    }
    if (lays_out(t_out, width)) {
        return each_block<T>(s, t_out * width, [&](int64_t first, const ConvShape& block) {
            const int64_t rows = block.batch * t_out;
            const LaidOut<Columns, T> columns("conv1d", context, x + first * s.t_in * s.c_in, block,
                                              rows, width, s.c_in);
            MatmulArgs<T> args = dense_product<T>(y + first * t_out * s.c_out, columns.data(),
                                                  packed.data(), rows, s.c_out, width);
            args.trans_b = true;
            args.ldb = width;
            args.epilogue.bias = bias;
            args.epilogue.activate = relu;
            gemm(context, args);
        });
    }
    product<T>("conv1d", context, s.batch * t_out, s.c_out, width, 1, Columns<T>{x, Taps(s)},
               MatrixOperand<T>{packed.data(), width, 1, 0, true}, store);
}

// dw (Cout, Cin, K) += the gradient of the weight.
template <class T>
void add_weight_gradient(const char* op, Context& context, T* dw, const T* dy, const T* x,
                         const ConvShape& s) {
    const int64_t rows = s.batch * s.t_out(), width = s.kernel * s.c_in;
    const WeightStore<T> store{dw, s.c_in, s.kernel};
    const DeviceLoan<T> sums(op, context, s.c_out * width);  // (Cout, K, Cin)
    if (by_cudnn(op, s, [&] { return dnn_conv1d_weight(context, sums.data(), x, dy, s); }))
        return store_all(op, context, store, sums.data(), s.c_out, width);
    if (lays_out(s.t_out(), width)) {
        each_block<T>(s, s.t_out() * width, [&](int64_t first, const ConvShape& block) {
            const int64_t part = block.batch * s.t_out();
            const LaidOut<Columns, T> columns(op, context, x + first * s.t_in * s.c_in, block, part,
                                              width, s.c_in);
            MatmulArgs<T> args = dense_product<T>(sums.data(), dy + first * s.t_out() * s.c_out,
                                                  columns.data(), s.c_out, width, part);
            args.trans_a = true;
            args.lda = s.c_out;
            args.accumulate = first > 0;
            gemm(context, args);
        });
        return store_all(op, context, store, sums.data(), s.c_out, width);
    }
    product<T>(op, context, s.c_out, width, rows, 1, MatrixOperand<T>{dy, 1, s.c_out, 0, false},
               ColumnsAcross<T>{x, Taps(s)}, store);
}

// dx = the gradient of the input.
template <class T>
void input_gradient(const char* op, Context& context, T* dx, const T* dy, const T* w,
                    const ConvShape& s) {
    const int64_t rows = s.batch * s.t_in, seen = s.kernel * s.c_out;
    const DeviceLoan<T> packed(op, context, seen * s.c_in);
    if (by_cudnn(op, s, [&] {
            pack_weight(op, context, packed.data(), w, s, s.kernel * s.c_in, s.c_in);
            return dnn_conv1d_data(context, dx, dy, packed.data(), s);
        }))
        return;
    pack_weight(op, context, packed.data(), w, s, s.c_in, s.c_out * s.c_in);  // (K, Cout, Cin)
    if (lays_out(s.t_in, seen)) {
        return each_block<T>(s, s.t_in * seen, [&](int64_t first, const ConvShape& block) {
            const int64_t part = block.batch * s.t_in;
            const LaidOut<OutputGradients, T> gradients(
                op, context, dy + first * s.t_out() * s.c_out, block, part, seen, s.c_out);
            gemm(context, dense_product<T>(dx + first * s.t_in * s.c_in, gradients.data(),
                                           packed.data(), part, s.c_in, seen));
        });
    }
    product<T>(op, context, rows, s.c_in, seen, 1, OutputGradients<T>{dy, Taps(s)},
               MatrixOperand<T>{packed.data(), 1, s.c_in, 0, false}, PlainStore<T>{dx, s.c_in});
}

template <class T>
struct Added {
    __device__ T operator()(T a, T b) const { return a + b; }
};

template <class T>
void conv1d_backward(Context& context, T* dx, T* dw, T* dbias, const T* dy, const T* x, const T* w,
                     const ConvShape& s) {
    const char* op = "conv1d_backward";
    const int64_t t_out = s.t_out();
    if (s.batch <= 0) return;
    if (t_out <= 0 || s.c_out <= 0) {
        if (dx && s.t_in * s.c_in > 0)
            MC_CUDA(op, cudaMemsetAsync(dx, 0,
                                        static_cast<size_t>(s.batch * s.t_in * s.c_in) * sizeof(T),
                                        stream_of(context)));
        return;
    }
    check_size(op, s);
    if (dbias) {
        const DeviceLoan<T> total(op, context, s.c_out);
        sum(context, total.data(), dy, T{1}, 1, s.batch * t_out, s.c_out);
        map(op, context, Added<T>{}, s.c_out, dbias, static_cast<const T*>(dbias),
            static_cast<const T*>(total.data()));
    }
    if (dw) add_weight_gradient(op, context, dw, dy, x, s);
    if (dx) input_gradient(op, context, dx, dy, w, s);
}

// ---- Upsampling --------------------------------------------------------------------------------

template <class T>
__global__ void upsample2_kernel(T* y, const T* x, int64_t count, int64_t channels) {
    for (int64_t i = global_thread(); i < count; i += all_threads()) {
        const int64_t frame = i / channels;
        const T v = x[i];
        y[i + frame * channels] = v;
        y[i + (frame + 1) * channels] = v;
    }
}

template <class T>
__global__ void upsample2_backward_kernel(T* dx, const T* dy, int64_t count, int64_t channels) {
    for (int64_t i = global_thread(); i < count; i += all_threads()) {
        const int64_t frame = i / channels;
        dx[i] = dy[i + frame * channels] + dy[i + (frame + 1) * channels];
    }
}

template <class T>
void upsample2(Context& context, T* y, const T* x, int64_t batch, int64_t frames,
               int64_t channels) {
    const int64_t count = batch * frames * channels;
    if (count <= 0) return;
    launch("upsample2", context, {walking_blocks(count, kThreads), kThreads}, upsample2_kernel<T>,
           y, x, count, channels);
}

template <class T>
void upsample2_backward(Context& context, T* dx, const T* dy, int64_t batch, int64_t frames,
                        int64_t channels) {
    const int64_t count = batch * frames * channels;
    if (count <= 0) return;
    launch("upsample2_backward", context, {walking_blocks(count, kThreads), kThreads},
           upsample2_backward_kernel<T>, dx, dy, count, channels);
}

template <class T>
void fill_table(ConvKernels<T>& table) {
    table.conv1d = conv1d<T>;
    table.conv1d_backward = conv1d_backward<T>;
    table.upsample2 = upsample2<T>;
    table.upsample2_backward = upsample2_backward<T>;
}

}  // namespace

void fill_conv(Backend& backend) {
    fill_table(backend.f32);
    fill_table(backend.f64);
}

}  // namespace mc::cuda

namespace mc {

bool set_cuda_convolver(Convolver who) {
    if (who == Convolver::cudnn) {
        if (!cuda_available()) return false;
        (void)cuda_default_context();  // the library makes its handle on the chosen device
        if (!cuda::dnn_available()) return false;
    }
    cuda::convolver = who;
    return true;
}

}  // namespace mc
