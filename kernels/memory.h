// A device's memory: what the allocator (tensor/allocator.h) takes, and how bytes come and go. On
// the CPU, where all memory is the host's, upload, download and copy are one.
#pragma once

#include "kernels/kernel.h"

namespace mc {

struct MemoryKernels {
    // *data = that many bytes (at least 1), aligned to 64, or null where there are no more.
    Kernel<void**, size_t> allocate{"allocate"};
    Kernel<void*> release{"release"};
    // (dst, src, bytes), in the order of the context's stream. The host's side of an upload may
    // change as soon as the call is back; a download is complete by then.
    Kernel<void*, const void*, size_t> copy{"copy"}, upload{"upload"}, download{"download"};
    Kernel<void*, size_t> zero{"zero"};
};

}  // namespace mc
