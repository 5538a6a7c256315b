// Who works for a thread that asks: the process-wide pool and the thread's own workspace.
#include <algorithm>
#include <optional>
#include <string>
#include <thread>

#include "kernels/cpu/thread_pool.h"
#include "kernels/cpu/workspace.h"
#include "kernels/cuda.h"

namespace mc {

namespace {

// The pool keeps its address when its size changes, so a Context that someone holds stays valid.
std::optional<ThreadPool>& process_pool() {
    static std::optional<ThreadPool> pool(
        std::in_place, std::max(1, static_cast<int>(std::thread::hardware_concurrency())));
    return pool;
}

}  // namespace

Workspace& thread_workspace() {
    thread_local Workspace workspace;
    return workspace;
}

Context& default_context(DeviceType device) {
    if (device == DeviceType::cuda) return cuda_default_context();
    thread_local Context context{&*process_pool(), &thread_workspace(), nullptr};
    return context;
}

bool device_available(DeviceType device) {
    return device == DeviceType::cpu || cuda_available();
}

void set_num_threads(int threads) {
    if (threads < 1)
        throw Error("[set_num_threads] threads: got " + std::to_string(threads) +
                    ", want at least 1");
    if (threads != process_pool()->size()) process_pool().emplace(threads);
}

int num_threads() {
    return process_pool()->size();
}

void throw_missing_kernel(const char* op, DType dtype, DeviceType device) {
    throw Error(std::string("[") + op + "] no kernel for dtype " + name_of(dtype) + " on device " +
                name_of(device) + "; move the tensors to another device or dtype");
}

}  // namespace mc
