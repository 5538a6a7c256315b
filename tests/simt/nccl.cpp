// An NCCL for the emulation: the calls of kernels/cuda/nccl.h, for processes of this machine, which
// meet in a file that they map. As on a GPU the work is queued on a stream, and done when somebody
// waits for it. Linked into a program whose symbols are exported, it is what kernels/cuda/nccl.cu
// finds.
#include <cuda_runtime.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>

#include "kernels/cuda/nccl.h"
#include "tests/shared_meeting.h"
#include "tests/simt/runtime.h"

namespace mc::cuda {

struct NcclComm {
    mc::testing::SharedMeeting* meeting;
    int rank, size;
};

namespace {

constexpr auto kFailed = static_cast<NcclStatus>(3);
constexpr size_t kBytes = sizeof(mc::testing::SharedMeeting);

NcclStatus queue(cudaStream_t stream, std::function<void()> work) {
    return simt::enqueue(stream, std::move(work)) == cudaSuccess ? kNcclSuccess : kFailed;
}

}  // namespace
}  // namespace mc::cuda

using namespace mc::cuda;

extern "C" {

NcclStatus ncclGetVersion(int* version) {
    *version = 20000;
    return kNcclSuccess;
}
const char* ncclGetErrorString(NcclStatus) {
    return "emulated error";
}
NcclStatus ncclGetUniqueId(NcclId* id) {
    const std::string path =
        (std::filesystem::temp_directory_path() / "moclip_nccl_XXXXXX").string();
    if (path.size() >= sizeof id->bytes) return kFailed;
    *id = {};
    path.copy(id->bytes, path.size());
    const int file = mkstemp(id->bytes);
    if (file < 0 || ftruncate(file, kBytes) != 0) return kFailed;
    close(file);
    return kNcclSuccess;
}
NcclStatus ncclCommInitRank(NcclComm** comm, int size, NcclId id, int rank) {
    if (size > mc::testing::SharedMeeting::kRanks || rank < 0 || rank >= size) return kFailed;
    const int file = open(id.bytes, O_RDWR);
    if (file < 0) return kFailed;
    void* mapped = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (mapped == MAP_FAILED) return kFailed;
    *comm = new NcclComm{static_cast<mc::testing::SharedMeeting*>(mapped), rank, size};
    (*comm)->meeting->meet(size);
    if (rank == 0) unlink(id.bytes);
    return kNcclSuccess;
}
NcclStatus ncclCommDestroy(NcclComm* comm) {
    munmap(comm->meeting, kBytes);
    delete comm;
    return kNcclSuccess;
}
NcclStatus ncclAllReduce(const void* send, void* receive, size_t count, NcclType type,
                         NcclReduction reduction, NcclComm* comm, cudaStream_t stream) {
    if (send != receive || reduction != kNcclSum) return kFailed;
    const auto sum = [=]<class T>(T) {
        return queue(stream, [=] {
            comm->meeting->sum(static_cast<T*>(receive), count, comm->rank, comm->size);
        });
    };
    if (type == kNcclFloat32) return sum(float{});
    if (type == kNcclFloat64) return sum(double{});
    return type == kNcclInt64 ? sum(int64_t{}) : kFailed;
}
NcclStatus ncclBroadcast(const void* send, void* receive, size_t count, NcclType type, int root,
                         NcclComm* comm, cudaStream_t stream) {
    if (send != receive || type != kNcclUint8 || root != 0) return kFailed;
    return queue(stream,
                 [=] { comm->meeting->copy_from_first(receive, count, comm->rank, comm->size); });
}

}  // extern "C"
