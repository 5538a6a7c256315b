// Between the GPUs of several processes (NCCL). The CPU's table has none of it: there, processes
// meet through MPI (train/processes.h).
#pragma once

#include "kernels/kernel.h"

namespace mc {

struct CollectiveKernels {
    static constexpr int64_t kIdBytes = 128;

    // The id of a new group of processes: one makes it, all begin with it.
    Kernel<unsigned char*> new_id{"collective_id"};
    // *group = a group of `size` processes, of which this is `rank`; comes back when all are there.
    Kernel<void**, const unsigned char*, int, int> join{"collective_join"};
    Kernel<void*> leave{"collective_leave"};
    // (group, data, count, dtype): the sum over all, in place, in the order of the context's
    // stream. f32, f64 or i64.
    Kernel<void*, void*, int64_t, DType> all_reduce{"all_reduce"};
    // (group, data, bytes): rank 0's bytes to all, in the order of the stream.
    Kernel<void*, void*, int64_t> broadcast{"broadcast"};
};

}  // namespace mc
