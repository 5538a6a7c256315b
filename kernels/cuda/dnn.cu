#include "kernels/cuda/dnn.h"

#include <cudnn.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <mutex>

#include "kernels/cuda/device.h"
#include "kernels/cuda/library.h"
#include "kernels/cuda/plans.h"

namespace mc::cuda {

namespace {

// What bounds the memory that an algorithm may ask for, which the pool then keeps.
constexpr size_t kMaxWorkspace = size_t{256} << 20;
// More than the library has algorithms, each once with and once without tensor cores.
constexpr int kMaxAlgorithms = 16;

enum class Pass : uint8_t { forward, data, weight };

// All that the choice of an algorithm may depend on.
struct Problem {
    Pass pass;
    bool f64;
    ConvShape shape;
    auto operator<=>(const Problem&) const = default;
};

// The deterministic algorithms that add up products as they are.
constexpr std::array kForward = {CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM,
                                 CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM,
                                 CUDNN_CONVOLUTION_FWD_ALGO_GEMM};
constexpr std::array kData = {CUDNN_CONVOLUTION_BWD_DATA_ALGO_1};
constexpr std::array kWeight = {CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1};

// The library's functions that are used here.
struct Functions {
    decltype(&cudnnGetVersion) version;
    decltype(&cudnnGetErrorString) error_string;
    decltype(&cudnnCreate) create;
    decltype(&cudnnSetStream) set_stream;
    decltype(&cudnnCreateTensorDescriptor) tensor_create;
    decltype(&cudnnDestroyTensorDescriptor) tensor_destroy;
    decltype(&cudnnSetTensor4dDescriptor) tensor_set;
    decltype(&cudnnCreateFilterDescriptor) filter_create;
    decltype(&cudnnDestroyFilterDescriptor) filter_destroy;
    decltype(&cudnnSetFilter4dDescriptor) filter_set;
    decltype(&cudnnCreateConvolutionDescriptor) convolution_create;
    decltype(&cudnnDestroyConvolutionDescriptor) convolution_destroy;
    decltype(&cudnnSetConvolution2dDescriptor) convolution_set;
    decltype(&cudnnSetConvolutionMathType) math_type_set;
    decltype(&cudnnGetConvolutionForwardAlgorithm_v7) forward_heuristic;
    decltype(&cudnnGetConvolutionBackwardDataAlgorithm_v7) data_heuristic;
    decltype(&cudnnGetConvolutionBackwardFilterAlgorithm_v7) weight_heuristic;
    decltype(&cudnnConvolutionForward) forward;
    decltype(&cudnnConvolutionBackwardData) data;
    decltype(&cudnnConvolutionBackwardFilter) weight;

    void find_in(Library& library) {
        library.find(version, "cudnnGetVersion");
        library.find(error_string, "cudnnGetErrorString");
        library.find(create, "cudnnCreate");
        library.find(set_stream, "cudnnSetStream");
        library.find(tensor_create, "cudnnCreateTensorDescriptor");
        library.find(tensor_destroy, "cudnnDestroyTensorDescriptor");
        library.find(tensor_set, "cudnnSetTensor4dDescriptor");
        library.find(filter_create, "cudnnCreateFilterDescriptor");
        library.find(filter_destroy, "cudnnDestroyFilterDescriptor");
        library.find(filter_set, "cudnnSetFilter4dDescriptor");
        library.find(convolution_create, "cudnnCreateConvolutionDescriptor");
        library.find(convolution_destroy, "cudnnDestroyConvolutionDescriptor");
        library.find(convolution_set, "cudnnSetConvolution2dDescriptor");
        library.find(math_type_set, "cudnnSetConvolutionMathType");
        library.find(forward_heuristic, "cudnnGetConvolutionForwardAlgorithm_v7");
        library.find(data_heuristic, "cudnnGetConvolutionBackwardDataAlgorithm_v7");
        library.find(weight_heuristic, "cudnnGetConvolutionBackwardFilterAlgorithm_v7");
        library.find(forward, "cudnnConvolutionForward");
        library.find(data, "cudnnConvolutionBackwardData");
        library.find(weight, "cudnnConvolutionBackwardFilter");
    }
};

template <class T>
using Owned = std::unique_ptr<std::remove_pointer_t<T>, cudnnStatus_t (*)(T)>;

struct Plan {
    Owned<cudnnTensorDescriptor_t> x, y;
    Owned<cudnnFilterDescriptor_t> w;
    Owned<cudnnConvolutionDescriptor_t> convolution;
    int algorithm = 0;  // of the pass's enum
    size_t workspace = 0;
    bool usable = false;
};

bool not_supported(cudnnStatus_t status) {
    return CUDNN_STATUS_CATEGORY(status) == CUDNN_STATUS_NOT_SUPPORTED;
}

class Dnn {
  public:
    // The one of the process; never given back: the driver may be gone before statics.
    static Dnn& get() {
        static auto* one = new Dnn;
        return *one;
    }

    bool available() const { return static_cast<bool>(library_); }
    std::string report() const { return library_.report(available() ? call_.version() : 0); }

    // dst is y, dx or dw; a and b are what the pass reads, in the order of the functions in dnn.h.
    bool run(const Context& context, const Problem& problem, void* dst, const void* a,
             const void* b) {
        const std::lock_guard lock(mutex_);
        Plan& plan = plans_.of(problem, [&](const Problem& p) { return make_plan(p); });
        if (!plan.usable) return false;
        check("cudnnSetStream", call_.set_stream(handle_, stream_of(context)));
        const DeviceLoan<unsigned char> workspace("conv1d", context,
                                                  static_cast<int64_t>(plan.workspace));
        const cudnnStatus_t status = launch(problem, plan, workspace.data(), dst, a, b);
        if (not_supported(status)) return plan.usable = false;
        check("cuDNN's convolution", status);
        return true;
    }

  private:
    Dnn() {
        call_.find_in(library_);
        if (!library_) return;
        if (call_.version() / 10000 != 9) {
            library_.refuse("version " + std::to_string(call_.version()) + ", want 9.x");
            return;
        }
        const cudnnStatus_t status = call_.create(&handle_);
        if (status != CUDNN_STATUS_SUCCESS)
            library_.refuse(std::string("cudnnCreate: ") + call_.error_string(status));
    }

    void check(const char* statement, cudnnStatus_t status) const {
        if (status != CUDNN_STATUS_SUCCESS)
            throw Error(std::string("[conv1d] ") + statement + ": " + call_.error_string(status) +
                        "; MOCLIP_CUDNN=off does without the library");
    }

    // Two dimensions of which the first is 1; channels last, the weight's too.
    Plan make_plan(const Problem& p) const {
        const ConvShape& s = p.shape;
        const cudnnDataType_t type = p.f64 ? CUDNN_DATA_DOUBLE : CUDNN_DATA_FLOAT;
        const auto size = [](int64_t n) { return static_cast<int>(n); };
        Plan plan{make(call_.tensor_create, call_.tensor_destroy),
                  make(call_.tensor_create, call_.tensor_destroy),
                  make(call_.filter_create, call_.filter_destroy),
                  make(call_.convolution_create, call_.convolution_destroy)};
        check("cudnnSetTensor4dDescriptor",
              call_.tensor_set(plan.x.get(), CUDNN_TENSOR_NHWC, type, size(s.batch), size(s.c_in),
                               1, size(s.t_in)));
        check("cudnnSetTensor4dDescriptor",
              call_.tensor_set(plan.y.get(), CUDNN_TENSOR_NHWC, type, size(s.batch), size(s.c_out),
                               1, size(s.t_out())));
        check("cudnnSetFilter4dDescriptor",
              call_.filter_set(plan.w.get(), type, CUDNN_TENSOR_NHWC, size(s.c_out), size(s.c_in),
                               1, size(s.kernel)));
        check("cudnnSetConvolution2dDescriptor",
              call_.convolution_set(plan.convolution.get(), 0, size(s.padding), 1, size(s.stride),
                                    1, size(s.dilation), CUDNN_CROSS_CORRELATION, type));
        check("cudnnSetConvolutionMathType",
              call_.math_type_set(plan.convolution.get(), CUDNN_FMA_MATH));
        switch (p.pass) {
            case Pass::forward:
                choose<cudnnConvolutionFwdAlgoPerf_t>(plan, kForward, call_.forward_heuristic,
                                                      plan.x.get(), plan.w.get(),
                                                      plan.convolution.get(), plan.y.get());
                break;
            case Pass::data:
                choose<cudnnConvolutionBwdDataAlgoPerf_t>(plan, kData, call_.data_heuristic,
                                                          plan.w.get(), plan.y.get(),
                                                          plan.convolution.get(), plan.x.get());
                break;
            case Pass::weight:
                choose<cudnnConvolutionBwdFilterAlgoPerf_t>(plan, kWeight, call_.weight_heuristic,
                                                            plan.x.get(), plan.y.get(),
                                                            plan.convolution.get(), plan.w.get());
                break;
        }
        return plan;
    }

    template <class T>
    Owned<T> make(cudnnStatus_t (*create)(T*), cudnnStatus_t (*destroy)(T)) const {
        T raw = nullptr;
        check("create descriptor", create(&raw));
        return {raw, destroy};
    }

    // Takes the first of the heuristic's list, the best first, that keeps what dnn.h promises.
    // A status other than success is a problem that the library has nothing for.
    template <class Found, class Allowed, class Heuristic, class... Descriptors>
    void choose(Plan& plan, const Allowed& allowed, Heuristic heuristic,
                Descriptors... descriptors) const {
        std::array<Found, kMaxAlgorithms> list;
        int count = 0;
        if (heuristic(handle_, descriptors..., kMaxAlgorithms, &count, list.data()) !=
            CUDNN_STATUS_SUCCESS)
            return;
        const auto keeps = [&](const Found& f) {
            return f.status == CUDNN_STATUS_SUCCESS && f.determinism == CUDNN_DETERMINISTIC &&
                   f.mathType != CUDNN_TENSOR_OP_MATH &&
                   f.mathType != CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION &&
                   f.memory <= kMaxWorkspace &&
                   std::find(allowed.begin(), allowed.end(), f.algo) != allowed.end();
        };
        const auto end = list.begin() + count, chosen = std::find_if(list.begin(), end, keeps);
        if (chosen == end) return;
        plan.algorithm = chosen->algo;
        plan.workspace = chosen->memory;
        plan.usable = true;
    }

    cudnnStatus_t launch(const Problem& p, const Plan& plan, void* workspace, void* dst,
                         const void* a, const void* b) const {
        const float one = 1, zero = 0;
        const double one64 = 1, zero64 = 0;
        const void* alpha = p.f64 ? static_cast<const void*>(&one64) : &one;
        const void* beta = p.f64 ? static_cast<const void*>(&zero64) : &zero;
        const auto x = plan.x.get(), y = plan.y.get();
        const auto w = plan.w.get();
        const auto convolution = plan.convolution.get();
        switch (p.pass) {
            case Pass::forward:
                return call_.forward(handle_, alpha, x, a, w, b, convolution,
                                     static_cast<cudnnConvolutionFwdAlgo_t>(plan.algorithm),
                                     workspace, plan.workspace, beta, y, dst);
            case Pass::data:
                return call_.data(handle_, alpha, w, b, y, a, convolution,
                                  static_cast<cudnnConvolutionBwdDataAlgo_t>(plan.algorithm),
                                  workspace, plan.workspace, beta, x, dst);
            case Pass::weight:
                return call_.weight(handle_, alpha, x, a, y, b, convolution,
                                    static_cast<cudnnConvolutionBwdFilterAlgo_t>(plan.algorithm),
                                    workspace, plan.workspace, beta, w, dst);
        }
        return CUDNN_STATUS_BAD_PARAM;
    }

    Library library_{"cuDNN", "MOCLIP_CUDNN", "cudnn", {"9"}};
    Functions call_{};
    cudnnHandle_t handle_ = nullptr;
    std::mutex mutex_;
    Plans<Problem, Plan> plans_;
};

// The library counts in int, and its widest loads take 16 bytes. An algorithm that depended on
// where the allocator happens to put a tensor would not be the same in every run.
bool can_take(const ConvShape& s, std::initializer_list<const void*> operands) {
    constexpr int64_t kMost = (int64_t{1} << 31) - 1;
    for (const void* p : operands)
        if (reinterpret_cast<uintptr_t>(p) % 16 != 0) return false;
    const int64_t x = s.t_in * s.c_in, y = s.t_out() * s.c_out, w = s.kernel * s.c_in * s.c_out;
    return x > 0 && y > 0 && w > 0 && w <= kMost && s.batch <= kMost / x && s.batch <= kMost / y &&
           s.padding <= kMost && s.stride <= kMost && s.dilation <= kMost;
}

template <class T>
bool run(Context& context, Pass pass, const ConvShape& s, T* dst, const T* a, const T* b) {
    if (!can_take(s, {dst, a, b})) return false;
    Dnn& library = Dnn::get();
    return library.available() && library.run(context, {pass, sizeof(T) == 8, s}, dst, a, b);
}

}  // namespace

bool dnn_available() {
    return Dnn::get().available();
}

bool dnn_asked_for() {
    static const bool asked = [] {
        const char* named = std::getenv("MOCLIP_CUDNN");
        return named && std::string(named) != "off";
    }();
    return asked;
}

std::string dnn_report() {
    return Dnn::get().report();
}

template <class T>
bool dnn_conv1d(Context& context, T* y, const T* x, const T* w, const ConvShape& shape) {
    return run(context, Pass::forward, shape, y, x, w);
}
template <class T>
bool dnn_conv1d_data(Context& context, T* dx, const T* dy, const T* w, const ConvShape& shape) {
    return run(context, Pass::data, shape, dx, dy, w);
}
template <class T>
bool dnn_conv1d_weight(Context& context, T* dw, const T* x, const T* dy, const ConvShape& shape) {
    return run(context, Pass::weight, shape, dw, x, dy);
}
template bool dnn_conv1d(Context&, float*, const float*, const float*, const ConvShape&);
template bool dnn_conv1d(Context&, double*, const double*, const double*, const ConvShape&);
template bool dnn_conv1d_data(Context&, float*, const float*, const float*, const ConvShape&);
template bool dnn_conv1d_data(Context&, double*, const double*, const double*, const ConvShape&);
template bool dnn_conv1d_weight(Context&, float*, const float*, const float*, const ConvShape&);
template bool dnn_conv1d_weight(Context&, double*, const double*, const double*, const ConvShape&);

}  // namespace mc::cuda
