// The emulation itself: what a correct kernel may rely on works, and planted bugs are reported.
#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <filesystem>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "tests/error_of.h"
#include "tests/run_program.h"
#include "tests/simt/device_array.h"
#include "tests/simt/fiber.h"
#include "tests/simt/runtime.h"

using mc::testing::contains;
using simt::DeviceArray;
using simt::start;

namespace {

// Runs a kernel that must fail; returns the report and forgets the failure.
template <class... P, class... A>
std::string report_of(dim3 grid, dim3 block, size_t shared, void (*kernel)(P...), A... args) {
    CHECK(start(grid, block, shared, kernel, args...) == cudaSuccess);
    CHECK(cudaDeviceSynchronize() == cudaErrorLaunchFailure);
    CHECK(cudaGetLastError() == cudaErrorLaunchFailure);  // and stays
    const std::string report = simt::report();
    CHECK(report == cudaGetErrorString(cudaErrorLaunchFailure));
    simt::reset();
    CHECK(cudaDeviceSynchronize() == cudaSuccess);
    return report;
}

// Runs a planted bug's test case in a process of its own, which the sanitizer must end with
// `status` and a report of that kind that names this file.
void check_report(const std::string& planted, int status, const char* kind) {
    const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
    const mc::testing::Outcome outcome =
        mc::testing::run_command("'" + self + "' --no-skip --test-case='" + planted + "'");
    INFO(planted);
    CHECK(outcome.status == status);
    CHECK(contains(outcome.text, kind));
    CHECK(contains(outcome.text, "emulation_test.cpp:"));
}

// ---- Correct kernels ---------------------------------------------------------------------------

__global__ void where_kernel(int* seen) {
    const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    atomicAdd(seen + block * blockDim.x * blockDim.y * blockDim.z + thread, 1);
}

// Reverses each block's values through shared memory, static and dynamic.
__global__ void reverse_kernel(int* values) {
    __shared__ int kept[96];
    int* dynamic = static_cast<int*>(simt::dynamic_shared());
    const unsigned t = threadIdx.x, n = blockDim.x;
    values += blockIdx.x * n;
    kept[t] = values[t];
    __syncthreads();
    dynamic[t] = kept[n - 1 - t];
    __syncthreads();
    values[n - 1 - t] = dynamic[n - 1 - t];
}

__global__ void warp_kernel(int* out) {
    const int lane = static_cast<int>(threadIdx.x % 32);
    int sum = lane;
    for (int distance = 16; distance > 0; distance /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    out[threadIdx.x * 8 + 0] = sum;
    out[threadIdx.x * 8 + 1] = __shfl_sync(0xffffffffu, lane, 3, 8);  // lane 3 of each eight
    out[threadIdx.x * 8 + 2] = __shfl_up_sync(0xffffffffu, lane, 1);  // lane 0 keeps its own
    out[threadIdx.x * 8 + 3] = __shfl_down_sync(0xffffffffu, lane, 2);
    out[threadIdx.x * 8 + 4] = static_cast<int>(__ballot_sync(0xffffffffu, lane % 3 == 0));
    out[threadIdx.x * 8 + 5] = __any_sync(0xffffffffu, lane == 7) + __all_sync(0xffffffffu, lane);
    out[threadIdx.x * 8 + 6] =
        __reduce_max_sync(0xffffffffu, lane) + __reduce_min_sync(0xffffffffu, lane + 1);
    // Two halves of a warp in collectives of their own, in either order.
    const unsigned mask = lane < 16 ? 0x0000ffffu : 0xffff0000u;
    out[threadIdx.x * 8 + 7] = __reduce_add_sync(mask, lane);
}

// Some threads leave; the barrier counts those that are left.
__global__ void leaving_kernel(int* counts) {
    if (threadIdx.x % 3 == 0) return;
    atomicAdd(counts + 0, 1);
    __syncthreads();
    if (counts[0] == 42) atomicAdd(counts + 1, 1);
    if (threadIdx.x % 3 == 1) return;
    __syncthreads();
    atomicAdd(counts + 2, 1);
}

// Which thread runs first is the machine's choice.
__global__ void first_kernel(int* order, int* next) {
    order[atomicAdd(next, 1)] = static_cast<int>(threadIdx.x);
}

// ---- Planted bugs ------------------------------------------------------------------------------

__global__ void shift_kernel(int* out, bool with_barrier) {
    __shared__ int kept[64];
    kept[threadIdx.x] = 0;
    __syncthreads();
    kept[threadIdx.x] = static_cast<int>(threadIdx.x) + 1;
    if (with_barrier) __syncthreads();
    out[threadIdx.x] = kept[(threadIdx.x + 1) % 64];
}

// Each lane of a warp reads what its neighbour has written.
__global__ void warp_shift_kernel(int* out, bool with_barrier) {
    __shared__ int kept[64];
    kept[threadIdx.x] = static_cast<int>(threadIdx.x);
    if (with_barrier) __syncwarp();
    out[threadIdx.x] = kept[threadIdx.x ^ 1];
}

// Two rounds through the same shared memory: the second one's write has to wait for the first one's
// reads.
__global__ void two_rounds_kernel(int* out, bool with_barrier) {
    __shared__ int kept[64];
    for (int round = 0; round < 2; ++round) {
        if (with_barrier) __syncthreads();
        kept[threadIdx.x] = round;
        __syncthreads();
        out[threadIdx.x] = kept[63 - threadIdx.x];
    }
}

__global__ void divergent_kernel(int* out) {
    if (threadIdx.x < 7) {
        __syncthreads();
        out[0] = 1;
    } else {
        __syncthreads();
        out[1] = 1;
    }
}

__global__ void barrier_against_warp_kernel(int* out) {
    if (threadIdx.x < 32) {
        if (threadIdx.x == 5) __syncthreads();
        out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1, 1);
    } else {
        __syncthreads();
    }
}

__global__ void early_return_kernel(int* out) {
    if (threadIdx.x == 31) return;
    out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1, 1);
}

__global__ void excluded_lane_kernel(int* out) {
    out[threadIdx.x] = __shfl_sync(0x0000ffffu, 1, 0);
}

__global__ void outside_mask_kernel(int* out) {
    if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0x0000ffffu, 1, 20);
}

__global__ void different_collectives_kernel(int* out) {
    if (threadIdx.x < 9)
        out[threadIdx.x] = __any_sync(0xffffffffu, 1);
    else
        __syncwarp();
}

__global__ void too_far_kernel(int* out, int n) {
    const int i = static_cast<int>(threadIdx.x);
    if (i <= n) out[i] = i;
}

__global__ void too_far_shared_kernel(int* out) {
    int* kept = static_cast<int*>(simt::dynamic_shared());
    kept[threadIdx.x + 1] = 1;
    __syncthreads();
    out[threadIdx.x] = kept[threadIdx.x];
}

__global__ void too_far_static_kernel(int* out, int n) {
    __shared__ int kept[64];
    if (static_cast<int>(threadIdx.x) <= n) kept[threadIdx.x] = 1;
    __syncthreads();
    if (threadIdx.x < 64) out[threadIdx.x] = kept[threadIdx.x];
}

}  // namespace

TEST_CASE("simt: every thread of every block runs once, in any order") {
    for (uint64_t seed : {0, 1, 2, 77}) {
        simt::set_seed(seed);
        DeviceArray<int> seen(std::vector<int>(3 * 2 * 2 * 5 * 4 * 3, 0));
        CHECK(start(dim3(3, 2, 2), dim3(5, 4, 3), 0, where_kernel, seen.data()) == cudaSuccess);
        CHECK(seen.copy() == std::vector<int>(720, 1));
    }
    std::set<std::vector<int>> orders;
    for (uint64_t seed : {0, 1, 5, 6}) {
        simt::set_seed(seed);
        DeviceArray<int> order(std::vector<int>(40, -1)), next(std::vector<int>(1, 0));
        CHECK(start(1, 40, 0, first_kernel, order.data(), next.data()) == cudaSuccess);
        orders.insert(order.copy());
    }
    CHECK(orders.size() == 4);
    simt::set_seed(2);
}

TEST_CASE("simt: shared memory, barriers, threads that leave") {
    for (uint64_t seed : {0, 1, 2, 3}) {
        simt::set_seed(seed);
        std::vector<int> values(4 * 96), want;
        std::iota(values.begin(), values.end(), 0);
        for (int b = 0; b < 4; ++b)
            for (int t = 95; t >= 0; --t) want.push_back(96 * b + t);
        DeviceArray<int> array(values);
        CHECK(start(4, 96, 96 * sizeof(int), reverse_kernel, array.data()) == cudaSuccess);
        CHECK(array.copy() == want);
        DeviceArray<int> counts(std::vector<int>(3, 0));
        CHECK(start(1, 63, 0, leaving_kernel, counts.data()) == cudaSuccess);
        CHECK(counts.copy() == std::vector<int>{42, 42, 21});
    }
    simt::set_seed(2);
}

TEST_CASE("simt: warp collectives") {
    for (uint64_t seed : {0, 1, 2, 3}) {
        simt::set_seed(seed);
        DeviceArray<int> out(std::vector<int>(64 * 8, 0));
        CHECK(start(1, 64, 0, warp_kernel, out.data()) == cudaSuccess);
        const std::vector<int> got = out.copy();
        int votes = 0;
        for (int lane = 0; lane < 32; lane += 3) votes |= 1 << lane;
        for (int t = 0; t < 64; ++t) {
            const int* v = got.data() + 8 * t;
            const int lane = t % 32;
            CHECK(v[0] == 496);
            CHECK(v[1] == lane / 8 * 8 + 3);
            CHECK(v[2] == (lane == 0 ? 0 : lane - 1));
            CHECK(v[3] == (lane > 29 ? lane : lane + 2));
            CHECK(v[4] == votes);
            CHECK(v[5] == 1);
            CHECK(v[6] == 32);
            CHECK(v[7] == (lane < 16 ? 120 : 376));
        }
    }
    simt::set_seed(2);
}

TEST_CASE("simt: a dropped barrier makes the result depend on the order") {
    std::set<std::vector<int>> right, wrong;
    for (uint64_t seed : {0, 1, 2, 3}) {
        simt::set_seed(seed);
        DeviceArray<int> out(std::vector<int>(64, 0));
        CHECK(start(1, 64, 0, shift_kernel, out.data(), true) == cudaSuccess);
        right.insert(out.copy());
        if (simt::tsan_present()) continue;  // would report the race, as it should
        CHECK(start(1, 64, 0, shift_kernel, out.data(), false) == cudaSuccess);
        wrong.insert(out.copy());
    }
    CHECK(right.size() == 1);
    if (!simt::tsan_present()) CHECK(wrong.size() > 1);
    simt::set_seed(2);
}

// ---- What a sanitizer finds ends the process: these are run by the cases below, in one of theirs.

TEST_CASE("planted: dropped barrier" * doctest::skip()) {
    DeviceArray<int> out(std::vector<int>(64, 0));
    (void)start(1, 64, 0, shift_kernel, out.data(), false);
}
TEST_CASE("planted: dropped warp barrier" * doctest::skip()) {
    DeviceArray<int> out(std::vector<int>(64, 0));
    (void)start(1, 64, 0, warp_shift_kernel, out.data(), false);
}
TEST_CASE("planted: dropped barrier between rounds" * doctest::skip()) {
    DeviceArray<int> out(std::vector<int>(64, 0));
    (void)start(1, 64, 0, two_rounds_kernel, out.data(), false);
}
TEST_CASE("planted: too far in device memory" * doctest::skip()) {
    DeviceArray<int> out(std::vector<int>(33, 0));
    (void)start(1, 64, 0, too_far_kernel, out.data(), 33);
}
TEST_CASE("planted: too far in dynamic shared memory" * doctest::skip()) {
    DeviceArray<int> out(std::vector<int>(64, 0));
    (void)start(1, 64, 64 * sizeof(int), too_far_shared_kernel, out.data());
}
TEST_CASE("planted: too far in static shared memory" * doctest::skip()) {
    DeviceArray<int> out(std::vector<int>(64, 0));
    (void)start(1, 65, 0, too_far_static_kernel, out.data(), 64);
}

TEST_CASE("simt: ThreadSanitizer reports dropped barriers, and no kernel that has them") {
    for (uint64_t seed : {0, 1, 2, 3}) {
        simt::set_seed(seed);
        DeviceArray<int> out(std::vector<int>(64, 0));
        // A report would be this program's exit status.
        CHECK(start(1, 64, 0, shift_kernel, out.data(), true) == cudaSuccess);
        CHECK(start(2, 64, 0, warp_shift_kernel, out.data(), true) == cudaSuccess);
        CHECK(start(2, 64, 0, two_rounds_kernel, out.data(), true) == cudaSuccess);
        CHECK(out.copy() == std::vector<int>(64, 1));
    }
    simt::set_seed(2);
    if (!simt::tsan_present()) return;
    for (const char* planted : {"planted: dropped barrier", "planted: dropped warp barrier",
                                "planted: dropped barrier between rounds"})
        check_report(planted, 66, "data race");
}

TEST_CASE("simt: AddressSanitizer reports a write one element too far") {
    DeviceArray<int> out(std::vector<int>(64, 0));
    CHECK(start(1, 65, 0, too_far_static_kernel, out.data(), 63) == cudaSuccess);
    CHECK(out.copy() == std::vector<int>(64, 1));
    if (!simt::asan_present()) return;
    for (const char* planted :
         {"planted: too far in device memory", "planted: too far in dynamic shared memory"})
        check_report(planted, 1, "use-after-poison");
    // The preset's UndefinedBehaviorSanitizer comes first.
    check_report("planted: too far in static shared memory", 1, "index 64 out of bounds");
}

TEST_CASE("simt: divergence is reported with its places") {
    for (uint64_t seed : {0, 1, 2}) {
        simt::set_seed(seed);
        DeviceArray<int> out(std::vector<int>(64, 0));
        std::string report = report_of(1, 64, 0, divergent_kernel, out.data());
        CHECK(contains(report, "divergent barrier"));
        CHECK(contains(report, "emulation_test.cpp:"));
    }
    const auto report_with = [](auto kernel) {
        DeviceArray<int> out(std::vector<int>(64, 0));
        return report_of(1, 64, 0, kernel, out.data());
    };
    const std::string stuck = report_with(barrier_against_warp_kernel);
    CHECK(contains(stuck, "divergence"));
    CHECK(contains(stuck, "33 threads wait at the barrier"));
    CHECK(contains(stuck, "31 wait in the warp collective"));
    CHECK(contains(report_with(early_return_kernel), "names a lane that has ended"));
    CHECK(contains(report_with(excluded_lane_kernel), "whose mask leaves it out"));
    CHECK(contains(report_with(outside_mask_kernel), "from a lane outside its mask"));
    CHECK(contains(report_with(different_collectives_kernel), "different warp collectives"));
    simt::set_seed(2);
}

TEST_CASE("simt: a write one element too far is reported") {
    if (simt::asan_present()) return;  // ends the process, as it should
    {
        DeviceArray<int> out(std::vector<int>(33, 0));
        CHECK(start(1, 64, 0, too_far_kernel, out.data(), 32) == cudaSuccess);
        CHECK(cudaDeviceSynchronize() == cudaSuccess);
        CHECK(contains(report_of(1, 64, 0, too_far_kernel, out.data(), 33),
                       "outside a device allocation of 132 bytes"));
    }
    DeviceArray<int> out(std::vector<int>(64, 0));
    CHECK(contains(report_of(1, 64, 64 * sizeof(int), too_far_shared_kernel, out.data()),
                   "outside dynamic shared memory"));
}

TEST_CASE("simt: launches that a GPU refuses") {
    DeviceArray<int> out(std::vector<int>(64, 0));
    CHECK(start(0, 64, 0, divergent_kernel, out.data()) == cudaErrorInvalidConfiguration);
    CHECK(start(1, 1025, 0, divergent_kernel, out.data()) == cudaErrorInvalidConfiguration);
    CHECK(start(dim3(1, 65536), 1, 0, divergent_kernel, out.data()) ==
          cudaErrorInvalidConfiguration);
    constexpr size_t kLarge = 64 * 1024;
    CHECK(start(1, 64, kLarge, too_far_kernel, out.data(), 3) == cudaErrorInvalidValue);
    CHECK(cudaFuncSetAttribute(too_far_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               kLarge) == cudaSuccess);
    CHECK(start(1, 64, kLarge, too_far_kernel, out.data(), 3) == cudaSuccess);
    CHECK(cudaFuncSetAttribute(too_far_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               512 * 1024) == cudaErrorInvalidValue);
}
