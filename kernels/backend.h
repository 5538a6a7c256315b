// The kernel tables: one a backend, one entry a kernel. Start reading here.
//
//     Backend& cpu = backend(DeviceType::cpu);
//     cpu.f32.layer_norm(context, {.y = y, ..., .rows = 49, .cols = 384, .eps = 1e-5});
//     if (cpu.f64.matmul) ...                       // ask, don't assume
//
// kernels/cpu/ fills the CPU's table (cpu_backend.cpp lists every entry); a build without CUDA
// links a stub whose table is empty, so that each use is a typed error.
#pragma once

#include "kernels/attention.h"
#include "kernels/collective.h"
#include "kernels/conv.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/error.h"
#include "kernels/graph.h"
#include "kernels/gru.h"
#include "kernels/mask.h"
#include "kernels/matmul.h"
#include "kernels/memory.h"
#include "kernels/norm.h"
#include "kernels/optim.h"
#include "kernels/random.h"
#include "kernels/reduce.h"
#include "kernels/sampling.h"
#include "kernels/softmax.h"
#include "kernels/sort.h"

namespace mc {

template <class T>
struct KernelTable : ElementwiseKernels<T>,
                     ReduceKernels<T>,
                     MatmulKernels<T>,
                     NormKernels<T>,
                     SoftmaxKernels<T>,
                     AttentionKernels<T>,
                     ConvKernels<T>,
                     EmbeddingKernels<T>,
                     OptimKernels<T>,
                     RandomKernels<T>,
                     SortKernels<T>,
                     GruKernels<T> {};

struct Backend {
    DeviceType device = DeviceType::cpu;
    KernelTable<float> f32;
    KernelTable<double> f64;
    CopyKernels copy;
    MaskKernels mask;
    SamplingKernels sampling;
    MemoryKernels memory;
    GraphKernels graph;
    CollectiveKernels collective;

    template <class T>
    KernelTable<T>& table();
};
template <>
inline KernelTable<float>& Backend::table<float>() {
    return f32;
}
template <>
inline KernelTable<double>& Backend::table<double>() {
    return f64;
}

// The table of a device. Asking for CUDA in a build without it returns the stub's empty table.
Backend& backend(DeviceType device);

// True if a device of this kind can be used in this process.
bool device_available(DeviceType device);

// The calling thread's context on a device: the process-wide pool, a workspace of this thread's
// own.
Context& default_context(DeviceType device);

// How many threads the process-wide CPU pool has (default: the cores this process may use). Set
// before first use or between operations; results do not depend on it.
void set_num_threads(int threads);
int num_threads();

}  // namespace mc
