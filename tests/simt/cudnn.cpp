#include "tests/simt/cudnn.h"

#include <cudnn.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <mutex>
#include <vector>

#include "tests/simt/runtime.h"

struct cudnnContext {
    cudaStream_t stream = nullptr;
};
struct cudnnTensorStruct {
    cudnnTensorFormat_t format = CUDNN_TENSOR_NCHW;
    cudnnDataType_t type = CUDNN_DATA_FLOAT;
    int n = 0, c = 0, h = 0, w = 0;  // 0: not set
};
struct cudnnFilterStruct {
    cudnnTensorFormat_t format = CUDNN_TENSOR_NCHW;
    cudnnDataType_t type = CUDNN_DATA_FLOAT;
    int k = 0, c = 0, h = 0, w = 0;
};
struct cudnnConvolutionStruct {
    int padding = 0, stride = 0, dilation = 0;
    cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    cudnnMathType_t math = CUDNN_DEFAULT_MATH;
};

namespace simt {
namespace {

std::mutex mutex;
Convolutions done;

// The four descriptors of a convolution, whichever of them is the result.
struct Problem {
    cudnnTensorStruct x, y;
    cudnnFilterStruct w;
    cudnnConvolutionStruct convolution;

    // A small workspace, where there is one, of an odd size.
    size_t workspace() const { return w.w == 3 ? 1000 : 0; }
    bool f64() const { return x.type == CUDNN_DATA_DOUBLE; }
    // Channels last, in one type, without TF32, and sizes that belong together.
    cudnnStatus_t check() const {
        for (int n : {x.n, x.c, x.h, x.w, y.n, y.c, y.h, y.w, w.k, w.c, w.h, w.w,
                      convolution.stride, convolution.dilation})
            if (n < 1) return CUDNN_STATUS_BAD_PARAM;
        const int frames = (x.w + 2 * convolution.padding - convolution.dilation * (w.w - 1) - 1) /
                               convolution.stride +
                           1;
        if (x.format != CUDNN_TENSOR_NHWC || y.format != x.format || w.format != x.format ||
            y.type != x.type || w.type != x.type || convolution.compute != x.type ||
            convolution.math != CUDNN_FMA_MATH)
            return CUDNN_STATUS_BAD_PARAM;
        if (x.n != y.n || x.c != w.c || y.c != w.k || x.h != 1 || y.h != 1 || w.h != 1 ||
            y.w != frames)
            return CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH;
        return CUDNN_STATUS_SUCCESS;
    }
};

template <class Algorithm>
AlgorithmPerf<Algorithm> found(Algorithm algorithm, size_t memory, cudnnDeterminism_t determinism,
                               cudnnMathType_t math = CUDNN_FMA_MATH,
                               cudnnStatus_t status = CUDNN_STATUS_SUCCESS) {
    return {algorithm, status, -1, memory, determinism, math, {}};
}

// A list as the library's: the best first, whatever it promises. `wanted` is the one that may be
// taken, `other` loses digits, `loose` is not deterministic.
template <class Algorithm>
cudnnStatus_t heuristic(const Problem& p, Algorithm wanted, Algorithm other, Algorithm loose,
                        bool has_wanted, int requested, int* returned,
                        AlgorithmPerf<Algorithm>* results) {
    *returned = 0;
    if (const cudnnStatus_t status = p.check(); status != CUDNN_STATUS_SUCCESS) return status;
    const cudnnStatus_t none = CUDNN_STATUS_NOT_SUPPORTED;
    std::vector<AlgorithmPerf<Algorithm>> list = {
        found(wanted, p.workspace(), CUDNN_DETERMINISTIC, CUDNN_TENSOR_OP_MATH),
        found(other, 0, CUDNN_DETERMINISTIC),
        found(loose, 0, CUDNN_NON_DETERMINISTIC),
        found(wanted, size_t{1} << 40, CUDNN_DETERMINISTIC),
    };
    if (has_wanted) list.push_back(found(wanted, p.workspace(), CUDNN_DETERMINISTIC));
    list.push_back(found(wanted, 0, CUDNN_DETERMINISTIC, CUDNN_FMA_MATH, none));
    *returned = std::min(requested, static_cast<int>(list.size()));
    std::copy_n(list.begin(), *returned, results);
    return CUDNN_STATUS_SUCCESS;
}

// f(y index, x index, w index) for every product of the convolution.
template <class F>
void each_product(const Problem& p, F&& f) {
    const int64_t channels = p.x.c, taps = p.w.w;
    for (int64_t n = 0; n < p.y.n; ++n)
        for (int64_t t = 0; t < p.y.w; ++t)
            for (int64_t tap = 0; tap < taps; ++tap) {
                const int64_t at =
                    t * p.convolution.stride - p.convolution.padding + tap * p.convolution.dilation;
                if (at < 0 || at >= p.x.w) continue;
                for (int64_t k = 0; k < p.y.c; ++k)
                    for (int64_t c = 0; c < channels; ++c)
                        f((n * p.y.w + t) * p.y.c + k, (n * p.x.w + at) * channels + c,
                          (k * taps + tap) * channels + c);
            }
}

template <class T>
bool one_and_zero(const void* alpha, const void* beta) {
    return *static_cast<const T*>(alpha) == 1 && *static_cast<const T*>(beta) == 0;
}

struct Call {
    cudnnHandle_t handle;
    const void *alpha, *beta;
    void* workspace;
    size_t workspace_bytes;
    std::initializer_list<const void*> operands;
};

// Puts body(float or double) on the stream, if the call keeps what it promises.
template <class Body>
cudnnStatus_t checked(const Problem& p, const Call& call, size_t Convolutions::*counter,
                      Body&& body) {
    if (const cudnnStatus_t status = p.check(); status != CUDNN_STATUS_SUCCESS) return status;
    for (const void* operand : call.operands)
        if (reinterpret_cast<uintptr_t>(operand) % 16 != 0)
            return CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER;
    if (call.workspace_bytes < p.workspace() || (p.workspace() > 0 && !call.workspace))
        return CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT;
    if (!(p.f64() ? one_and_zero<double> : one_and_zero<float>)(call.alpha, call.beta))
        return CUDNN_STATUS_BAD_PARAM;
    if (p.w.w == 4 && p.y.c == 13) return CUDNN_STATUS_NOT_SUPPORTED_SHAPE;
    const cudaStream_t stream = call.handle->stream;
    if (p.workspace() > 0 &&
        cudaMemsetAsync(call.workspace, 0xff, p.workspace(), stream) != cudaSuccess)
        return CUDNN_STATUS_BAD_PARAM;
    const auto run = [body](auto zero) { return [body, zero] { body(zero); }; };
    const cudaError_t queued =
        p.f64() ? simt::enqueue(stream, run(double{})) : simt::enqueue(stream, run(float{}));
    if (queued != cudaSuccess) return CUDNN_STATUS_BAD_PARAM;
    const std::lock_guard lock(mutex);
    ++(done.*counter);
    return CUDNN_STATUS_SUCCESS;
}

// dst = the sums of a[...] b[...] over all products, of which `indices` gives those of dst, a, b.
template <class T, class Indices>
void convolve(const Problem& p, int64_t size, void* dst, const void* a, const void* b,
              Indices&& indices) {
    T* sums = static_cast<T*>(dst);
    std::fill_n(sums, size, T{0});
    each_product(p, [&](int64_t y, int64_t x, int64_t w) {
        const auto [at, at_a, at_b] = indices(y, x, w);
        sums[at] += static_cast<const T*>(a)[at_a] * static_cast<const T*>(b)[at_b];
    });
}

struct Indices {
    int64_t dst, a, b;
};

}  // namespace

Convolutions library_convolutions() {
    const std::lock_guard lock(mutex);
    return done;
}

}  // namespace simt

using simt::Problem;

size_t cudnnGetVersion() {
    return 91900;
}
const char* cudnnGetErrorString(cudnnStatus_t status) {
    switch (status) {
        case CUDNN_STATUS_SUCCESS:
            return "CUDNN_STATUS_SUCCESS";
        case CUDNN_STATUS_BAD_PARAM:
            return "CUDNN_STATUS_BAD_PARAM";
        case CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER:
            return "CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER";
        case CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT:
            return "CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT";
        case CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH:
            return "CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH";
        case CUDNN_STATUS_NOT_SUPPORTED:
            return "CUDNN_STATUS_NOT_SUPPORTED";
        case CUDNN_STATUS_NOT_SUPPORTED_SHAPE:
            return "CUDNN_STATUS_NOT_SUPPORTED_SHAPE";
    }
    return "?";
}
cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
    static cudnnContext context;
    *handle = &context;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
    handle->stream = stream;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t* desc) {
    *desc = new cudnnTensorStruct;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t desc) {
    delete desc;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetTensor4dDescriptor(cudnnTensorDescriptor_t desc, cudnnTensorFormat_t format,
                                         cudnnDataType_t type, int n, int c, int h, int w) {
    if (n < 1 || c < 1 || h < 1 || w < 1) return CUDNN_STATUS_BAD_PARAM;
    *desc = {format, type, n, c, h, w};
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnCreateFilterDescriptor(cudnnFilterDescriptor_t* desc) {
    *desc = new cudnnFilterStruct;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroyFilterDescriptor(cudnnFilterDescriptor_t desc) {
    delete desc;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetFilter4dDescriptor(cudnnFilterDescriptor_t desc, cudnnDataType_t type,
                                         cudnnTensorFormat_t format, int k, int c, int h, int w) {
    if (k < 1 || c < 1 || h < 1 || w < 1) return CUDNN_STATUS_BAD_PARAM;
    *desc = {format, type, k, c, h, w};
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnCreateConvolutionDescriptor(cudnnConvolutionDescriptor_t* desc) {
    *desc = new cudnnConvolutionStruct;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroyConvolutionDescriptor(cudnnConvolutionDescriptor_t desc) {
    delete desc;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetConvolution2dDescriptor(cudnnConvolutionDescriptor_t desc, int pad_h,
                                              int pad_w, int stride_h, int stride_w, int dilation_h,
                                              int dilation_w, cudnnConvolutionMode_t mode,
                                              cudnnDataType_t compute) {
    if (pad_h != 0 || stride_h != 1 || dilation_h != 1 || pad_w < 0 || stride_w < 1 ||
        dilation_w < 1 || mode != CUDNN_CROSS_CORRELATION)
        return CUDNN_STATUS_BAD_PARAM;
    *desc = {pad_w, stride_w, dilation_w, compute, CUDNN_DEFAULT_MATH};
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t desc, cudnnMathType_t type) {
    desc->math = type;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetConvolutionForwardAlgorithm_v7(cudnnHandle_t, const cudnnTensorDescriptor_t x,
                                                     const cudnnFilterDescriptor_t w,
                                                     const cudnnConvolutionDescriptor_t convolution,
                                                     const cudnnTensorDescriptor_t y,
                                                     const int requested, int* returned,
                                                     cudnnConvolutionFwdAlgoPerf_t* results) {
    return simt::heuristic({*x, *y, *w, *convolution},
                           CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM,
                           CUDNN_CONVOLUTION_FWD_ALGO_FFT, CUDNN_CONVOLUTION_FWD_ALGO_FFT, true,
                           requested, returned, results);
}
cudnnStatus_t cudnnGetConvolutionBackwardDataAlgorithm_v7(
    cudnnHandle_t, const cudnnFilterDescriptor_t w, const cudnnTensorDescriptor_t dy,
    const cudnnConvolutionDescriptor_t convolution, const cudnnTensorDescriptor_t dx,
    const int requested, int* returned, cudnnConvolutionBwdDataAlgoPerf_t* results) {
    return simt::heuristic({*dx, *dy, *w, *convolution}, CUDNN_CONVOLUTION_BWD_DATA_ALGO_1,
                           CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT, CUDNN_CONVOLUTION_BWD_DATA_ALGO_0,
                           true, requested, returned, results);
}
cudnnStatus_t cudnnGetConvolutionBackwardFilterAlgorithm_v7(
    cudnnHandle_t, const cudnnTensorDescriptor_t x, const cudnnTensorDescriptor_t dy,
    const cudnnConvolutionDescriptor_t convolution, const cudnnFilterDescriptor_t dw,
    const int requested, int* returned, cudnnConvolutionBwdFilterAlgoPerf_t* results) {
    const Problem p{*x, *dy, *dw, *convolution};
    return simt::heuristic(
        p, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT,
        CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0, !p.f64(), requested, returned, results);
}

cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t handle, const void* alpha,
                                      const cudnnTensorDescriptor_t x_desc, const void* x,
                                      const cudnnFilterDescriptor_t w_desc, const void* w,
                                      const cudnnConvolutionDescriptor_t convolution,
                                      cudnnConvolutionFwdAlgo_t algo, void* workspace,
                                      size_t workspace_bytes, const void* beta,
                                      const cudnnTensorDescriptor_t y_desc, void* y) {
    if (algo != CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM) return CUDNN_STATUS_BAD_PARAM;
    const Problem p{*x_desc, *y_desc, *w_desc, *convolution};
    return simt::checked(p, {handle, alpha, beta, workspace, workspace_bytes, {x, w, y}},
                         &simt::Convolutions::forward, [=]<class T>(T) {
                             simt::convolve<T>(p, int64_t{p.y.n} * p.y.w * p.y.c, y, x, w,
                                               [](int64_t at_y, int64_t at_x, int64_t at_w) {
                                                   return simt::Indices{at_y, at_x, at_w};
                                               });
                         });
}
cudnnStatus_t cudnnConvolutionBackwardData(cudnnHandle_t handle, const void* alpha,
                                           const cudnnFilterDescriptor_t w_desc, const void* w,
                                           const cudnnTensorDescriptor_t dy_desc, const void* dy,
                                           const cudnnConvolutionDescriptor_t convolution,
                                           cudnnConvolutionBwdDataAlgo_t algo, void* workspace,
                                           size_t workspace_bytes, const void* beta,
                                           const cudnnTensorDescriptor_t dx_desc, void* dx) {
    if (algo != CUDNN_CONVOLUTION_BWD_DATA_ALGO_1) return CUDNN_STATUS_BAD_PARAM;
    const Problem p{*dx_desc, *dy_desc, *w_desc, *convolution};
    return simt::checked(p, {handle, alpha, beta, workspace, workspace_bytes, {w, dy, dx}},
                         &simt::Convolutions::data, [=]<class T>(T) {
                             simt::convolve<T>(p, int64_t{p.x.n} * p.x.w * p.x.c, dx, dy, w,
                                               [](int64_t at_y, int64_t at_x, int64_t at_w) {
                                                   return simt::Indices{at_x, at_y, at_w};
                                               });
                         });
}
cudnnStatus_t cudnnConvolutionBackwardFilter(cudnnHandle_t handle, const void* alpha,
                                             const cudnnTensorDescriptor_t x_desc, const void* x,
                                             const cudnnTensorDescriptor_t dy_desc, const void* dy,
                                             const cudnnConvolutionDescriptor_t convolution,
                                             cudnnConvolutionBwdFilterAlgo_t algo, void* workspace,
                                             size_t workspace_bytes, const void* beta,
                                             const cudnnFilterDescriptor_t dw_desc, void* dw) {
    if (algo != CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1) return CUDNN_STATUS_BAD_PARAM;
    const Problem p{*x_desc, *dy_desc, *dw_desc, *convolution};
    return simt::checked(p, {handle, alpha, beta, workspace, workspace_bytes, {x, dy, dw}},
                         &simt::Convolutions::weight, [=]<class T>(T) {
                             simt::convolve<T>(p, int64_t{p.w.k} * p.w.w * p.w.c, dw, x, dy,
                                               [](int64_t at_y, int64_t at_x, int64_t at_w) {
                                                   return simt::Indices{at_w, at_x, at_y};
                                               });
                         });
}
