// NCCL, NVIDIA's library of sums over several GPUs, opened at run time: libnccl.so.2, by the
// loader's paths and in /usr/local/cuda. The environment variable MOCLIP_NCCL names another file,
// or is "off". A run of one process never opens it.
//
// Its header is not among the toolkit's, so what we call is declared here; the library keeps these
// numbers and layouts for all versions 2.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <string>

namespace mc::cuda {

struct NcclId {
    char bytes[128];
};
struct NcclComm;  // opaque
enum NcclStatus { kNcclSuccess = 0 };
enum NcclType { kNcclUint8 = 1, kNcclInt64 = 4, kNcclFloat32 = 7, kNcclFloat64 = 8 };
enum NcclReduction { kNcclSum = 0 };

struct NcclFunctions {
    NcclStatus (*version)(int*);
    const char* (*error_string)(NcclStatus);
    NcclStatus (*new_id)(NcclId*);
    NcclStatus (*join)(NcclComm**, int size, NcclId, int rank);
    NcclStatus (*leave)(NcclComm*);
    NcclStatus (*all_reduce)(const void* send, void* receive, size_t count, NcclType, NcclReduction,
                             NcclComm*, cudaStream_t);
    NcclStatus (*broadcast)(const void* send, void* receive, size_t count, NcclType, int root,
                            NcclComm*, cudaStream_t);
};

// One line: "NCCL 2.27.3 (libnccl.so.2)", or why there is none.
std::string nccl_report();

}  // namespace mc::cuda
