// A kernel as a table entry, and what every kernel is handed.
//
// A family of operations has one header (kernels/norm.h, ...) that declares a struct of entries
// with one line of contract each; a backend fills them. A null entry is a typed error that names
// operation, dtype and device.
//
// Rules for every kernel: pointers, sizes and strides in elements, outputs first (`dst` before
// `src`); any size may be 0; buffers need no alignment beyond their element's; `dst` may equal
// `src` only where the contract says so; the result does not depend on the number of threads (work
// is cut into chunks by the problem's size alone); no exceptions for values (NaN flows through).
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/dtype.h"

namespace mc {

class ThreadPool;  // kernels/cpu/thread_pool.h

// Scratch memory of one thread of control: grows to the largest request and keeps it, so that a
// steady-state step allocates nothing. A loan is given back in reverse order (RAII in
// cpu/workspace.h).
class Workspace;  // kernels/cpu/workspace.h

struct Context {
    ThreadPool* pool = nullptr;      // CPU: who works; never null there
    Workspace* workspace = nullptr;  // never null
    void* stream = nullptr;          // CUDA: cudaStream_t
};

[[noreturn]] void throw_missing_kernel(const char* op, DType dtype, DeviceType device);

template <class... Args>
class Kernel {
  public:
    using Function = void (*)(Context&, Args...);
    explicit constexpr Kernel(const char* name) : name_(name) {}
    Kernel& operator=(Function function) {
        function_ = function;
        return *this;
    }
    explicit operator bool() const { return function_ != nullptr; }
    Function function() const { return function_; }
    const char* name() const { return name_; }
    void bind(DType dtype, DeviceType device) {  // for the error message alone
        dtype_ = dtype;
        device_ = device;
    }
    void operator()(Context& context, Args... args) const {
        if (!function_) throw_missing_kernel(name_, dtype_, device_);
        function_(context, args...);
    }

  private:
    const char* name_;
    Function function_ = nullptr;
    DType dtype_ = DType::f32;
    DeviceType device_ = DeviceType::cpu;
};

// Philox4x32-10 stream position: key = seed, counter = (stream, element). Draw i of stream s is the
// same on every device and for every thread count.
struct RandomStream {
    uint64_t seed = 0;
    uint64_t stream = 0;
};

// Sizes and strides (elements) of an n-d loop over up to two sources; dst is contiguous in
// row-major order of `size`.
inline constexpr int kMaxDims = 8;
struct StridedLoop {
    int dims = 0;
    int64_t size[kMaxDims] = {};
    int64_t stride_a[kMaxDims] = {};  // 0 broadcasts
    int64_t stride_b[kMaxDims] = {};
};

}  // namespace mc
