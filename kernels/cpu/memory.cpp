#include "kernels/memory.h"

#include <cstring>
#include <new>

#include "kernels/backend.h"
#include "kernels/cpu/fill.h"
#include "kernels/cpu/thread_pool.h"

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
    // On all threads: the first to touch a page waits for the system to find one.
    memory.zero = [](Context& context, void* dst, size_t bytes) {
        constexpr int64_t kPart = int64_t{1} << 20;
        context.pool->for_ranges(
            static_cast<int64_t>(bytes), kPart, [dst](int64_t begin, int64_t end) {
                std::memset(static_cast<char*>(dst) + begin, 0, static_cast<size_t>(end - begin));
            });
    };
}

}  // namespace mc
