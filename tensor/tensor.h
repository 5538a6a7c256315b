// Tensor: a cheap handle of shared storage, with an offset, a shape, strides and a dtype.
//
//     Tensor x = Tensor::from({1, 2, 3, 4}, {2, 2});      // f32 (2, 2)
//     Tensor y = x.transpose(0, 1).contiguous();          // a view, then a copy
//     float v = y.item<float>({0, 1});
//
// Views (transpose, slice, expand, reshape where possible) share storage. Values do not change once
// made, but for optimiser steps and caches, which call `bump_version` so that a stale saved tensor
// is noticed (NOTE [ Saved tensors and versions ] in autograd/tape.h). An error names the operation
// and the shapes.
//
// A tensor is in the memory of one device, and views stay there. Kernels take `ptr`; the program
// itself reads and writes through `data`, which is an error for a tensor on a GPU: `cpu()` first.
#pragma once

#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "tensor/shape.h"

namespace mc {

struct PackedWeights;  // tensor/packed_weight.cpp

struct Storage {
    std::byte* data = nullptr;
    size_t bytes = 0;
    DeviceType device = DeviceType::cpu;
    uint32_t version = 0;
    std::shared_ptr<PackedWeights> packed;  // of these bytes (tensor/packed_weight.h); null: none
    std::shared_ptr<const void> owner;  // set: borrowed (a mapped file); null: from the allocator

    Storage(size_t bytes, DeviceType device);  // allocates
    Storage(const void* data, size_t bytes,
            std::shared_ptr<const void> owner);  // borrows, read-only by promise
    ~Storage();
    Storage(const Storage&) = delete;
    Storage& operator=(const Storage&) = delete;
};

class Tensor {
  public:
    Tensor() = default;  // undefined

    static Tensor empty(const Shape& shape, DType dtype = DType::f32,
                        DeviceType device = DeviceType::cpu);
    static Tensor zeros(const Shape& shape, DType dtype = DType::f32,
                        DeviceType device = DeviceType::cpu);
    static Tensor full(const Shape& shape, double value, DType dtype = DType::f32,
                       DeviceType device = DeviceType::cpu);
    static Tensor borrow(const void* data, const Shape& shape, DType dtype,
                         std::shared_ptr<const void> owner);
    template <class T>
    static Tensor from_span(std::span<const T> values, const Shape& shape) {
        Tensor t = empty(shape, DTypeOf<T>::value);
        if (static_cast<int64_t>(values.size()) != shape.numel())
            throw Error("[tensor] " + std::to_string(values.size()) + " values for shape " +
                        shape.str());
        if (!values.empty()) std::memcpy(t.data<T>(), values.data(), values.size_bytes());
        return t;
    }
    static Tensor from(const std::vector<float>& values, const Shape& shape) {
        return from_span<float>(values, shape);
    }
    static Tensor from_ids(const std::vector<int64_t>& values, const Shape& shape) {
        return from_span<int64_t>(values, shape);
    }
    static Tensor from_bools(const std::vector<uint8_t>& values, const Shape& shape);

    bool defined() const { return storage_ != nullptr; }
    const Shape& shape() const { return shape_; }
    const Shape& strides() const { return strides_; }  // elements
    int dims() const { return shape_.size(); }
    int64_t size(int dim) const { return shape_[wrap(dim)]; }
    int64_t numel() const { return shape_.numel(); }
    DType dtype() const { return dtype_; }
    DeviceType device() const { return storage_->device; }
    const std::shared_ptr<Storage>& storage() const { return storage_; }
    // True if no other handle, view or file shares this memory: who holds such a tensor may write
    // to it without anybody's noticing.
    bool is_sole() const { return storage_.use_count() == 1 && !storage_->owner; }
    uint32_t version() const { return storage_->version; }
    void bump_version() const { ++storage_->version; }

    // The first element, of a tensor on the CPU. T must be the dtype's type (f16/bf16:
    // f16_bits/bf16_bits through raw()).
    template <class T>
    T* data() const {
        if (device() != DeviceType::cpu) throw_device();
        return ptr<T>();
    }
    std::byte* raw() const {
        if (device() != DeviceType::cpu) throw_device();
        return raw_ptr();
    }
    // The same on any device: for the kernels of device() alone.
    template <class T>
    T* ptr() const {
        if (DTypeOf<T>::value != dtype_) throw_dtype(DTypeOf<T>::value);
        return reinterpret_cast<T*>(raw_ptr());
    }
    std::byte* raw_ptr() const {
        return storage_->data + offset_ * static_cast<int64_t>(size_of(dtype_));
    }

    bool is_contiguous() const;
    Tensor contiguous() const;           // itself if it is, else a copy
    Tensor clone() const;                // always a contiguous copy
    Tensor to(DType dtype) const;        // itself if it has it, else a converted contiguous copy
    Tensor to(DeviceType device) const;  // itself if it is there, else a contiguous copy
    Tensor cpu() const { return to(DeviceType::cpu); }
    Tensor reshape(
        const Shape& shape) const;  // one size may be -1; a view where strides allow, else a copy
    Tensor transpose(int a, int b) const;                     // view
    Tensor permute(std::initializer_list<int> order) const;   // view
    Tensor slice(int dim, int64_t begin, int64_t end) const;  // view; negative counts from the end
    Tensor expand(const Shape& shape) const;  // view with strides 0; -1 keeps a size
    Tensor unsqueeze(int dim) const;          // view
    Tensor squeeze(int dim) const;            // view

    // Values, from any device.
    template <class T>
    T item() const {
        if (numel() != 1) throw Error("[item] got shape " + shape_.str() + ", want one element");
        return *cpu().data<T>();
    }
    template <class T>
    T item(std::initializer_list<int64_t> index) const {
        Tensor one = *this;
        int d = 0;
        for (int64_t i : index) one.offset_ += i * strides_[d++];
        one.shape_ = one.strides_ = Shape();
        return one.item<T>();
    }
    template <class T>
    std::vector<T> to_vector() const {  // row-major
        const Tensor c = cpu().contiguous();
        return std::vector<T>(c.data<T>(), c.data<T>() + c.numel());
    }

    // In place, for optimisers, buffers and tests: contiguous tensors alone.
    void fill_(double value) const;
    void copy_(const Tensor& source) const;  // same shape; converts dtype, from any device

    int wrap(int dim) const;  // -1 -> dims-1; an error outside

  private:
    [[noreturn]] void throw_dtype(DType wanted) const;
    [[noreturn]] void throw_device() const;

    std::shared_ptr<Storage> storage_;
    int64_t offset_ = 0;
    Shape shape_, strides_;
    DType dtype_ = DType::f32;
};

// The loop that a kernel takes: `out` contiguous, a and b broadcast to it.
StridedLoop broadcast_loop(const Shape& out, const Tensor& a, const Tensor& b);

// Calls f with a value of the tensor's floating type: dispatch_float(x, [&](auto zero) { using T =
// decltype(zero); ... }).
template <class F>
decltype(auto) dispatch_float(DType dtype, const char* op, F&& f) {
    if (dtype == DType::f32) return f(float{});
    if (dtype == DType::f64) return f(double{});
    throw Error(std::string("[") + op + "] got " + name_of(dtype) +
                ", want f32 or f64; convert with to()");
}

}  // namespace mc
