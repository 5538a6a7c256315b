#include "kernels/cuda/blaslt.h"

#include <cublasLt.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <vector>

#include "kernels/cuda/device.h"
#include "kernels/cuda/library.h"
#include "kernels/cuda/plans.h"

namespace mc::cuda {

namespace {

// What bounds the memory that an algorithm may ask for; NVIDIA's advice for Hopper.
constexpr uint64_t kMaxWorkspace = uint64_t{32} << 20;
// An alignment beyond the widest load helps nobody, and would make the algorithm depend on where
// the allocator happens to put a tensor.
constexpr uint64_t kMaxAlignment = 16;

// All that the choice of an algorithm may depend on. Row-major, as in MatmulArgs.
struct Problem {
    DType operands = DType::f32;  // f64: the result too; else that is f32
    bool trans_a = false, trans_b = false, accumulate = false;
    int64_t m = 0, n = 0, k = 0, lda = 0, ldb = 0, ldc = 0;
    int64_t batch = 1, stride_a = 0, stride_b = 0, stride_c = 0;
    uint64_t align_a = 0, align_b = 0, align_c = 0, align_bias = 0;  // bytes; 0: no bias
    auto operator<=>(const Problem&) const = default;
};

struct Operands {
    const void *alpha, *beta, *a, *b, *bias;
    void* out;
};

// The library's functions that are used here.
struct Functions {
    decltype(&cublasLtGetVersion) version;
    decltype(&cublasLtGetStatusString) status_string;
    decltype(&cublasLtCreate) create;
    decltype(&cublasLtMatmul) matmul;
    decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic;
    decltype(&cublasLtMatmulDescCreate) desc_create;
    decltype(&cublasLtMatmulDescDestroy) desc_destroy;
    decltype(&cublasLtMatmulDescSetAttribute) desc_set;
    decltype(&cublasLtMatrixLayoutCreate) layout_create;
    decltype(&cublasLtMatrixLayoutDestroy) layout_destroy;
    decltype(&cublasLtMatrixLayoutSetAttribute) layout_set;
    decltype(&cublasLtMatmulPreferenceCreate) preference_create;
    decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy;
    decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set;

    void find_in(Library& library) {
        library.find(version, "cublasLtGetVersion");
        library.find(status_string, "cublasLtGetStatusString");
        library.find(create, "cublasLtCreate");
        library.find(matmul, "cublasLtMatmul");
        library.find(heuristic, "cublasLtMatmulAlgoGetHeuristic");
        library.find(desc_create, "cublasLtMatmulDescCreate");
        library.find(desc_destroy, "cublasLtMatmulDescDestroy");
        library.find(desc_set, "cublasLtMatmulDescSetAttribute");
        library.find(layout_create, "cublasLtMatrixLayoutCreate");
        library.find(layout_destroy, "cublasLtMatrixLayoutDestroy");
        library.find(layout_set, "cublasLtMatrixLayoutSetAttribute");
        library.find(preference_create, "cublasLtMatmulPreferenceCreate");
        library.find(preference_destroy, "cublasLtMatmulPreferenceDestroy");
        library.find(preference_set, "cublasLtMatmulPreferenceSetAttribute");
    }
};

cudaDataType_t data_type(DType dtype) {
    switch (dtype) {
        case DType::f64:
            return CUDA_R_64F;
        case DType::bf16:
            return CUDA_R_16BF;
        case DType::f16:
            return CUDA_R_16F;
        default:
            return CUDA_R_32F;
    }
}

template <class T>
using Owned = std::unique_ptr<T, cublasStatus_t (*)(T*)>;
using Desc = Owned<std::remove_pointer_t<cublasLtMatmulDesc_t>>;
using Layout = Owned<std::remove_pointer_t<cublasLtMatrixLayout_t>>;
using Preference = Owned<std::remove_pointer_t<cublasLtMatmulPreference_t>>;

struct Plan {
    Desc desc;
    Layout a, b, c;  // the library's A is our B: its matrices are column-major
    cublasLtMatmulHeuristicResult_t choice{};
    bool usable = false;
};

class BlasLt {
  public:
    // The one of the process; never given back: the driver may be gone before statics.
    static BlasLt& get() {
        static auto* one = new BlasLt;
        return *one;
    }

    bool available() const { return static_cast<bool>(library_); }
    std::string report() const { return library_.report(available() ? call_.version() : 0); }

    bool product(const Context& context, const Problem& problem, const Operands& x) {
        const std::lock_guard lock(mutex_);
        Plan& plan = plans_.of(problem, [&](const Problem& p) { return make_plan(p); });
        if (!plan.usable) return false;
        if (x.bias) set_bias(plan, x.bias);
        const DeviceLoan<unsigned char> workspace("matmul", context,
                                                  static_cast<int64_t>(plan.choice.workspaceSize));
        const cublasStatus_t status =
            call_.matmul(handle_, plan.desc.get(), x.alpha, x.b, plan.a.get(), x.a, plan.b.get(),
                         x.beta, x.out, plan.c.get(), x.out, plan.c.get(), &plan.choice.algo,
                         workspace.data(), plan.choice.workspaceSize, stream_of(context));
        if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_ARCH_MISMATCH)
            return plan.usable = false;
        check("cublasLtMatmul", status);
        return true;
    }

  private:
    BlasLt() {
        call_.find_in(library_);
        if (!library_) return;
        const cublasStatus_t status = call_.create(&handle_);
        if (status != CUBLAS_STATUS_SUCCESS)
            library_.refuse(std::string("cublasLtCreate: ") + call_.status_string(status));
    }

    void check(const char* statement, cublasStatus_t status) const {
        if (status != CUBLAS_STATUS_SUCCESS)
            throw Error(std::string("[matmul] ") + statement + ": " + call_.status_string(status) +
                        "; MOCLIP_CUBLASLT=off does without the library");
    }

    Plan make_plan(const Problem& p) const {
        const cudaDataType_t type = data_type(p.operands);
        const cudaDataType_t result = p.operands == DType::f64 ? CUDA_R_64F : CUDA_R_32F;
        Plan plan{make_desc(p, result),
                  p.trans_b ? make_layout(p, type, p.n, p.k, p.ldb, p.stride_b)
                            : make_layout(p, type, p.k, p.n, p.ldb, p.stride_b),
                  p.trans_a ? make_layout(p, type, p.k, p.m, p.lda, p.stride_a)
                            : make_layout(p, type, p.m, p.k, p.lda, p.stride_a),
                  make_layout(p, result, p.m, p.n, p.ldc, p.stride_c)};
        if (p.align_bias > 0) {
            const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
            set(call_.desc_set, plan.desc, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
            // The heuristic reads the alignment off the address and nothing from it.
            set_bias(plan, reinterpret_cast<const void*>(p.align_bias));
        }
        cublasLtMatmulPreference_t raw = nullptr;
        check("cublasLtMatmulPreferenceCreate", call_.preference_create(&raw));
        const Preference preference(raw, call_.preference_destroy);
        const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
            set(call_.preference_set, preference, attribute, value);
        };
        prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kMaxWorkspace);
        // Parts of a sum along k in the workspace, added in a pass of its own; not in place.
        prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
               static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
        prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<uint32_t>(p.align_b));
        prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<uint32_t>(p.align_a));
        prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<uint32_t>(p.align_c));
        // The bias has no preference of its own: what is no better aligned than it writes D.
        prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
               static_cast<uint32_t>(p.align_bias > 0 ? std::min(p.align_bias, p.align_c)
                                                      : p.align_c));
        int found = 0;
        const cublasStatus_t status =
            call_.heuristic(handle_, plan.desc.get(), plan.a.get(), plan.b.get(), plan.c.get(),
                            plan.c.get(), preference.get(), 1, &plan.choice, &found);
        plan.usable = status == CUBLAS_STATUS_SUCCESS && found == 1 &&
                      plan.choice.state == CUBLAS_STATUS_SUCCESS;
        return plan;
    }

    template <class Function, class Object, class Attribute, class Value>
    void set(Function function, const Object& object, Attribute attribute, Value value) const {
        check("set attribute", function(object.get(), attribute, &value, sizeof(value)));
    }
    void set_bias(const Plan& plan, const void* bias) const {
        set(call_.desc_set, plan.desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    }

    Desc make_desc(const Problem& p, cudaDataType_t type) const {
        cublasLtMatmulDesc_t raw = nullptr;
        check("cublasLtMatmulDescCreate",
              call_.desc_create(&raw, type == CUDA_R_64F ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F,
                                type));
        Desc desc(raw, call_.desc_destroy);
        set(call_.desc_set, desc, CUBLASLT_MATMUL_DESC_TRANSA,
            p.trans_b ? CUBLAS_OP_T : CUBLAS_OP_N);
        set(call_.desc_set, desc, CUBLASLT_MATMUL_DESC_TRANSB,
            p.trans_a ? CUBLAS_OP_T : CUBLAS_OP_N);
        return desc;
    }

    // A row-major (rows, cols): column-major (cols, rows) with the same ld.
    Layout make_layout(const Problem& p, cudaDataType_t type, int64_t rows, int64_t cols,
                       int64_t ld, int64_t stride) const {
        cublasLtMatrixLayout_t raw = nullptr;
        check("cublasLtMatrixLayoutCreate",
              call_.layout_create(&raw, type, static_cast<uint64_t>(cols),
                                  static_cast<uint64_t>(rows), ld));
        Layout layout(raw, call_.layout_destroy);
        if (p.batch > 1) {
            set(call_.layout_set, layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT,
                static_cast<int32_t>(p.batch));
            set(call_.layout_set, layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, stride);
        }
        return layout;
    }

    Library library_{"cuBLASLt", "MOCLIP_CUBLASLT", "cublasLt", {"13", "12", ""}};
    Functions call_{};
    cublasLtHandle_t handle_ = nullptr;
    std::mutex mutex_;
    Plans<Problem, Plan> plans_;
};

uint64_t alignment_of(const void* p) {
    const auto address = static_cast<uint64_t>(reinterpret_cast<uintptr_t>(p));
    return p ? std::min(address & (~address + 1), kMaxAlignment) : 0;
}

// The row stride of a stored (rows, cols), where that of a single row may be anything; 0 if the
// rows overlap, which the library refuses.
int64_t row_stride(int64_t rows, int64_t cols, int64_t ld) {
    return rows <= 1 || ld >= cols ? std::max(ld, cols) : 0;
}

}  // namespace

bool blaslt_available() {
    return BlasLt::get().available();
}

std::string blaslt_report() {
    return BlasLt::get().report();
}

template <class T>
bool blaslt_product(Context& context, const MatmulArgs<T>& args, const ProductOperands& operands,
                    T* out) {
    constexpr int64_t kMost = (int64_t{1} << 31) - 1;
    const int64_t m = args.m, n = args.n, k = args.k;
    if (k <= 0 || m > kMost || n > kMost || k > kMost || args.batch > kMost) return false;
    BlasLt& library = BlasLt::get();
    if (!library.available()) return false;
    Problem p;
    p.operands = operands.dtype;
    p.trans_a = args.trans_a;
    p.trans_b = args.trans_b;
    p.accumulate = args.accumulate;
    p.m = m;
    p.n = n;
    p.k = k;
    p.lda = args.trans_a ? row_stride(k, m, args.lda) : row_stride(m, k, args.lda);
    p.ldb = args.trans_b ? row_stride(n, k, args.ldb) : row_stride(k, n, args.ldb);
    p.ldc = row_stride(m, n, args.ldc);
    if (p.lda == 0 || p.ldb == 0 || p.ldc == 0) return false;
    p.batch = args.batch;
    if (p.batch > 1) {
        p.stride_a = args.stride_a;
        p.stride_b = args.stride_b;
        p.stride_c = args.stride_c;
    }
    p.align_a = alignment_of(operands.a);
    p.align_b = alignment_of(operands.b);
    p.align_c = alignment_of(out);
    p.align_bias = alignment_of(args.epilogue.bias);
    const T beta = args.accumulate ? T{1} : T{0};
    return library.product(context, p,
                           {&args.alpha, &beta, operands.a, operands.b, args.epilogue.bias, out});
}
template bool blaslt_product(Context&, const MatmulArgs<float>&, const ProductOperands&, float*);
template bool blaslt_product(Context&, const MatmulArgs<double>&, const ProductOperands&, double*);

}  // namespace mc::cuda
