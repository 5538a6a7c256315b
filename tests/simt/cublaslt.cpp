#include "tests/simt/cublaslt.h"

#include <cublasLt.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>

#include "kernels/convert.h"
#include "tests/simt/runtime.h"

struct cublasLtContext {};
struct cublasLtMatmulDescOpaque_t {
    cudaDataType_t scale;
    int32_t trans_a = CUBLAS_OP_N, trans_b = CUBLAS_OP_N;
    uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    const void* bias = nullptr;
};
struct cublasLtMatrixLayoutOpaque_t {
    cudaDataType_t type;
    int64_t rows, cols, ld;
    int32_t batch = 1;
    int64_t stride = 0;
};
struct cublasLtMatmulPreferenceOpaque_t {
    uint64_t workspace = 0;
    uint32_t reduction = 7, align_a = 256, align_b = 256, align_c = 256, align_d = 256;
};

namespace simt {
namespace {

std::atomic<size_t> products{0};

// What an algorithm was chosen for: it may be used for that alone.
struct Choice {
    uint64_t problem, workspace;
    uint32_t align_a, align_b, align_c, align_d;
    uint64_t align_bias;
};
static_assert(sizeof(Choice) <= sizeof(cublasLtMatmulAlgo_t));

template <class T>
bool take(T& member, const void* value, size_t bytes) {
    if (bytes != sizeof(T)) return false;
    std::memcpy(&member, value, bytes);
    return true;
}
cublasStatus_t status_of(bool ok) {
    return ok ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

uint64_t alignment(const void* p) {
    const auto address = reinterpret_cast<uintptr_t>(p);
    return address & (~address + 1);
}

uint64_t problem_of(const cublasLtMatmulDescOpaque_t& desc, cublasLtMatrixLayout_t a,
                    cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c) {
    uint64_t hash = 1469598103934665603u;
    const auto add = [&](auto value) {
        hash = (hash ^ static_cast<uint64_t>(value)) * 1099511628211u;
    };
    for (auto value : {desc.trans_a, desc.trans_b}) add(value);
    add(desc.epilogue);
    for (const auto* l : {a, b, c}) {
        add(l->type);
        for (int64_t value : {l->rows, l->cols, l->ld, int64_t{l->batch}, l->stride}) add(value);
    }
    return hash;
}

bool is_half(cudaDataType_t type) {
    return type == CUDA_R_16F || type == CUDA_R_16BF;
}

// The library's table of types, as far as it goes here: f32 and f64 throughout, or operands of one
// half type with all else in f32.
bool types_fit(const cublasLtMatmulDescOpaque_t& desc, cublasLtMatrixLayout_t a,
               cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c) {
    return a->type == b->type && c->type == desc.scale &&
           (a->type == desc.scale || (is_half(a->type) && desc.scale == CUDA_R_32F));
}

// Half operands come in rows of whole 16 bytes; anything else would be slow, which is an error
// here.
bool aligned_for_tensor_cores(const cublasLtMatrixLayoutOpaque_t& l, uint32_t promised) {
    return !is_half(l.type) || (promised >= 16 && l.ld % 8 == 0 && l.stride % 8 == 0);
}

bool shapes_fit(const cublasLtMatmulDescOpaque_t& desc, cublasLtMatrixLayout_t a,
                cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c) {
    const int64_t m = desc.trans_a ? a->cols : a->rows, k = desc.trans_a ? a->rows : a->cols;
    const int64_t n = desc.trans_b ? b->rows : b->cols, k_b = desc.trans_b ? b->cols : b->rows;
    for (const auto* l : {a, b, c})
        if (l->rows < 1 || l->cols < 1 || l->ld < l->rows || l->batch != c->batch) return false;
    return k == k_b && c->rows == m && c->cols == n;
}

template <class In, class T>
std::function<void()> product(cublasLtMatmulDescOpaque_t desc, T alpha, const void* a_data,
                              cublasLtMatrixLayoutOpaque_t a, const void* b_data,
                              cublasLtMatrixLayoutOpaque_t b, T beta, const void* c_data,
                              void* d_data, cublasLtMatrixLayoutOpaque_t d) {
    return [=] {
        const int64_t k = desc.trans_a ? a.rows : a.cols;
        for (int64_t z = 0; z < d.batch; ++z) {
            const In* pa = static_cast<const In*>(a_data) + z * a.stride;
            const In* pb = static_cast<const In*>(b_data) + z * b.stride;
            const T* pc = static_cast<const T*>(c_data) + z * d.stride;
            T* pd = static_cast<T*>(d_data) + z * d.stride;
            for (int64_t j = 0; j < d.cols; ++j)
                for (int64_t i = 0; i < d.rows; ++i) {
                    T sum = 0;
                    for (int64_t p = 0; p < k; ++p)
                        sum += mc::convert<T>(pa[desc.trans_a ? i * a.ld + p : p * a.ld + i]) *
                               mc::convert<T>(pb[desc.trans_b ? p * b.ld + j : j * b.ld + p]);
                    T v = alpha * sum;
                    if (beta != 0) v += beta * pc[j * d.ld + i];
                    if (desc.epilogue == CUBLASLT_EPILOGUE_BIAS)
                        v += static_cast<const T*>(desc.bias)[i];
                    pd[j * d.ld + i] = v;
                }
        }
    };
}

}  // namespace

size_t library_products() {
    return products;
}

}  // namespace simt

size_t cublasLtGetVersion() {
    return 130100;
}
const char* cublasLtGetStatusString(cublasStatus_t status) {
    return status == CUBLAS_STATUS_SUCCESS         ? "CUBLAS_STATUS_SUCCESS"
           : status == CUBLAS_STATUS_INVALID_VALUE ? "CUBLAS_STATUS_INVALID_VALUE"
                                                   : "CUBLAS_STATUS_NOT_SUPPORTED";
}
cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
    static cublasLtContext context;
    *handle = &context;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* desc, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
    *desc = new cublasLtMatmulDescOpaque_t{scale};
    return simt::status_of((scale == CUDA_R_64F) == (compute == CUBLAS_COMPUTE_64F));
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) {
    delete desc;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
    switch (attribute) {
        case CUBLASLT_MATMUL_DESC_TRANSA:
            return simt::status_of(simt::take(desc->trans_a, value, bytes));
        case CUBLASLT_MATMUL_DESC_TRANSB:
            return simt::status_of(simt::take(desc->trans_b, value, bytes));
        case CUBLASLT_MATMUL_DESC_EPILOGUE:
            return simt::status_of(simt::take(desc->epilogue, value, bytes));
        case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
            return simt::status_of(simt::take(desc->bias, value, bytes));
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType_t type,
                                          uint64_t rows, uint64_t cols, int64_t ld) {
    *layout = new cublasLtMatrixLayoutOpaque_t{type, static_cast<int64_t>(rows),
                                               static_cast<int64_t>(cols), ld};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
    delete layout;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute,
                                                const void* value, size_t bytes) {
    return simt::status_of(attribute == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT
                               ? simt::take(layout->batch, value, bytes)
                               : simt::take(layout->stride, value, bytes));
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
    *preference = new cublasLtMatmulPreferenceOpaque_t;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
    delete preference;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t bytes) {
    switch (attribute) {
        case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
            return simt::status_of(simt::take(p->workspace, value, bytes));
        case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
            return simt::status_of(simt::take(p->reduction, value, bytes));
        case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
            return simt::status_of(simt::take(p->align_a, value, bytes));
        case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
            return simt::status_of(simt::take(p->align_b, value, bytes));
        case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
            return simt::status_of(simt::take(p->align_c, value, bytes));
        case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
            return simt::status_of(simt::take(p->align_d, value, bytes));
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

// An f64 product with a bias, and half operands out of line, are what this library has nothing for.
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t* results,
                                              int* found) {
    *found = 0;
    if (requested < 1 || !simt::types_fit(*desc, a, b, c) || !simt::shapes_fit(*desc, a, b, c))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!simt::aligned_for_tensor_cores(*a, preference->align_a) ||
        !simt::aligned_for_tensor_cores(*b, preference->align_b))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    const bool biased = desc->epilogue == CUBLASLT_EPILOGUE_BIAS;
    if (biased && desc->scale == CUDA_R_64F) return CUBLAS_STATUS_NOT_SUPPORTED;
    simt::Choice choice{};
    choice.problem = simt::problem_of(*desc, a, b, c);
    choice.workspace = c->rows < 8 ? std::min<uint64_t>(preference->workspace, 1000) : 0;
    choice.align_a = preference->align_a;
    choice.align_b = preference->align_b;
    choice.align_c = preference->align_c;
    choice.align_d = preference->align_d;
    choice.align_bias = biased ? simt::alignment(desc->bias) : 1;
    results[0] = {};
    std::memcpy(&results[0].algo, &choice, sizeof choice);
    results[0].workspaceSize = choice.workspace;
    results[0].state = CUBLAS_STATUS_SUCCESS;
    *found = 1;
    return CUBLAS_STATUS_SUCCESS;
}

// Checks what was promised when the algorithm was chosen. Three terms a sum are what it finds out
// too late that it cannot do.
cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t layout_a, const void* b,
                              cublasLtMatrixLayout_t layout_b, const void* beta, const void* c,
                              cublasLtMatrixLayout_t layout_c, void* d,
                              cublasLtMatrixLayout_t layout_d, const cublasLtMatmulAlgo_t* algo,
                              void* workspace, size_t workspace_bytes, cudaStream_t stream) {
    simt::Choice choice;
    std::memcpy(&choice, algo, sizeof choice);
    const bool biased = desc->epilogue == CUBLASLT_EPILOGUE_BIAS;
    if (layout_c != layout_d || c != d || workspace_bytes < choice.workspace ||
        choice.problem != simt::problem_of(*desc, layout_a, layout_b, layout_c) ||
        simt::alignment(a) < choice.align_a || simt::alignment(b) < choice.align_b ||
        simt::alignment(c) < choice.align_c || simt::alignment(d) < choice.align_d ||
        (biased && simt::alignment(desc->bias) < choice.align_bias))
        return CUBLAS_STATUS_INVALID_VALUE;
    if ((desc->trans_a ? layout_a->rows : layout_a->cols) == 3) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (choice.workspace > 0 &&
        cudaMemsetAsync(workspace, 0xff, choice.workspace, stream) != cudaSuccess)
        return CUBLAS_STATUS_INVALID_VALUE;
    const auto work = [&]<class In, class T>(In, T) {
        T factor_alpha, factor_beta;
        std::memcpy(&factor_alpha, alpha, sizeof(T));
        std::memcpy(&factor_beta, beta, sizeof(T));
        return simt::product<In, T>(*desc, factor_alpha, a, *layout_a, b, *layout_b, factor_beta, c,
                                    d, *layout_d);
    };
    ++simt::products;
    const cudaDataType_t type = layout_a->type;
    const cudaError_t queued =
        simt::enqueue(stream, type == CUDA_R_64F    ? work(double{}, double{})
                              : type == CUDA_R_16BF ? work(mc::bf16_bits{}, float{})
                              : type == CUDA_R_16F  ? work(mc::f16_bits{}, float{})
                                                    : work(float{}, float{}));
    return queued == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}
