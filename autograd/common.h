// Shared by the operations' files: the kernel table and context of a tensor's device, checks.
#pragma once

#include "autograd/ops.h"

namespace mc::detail {

template <class T>
KernelTable<T>& table(const Tensor& t) {
    return backend(t.device()).table<T>();
}
inline Context& context(const Tensor& t) {
    return default_context(t.device());
}

inline void check_alike(const char* op, const Tensor& a, const Tensor& b) {
    if (a.dtype() != b.dtype())
        throw Error(std::string("[") + op + "] got " + name_of(a.dtype()) + " " + a.shape().str() +
                    " and " + name_of(b.dtype()) + " " + b.shape().str() +
                    ", want one dtype; convert with to()");
    if (a.device() != b.device())
        throw Error(std::string("[") + op + "] got " + a.shape().str() + " on " +
                    name_of(a.device()) + " and " + b.shape().str() + " on " + name_of(b.device()) +
                    ", want one device; copy with to()");
}

// Ids, labels or a mask as a kernel of that device takes them.
inline Tensor index_on(DeviceType device, const Tensor& t) {
    return t.to(device).contiguous();
}

// A dimension counted from either end, or an error with the operation's name.
inline int dim_of(const char* op, const Tensor& t, int dim) {
    const int wrapped = dim < 0 ? dim + t.dims() : dim;
    if (wrapped < 0 || wrapped >= t.dims())
        throw Error(std::string("[") + op + "] dimension " + std::to_string(dim) + " of shape " +
                    t.shape().str());
    return wrapped;
}

// rows x last dimension
inline int64_t rows_of(const Tensor& t) {
    int64_t rows = 1;
    for (int i = 0; i + 1 < t.dims(); ++i) rows *= t.shape()[i];
    return rows;
}

// An optional parameter as kernels take it: contiguous, or undefined.
inline Tensor contiguous_or_none(const Tensor& t) {
    return t.defined() ? t.contiguous() : t;
}

inline Tensor empty_like(const Tensor& t) {
    return Tensor::empty(t.shape(), t.dtype(), t.device());
}

// Where a function of t (contiguous) goes: over t itself, where the caller holds the last handle of
// its memory, or to a new tensor. Saves memory, and the traffic of lines that are only written.
inline Tensor over_or_empty_like(const Tensor& t) {
    if (!t.is_sole()) return empty_like(t);
    t.bump_version();
    return t;
}

// Pointers of an optional parameter, and of its gradient buffer if it has a slot.
template <class T>
const T* data_or_null(const Tensor& t) {
    return t.defined() ? t.ptr<T>() : nullptr;
}
template <class T>
T* grad_or_null(const std::shared_ptr<GradSlot>& slot) {
    return slot ? grad_buffer(slot).ptr<T>() : nullptr;
}

}  // namespace mc::detail
