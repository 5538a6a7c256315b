// libmoclip_mpi.so, see train/mpi_table.h.
#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "train/mpi_table.h"

namespace {

// A count is an int; long buffers go in parts.
constexpr int64_t kMost = int64_t{1} << 30;

const char* said(int status) {
    if (status == MPI_SUCCESS) return nullptr;
    static char text[MPI_MAX_ERROR_STRING + 1];
    int length = 0;
    MPI_Error_string(status, text, &length);
    return text;
}

const char* begin(int* rank, int* size, int* local_rank) {
    int provided = 0;
    int status = MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
    if (status != MPI_SUCCESS) return said(status);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, rank);
    MPI_Comm_size(MPI_COMM_WORLD, size);
    MPI_Comm machine;
    status =
        MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, *rank, MPI_INFO_NULL, &machine);
    if (status != MPI_SUCCESS) return said(status);
    MPI_Comm_rank(machine, local_rank);
    return said(MPI_Comm_free(&machine));
}

const char* all_reduce(void* data, int64_t count, mc::DType dtype) {
    const MPI_Datatype type = dtype == mc::DType::f32   ? MPI_FLOAT
                              : dtype == mc::DType::f64 ? MPI_DOUBLE
                                                        : MPI_INT64_T;
    for (int64_t at = 0; at < count; at += kMost) {
        char* part = static_cast<char*>(data) + at * static_cast<int64_t>(mc::size_of(dtype));
        const int status =
            MPI_Allreduce(MPI_IN_PLACE, part, static_cast<int>(std::min(kMost, count - at)), type,
                          MPI_SUM, MPI_COMM_WORLD);
        if (status != MPI_SUCCESS) return said(status);
    }
    return nullptr;
}

const char* broadcast(void* data, int64_t bytes) {
    for (int64_t at = 0; at < bytes; at += kMost) {
        const int status =
            MPI_Bcast(static_cast<char*>(data) + at, static_cast<int>(std::min(kMost, bytes - at)),
                      MPI_BYTE, 0, MPI_COMM_WORLD);
        if (status != MPI_SUCCESS) return said(status);
    }
    return nullptr;
}

// MPI itself waits by asking again and again, which would take a core from the rank that works.
const char* barrier() {
    MPI_Request request;
    int status = MPI_Ibarrier(MPI_COMM_WORLD, &request);
    for (int done = 0; status == MPI_SUCCESS;) {
        status = MPI_Test(&request, &done, MPI_STATUS_IGNORE);
        if (done) break;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return said(status);
}

const char* end() {
    if (const char* error = barrier()) return error;
    return said(MPI_Finalize());
}

}  // namespace

extern "C" const mc::train::MpiTable moclip_mpi_table;
const mc::train::MpiTable moclip_mpi_table = {begin, all_reduce, broadcast, barrier, end};
