#include "train/processes.h"

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <string>

#include "kernels/cuda.h"
#include "train/mpi_table.h"

namespace mc::train {
namespace {

const MpiTable& mpi() {
    static const MpiTable* table = [] {
        namespace fs = std::filesystem;
        const fs::path file =
            fs::read_symlink("/proc/self/exe").parent_path() / "../lib/libmoclip_mpi.so";
        const std::string name = file.lexically_normal().string();
        void* handle =
            dlopen(name.c_str(), RTLD_NOW | RTLD_GLOBAL);  // MPI's own plugins look in it
        const void* found = handle ? dlsym(handle, kMpiTable) : nullptr;
        if (!found)
            throw Error(std::string("started by mpirun, but this build has no MPI (") + dlerror() +
                        "); install libopenmpi-dev and build anew");
        return static_cast<const MpiTable*>(found);
    }();
    return *table;
}

void check(const char* error) {
    if (error) throw Error(std::string("[mpi] ") + error);
}

bool ends_together = false;

// The last that the process does, after it has said why it ends.
void end() {
    if (ends_together) (void)mpi().end();
}

class MpiCommunicator : public Communicator {
  public:
    using Communicator::Communicator;
    ~MpiCommunicator() override {
        if (std::uncaught_exceptions() > 0) return;
        try {
            barrier();  // asleep, while rank 0 has work to do
        } catch (const Error&) {
            return;
        }
        end_together();
    }
    void end_together() override { ends_together = true; }

  protected:
    void sum_over_ranks(const Tensor& values) override {
        check(mpi().all_reduce(on_cpu(values), values.numel(), values.dtype()));
    }
    void copy_from_first(const Tensor& values) override {
        check(mpi().broadcast(on_cpu(values),
                              values.numel() * static_cast<int64_t>(size_of(values.dtype()))));
    }
    void wait_for_all() override { check(mpi().barrier()); }

  private:
    static void* on_cpu(const Tensor& values) { return values.raw(); }  // else an error
};

class NcclCommunicator : public Communicator {
  public:
    explicit NcclCommunicator(std::unique_ptr<Communicator> host)
        : Communicator(host->rank(), host->size()), host_(std::move(host)) {
        const Tensor id = Tensor::zeros({CollectiveKernels::kIdBytes / 8}, DType::i64);
        const auto bytes = reinterpret_cast<unsigned char*>(id.raw());
        if (rank() == 0) kernels().new_id(context(), bytes);
        host_->broadcast(id);
        kernels().join(context(), &group_, bytes, rank(), size());
    }
    ~NcclCommunicator() override {
        if (std::uncaught_exceptions() > 0) return;
        try {
            kernels().leave(context(), group_);
        } catch (const Error&) {  // the process ends anyway
        }
    }
    void end_together() override { host_->end_together(); }

  protected:
    void sum_over_ranks(const Tensor& values) override {
        if (values.device() == DeviceType::cpu) return host_->all_reduce(values);
        kernels().all_reduce(context(), group_, values.raw_ptr(), values.numel(), values.dtype());
    }
    void copy_from_first(const Tensor& values) override {
        if (values.device() == DeviceType::cpu) return host_->broadcast(values);
        kernels().broadcast(context(), group_, values.raw_ptr(),
                            values.numel() * static_cast<int64_t>(size_of(values.dtype())));
    }
    void wait_for_all() override { host_->barrier(); }

  private:
    static const CollectiveKernels& kernels() { return backend(DeviceType::cuda).collective; }
    static Context& context() { return default_context(DeviceType::cuda); }

    std::unique_ptr<Communicator> host_;
    void* group_ = nullptr;
};

}  // namespace

bool started_by_mpi() {
    for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_SIZE"})
        if (std::getenv(name)) return true;
    return false;
}

std::unique_ptr<Communicator> join_processes(DeviceType device) {
    if (!started_by_mpi()) return std::make_unique<SingleProcess>();
    int rank = 0, size = 1, local_rank = 0;
    check(mpi().begin(&rank, &size, &local_rank));
    std::atexit(end);
    auto host = std::make_unique<MpiCommunicator>(rank, size);
    if (device == DeviceType::cpu || size == 1) return host;
    // A launcher that gives each process a GPU of its own (Slurm's --gpus-per-task) shows it no
    // other.
    const char* shown = std::getenv("CUDA_VISIBLE_DEVICES");
    const bool own = shown && *shown && !std::strchr(shown, ',');
    cuda_use_device(own ? 0 : local_rank);
    return with_nccl(std::move(host));
}

std::unique_ptr<Communicator> with_nccl(std::unique_ptr<Communicator> host) {
    return std::make_unique<NcclCommunicator>(std::move(host));
}

}  // namespace mc::train
