// Work that is recorded once and launched many times: a step of a few hundred small kernels then
// costs the program one launch. Optional: a backend without it leaves the entries empty, and the
// CPU does, so ask with `if (table.graph.begin)`. CUDA's are CUDA graphs; the environment variable
// MOCLIP_CUDA_GRAPHS=off empties them. tensor/graph.h is how the rest of the engine uses them.
//
// Between begin and end what this thread puts on the context's stream is recorded and not done.
// Pointers and sizes are recorded as they are: memory that a graph reads or writes must stay where
// it is. What needs the program to wait, or memory from the system (upload, download, allocate,
// release), cannot be recorded and is an error that names the operation.
#pragma once

#include "kernels/kernel.h"

namespace mc {

struct RecordedGraph;  // a backend's own

struct GraphKernels {
    Kernel<> begin{"graph"};
    // *graph = what was recorded since begin, and how many operations it has; a null pointer: it is
    // dropped, without an error. The context is as it was before in any case.
    Kernel<RecordedGraph**, size_t*> end{"graph"};
    Kernel<RecordedGraph*> launch{"graph"};   // in the order of the stream
    Kernel<RecordedGraph*> release{"graph"};  // also while a launch of it is on its way
};

}  // namespace mc
