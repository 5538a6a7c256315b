// What libmoclip_mpi.so (tools/mpi_plugin.cpp) offers: the one file of ours that is linked to MPI
// is a library of its own, opened where MPI started the process (train/processes.h). So programs
// start as fast as ever, and run where there is no MPI.
#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace mc::train {

// All calls return null, or what went wrong.
struct MpiTable {
    // Begins MPI; local_rank counts the ranks of this machine.
    const char* (*begin)(int* rank, int* size, int* local_rank);
    const char* (*all_reduce)(void* data, int64_t count, DType dtype);  // sum, in place
    const char* (*broadcast)(void* data, int64_t bytes);                // from rank 0
    const char* (*barrier)();                                           // asleep
    const char* (*end)();  // waits for all; without it MPI ends all ranks with this one
};

inline constexpr const char* kMpiTable = "moclip_mpi_table";  // the symbol, an MpiTable

}  // namespace mc::train
