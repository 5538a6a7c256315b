#include "kernels/memory.h"

#include <cstring>
#include <new>

#include "kernels/backend.h"
#include "kernels/cpu/fill.h"

namespace mc {
namespace {

constexpr std::align_val_t kAlignment{64};

void move(Context&, void* dst, const void* src, size_t bytes) {
    if (bytes > 0) std::memmove(dst, src, bytes);
}

}  // namespace

void fill_memory(Backend& backend) {
    MemoryKernels& memory = backend.memory;
    memory.allocate = [](Context&, void** data, size_t bytes) {
        *data = ::operator new(bytes, kAlignment, std::nothrow);
    };
    memory.release = [](Context&, void* data) { ::operator delete(data, kAlignment); };
    memory.copy = memory.upload = memory.download = move;
    memory.zero = [](Context&, void* dst, size_t bytes) {
        if (bytes > 0) std::memset(dst, 0, bytes);
    };
}

}  // namespace mc
