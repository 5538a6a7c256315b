// The processes that MPI started: `mpirun -n 8 ./moclip_train ...`.
//
// Tensors on the CPU go through MPI, those on GPUs through NCCL, each process on the GPU of its
// number among those of its machine. MPI is our libmoclip_mpi.so in lib/ beside the program's bin/,
// built where MPI was found (tools/setup.sh installs OpenMPI); NCCL is opened at run time
// (kernels/collective.h).
#pragma once

#include <memory>

#include "tensor/communicator.h"

namespace mc::train {

// True if a launcher started this process as one of several (or as one of one).
bool started_by_mpi();

// All processes, or this one alone if MPI did not start it. Once a process, and before the device
// is used. Ends together with the others if the object goes without an exception on its way.
// Error: no libmoclip_mpi.so or NCCL, more processes on this machine than GPUs.
std::unique_ptr<Communicator> join_processes(DeviceType device);

// The same ranks, with NCCL for tensors on GPUs and `host` for what is on the CPU.
std::unique_ptr<Communicator> with_nccl(std::unique_ptr<Communicator> host);

}  // namespace mc::train
