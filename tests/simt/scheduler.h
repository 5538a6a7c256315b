// Runs a grid of CUDA threads on the CPU: a fiber a thread, a block after the other, all on the
// calling OS thread. Kernels see it through tests/simt/include/cuda_runtime.h.
//
// What a GPU leaves open is chosen against the kernel: blocks, threads and the order in which a
// barrier lets them go are permuted (set_seed). What a GPU leaves undefined is reported: a barrier
// that threads of one block reach at different places, a warp collective that a lane of its mask
// never reaches, a shuffle from outside the mask, a write behind dynamic shared memory. Built with
// a sanitizer, kernels are seen by it: AddressSanitizer finds reads and writes outside shared and
// device memory, ThreadSanitizer a missing barrier (each CUDA thread is a thread to it, barriers
// and collectives the only order between them).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>
#include <string>

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

// Written by the scheduler alone.
extern dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace simt {

inline constexpr int kWarpSize = 32;
inline constexpr size_t kMaxSharedBytes = 163 * 1024;  // of a block: sm_80's limit

enum class Collective : uint8_t { sync, shuffle, ballot };

// 0: blocks and threads in increasing order; 1: in decreasing order; else permuted, each launch
// anew. The default is the environment's SIMT_SEED, or 2.
void set_seed(uint64_t seed);

// Runs body() once for each thread of the grid. Returns an empty string, or one line that says what
// went wrong and where; the threads that were left are then abandoned where they stood.
std::string run_grid(const std::function<void()>& body, dim3 grid, dim3 block, size_t shared_bytes);

// True on a CUDA thread.
bool inside_kernel();

// The calling CUDA thread waits until all threads of the block that have not ended wait too.
void barrier(std::source_location where);
// Every lane of `mask` brings `bits`; returns what lane `source` brought (shuffle), or the lanes of
// the mask that brought a 1 (ballot).
uint64_t exchange(Collective kind, uint32_t mask, uint64_t bits, int source,
                  std::source_location where);
int lane();
void* dynamic_shared();

}  // namespace simt
