#include "kernels/cuda/nccl.h"

#include <cstring>

#include "kernels/cuda/device.h"
#include "kernels/cuda/fill.h"
#include "kernels/cuda/library.h"

namespace mc::cuda {

namespace {

class Nccl {
  public:
    // The one of the process; never given back: the driver may be gone before statics.
    static Nccl& get() {
        static auto* one = new Nccl;
        return *one;
    }
    // Error where it is absent.
    static const NcclFunctions& call() {
        Nccl& one = get();
        if (!one.library_)
            throw Error("[nccl] several processes with --device cuda need it: " + one.report() +
                        "; install libnccl2");
        return one.call_;
    }
    std::string report() const {
        int version = 0;
        if (library_) call_.version(&version);
        return library_.report(static_cast<size_t>(version));
    }

  private:
    Nccl() : library_("NCCL", "MOCLIP_NCCL", "nccl", {"2", ""}) {
        library_.find(call_.version, "ncclGetVersion");
        library_.find(call_.error_string, "ncclGetErrorString");
        library_.find(call_.new_id, "ncclGetUniqueId");
        library_.find(call_.join, "ncclCommInitRank");
        library_.find(call_.leave, "ncclCommDestroy");
        library_.find(call_.all_reduce, "ncclAllReduce");
        library_.find(call_.broadcast, "ncclBroadcast");
    }

    Library library_;
    NcclFunctions call_{};
};

void check_nccl(const char* statement, NcclStatus status) {
    if (status != kNcclSuccess)
        throw Error(std::string("[nccl] ") + statement + ": " + Nccl::call().error_string(status) +
                    "; NCCL_DEBUG=WARN tells more");
}

NcclType type_of(DType dtype) {
    switch (dtype) {
        case DType::f32:
            return kNcclFloat32;
        case DType::f64:
            return kNcclFloat64;
        case DType::i64:
            return kNcclInt64;
        default:
            throw Error(std::string("[all_reduce] got ") + name_of(dtype) +
                        ", want f32, f64 or i64");
    }
}

NcclComm* group_of(void* group) {
    return static_cast<NcclComm*>(group);
}

}  // namespace

std::string nccl_report() {
    return Nccl::get().report();
}

void fill_collective(Backend& backend) {
    CollectiveKernels& collective = backend.collective;
    collective.new_id = [](Context&, unsigned char* bytes) {
        static_assert(sizeof(NcclId) == CollectiveKernels::kIdBytes);
        NcclId id;
        check_nccl("ncclGetUniqueId", Nccl::call().new_id(&id));
        std::memcpy(bytes, id.bytes, sizeof(id));
    };
    collective.join = [](Context&, void** group, const unsigned char* bytes, int rank, int size) {
        NcclId id;
        std::memcpy(id.bytes, bytes, sizeof(id));
        NcclComm* made = nullptr;
        check_nccl("ncclCommInitRank", Nccl::call().join(&made, size, id, rank));
        *group = made;
    };
    collective.leave = [](Context& context, void* group) {
        MC_CUDA("nccl", cudaStreamSynchronize(stream_of(context)));
        check_nccl("ncclCommDestroy", Nccl::call().leave(group_of(group)));
    };
    collective.all_reduce = [](Context& context, void* group, void* data, int64_t count,
                               DType dtype) {
        check_nccl("ncclAllReduce",
                   Nccl::call().all_reduce(data, data, static_cast<size_t>(count), type_of(dtype),
                                           kNcclSum, group_of(group), stream_of(context)));
    };
    collective.broadcast = [](Context& context, void* group, void* data, int64_t bytes) {
        check_nccl("ncclBroadcast",
                   Nccl::call().broadcast(data, data, static_cast<size_t>(bytes), kNcclUint8, 0,
                                          group_of(group), stream_of(context)));
    };
}

}  // namespace mc::cuda
