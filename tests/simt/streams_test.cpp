// The host side of the emulation: copies, streams, events, captured graphs.
#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <string>
#include <thread>
#include <vector>

#include "tests/error_of.h"
#include "tests/simt/device_array.h"
#include "tests/simt/runtime.h"

using mc::testing::contains;
using simt::DeviceArray;
using simt::start;

namespace {

__global__ void increment_kernel(int* p) {
    ++*p;
}

struct Captured {
    cudaStream_t stream = nullptr;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;

    explicit Captured(unsigned flags = cudaStreamNonBlocking) {
        REQUIRE(cudaStreamCreateWithFlags(&stream, flags) == cudaSuccess);
        begin();
    }
    void begin() const {
        REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
    }
    void end() {
        REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
        REQUIRE(cudaGraphInstantiateWithFlags(&exec, graph, 0) == cudaSuccess);
    }
    ~Captured() {
        if (exec) CHECK(cudaGraphExecDestroy(exec) == cudaSuccess);
        if (graph) CHECK(cudaGraphDestroy(graph) == cudaSuccess);
        CHECK(cudaStreamDestroy(stream) == cudaSuccess);
    }
};

cudaError_t increment(int* p, cudaStream_t stream) {
    cudaLaunchConfig_t config;
    config.stream = stream;
    return cudaLaunchKernelEx(&config, increment_kernel, p);
}

}  // namespace

TEST_CASE("simt: a copy that nobody waits for has not happened") {
    const int one = 1;
    int back = 0;
    void* p = nullptr;
    CHECK(cudaMalloc(&p, sizeof(int)) == cudaSuccess);
    CHECK(cudaMemcpyAsync(p, &one, sizeof(int), cudaMemcpyHostToDevice) == cudaSuccess);
    CHECK(start(1, 1, 0, increment_kernel, static_cast<int*>(p)) == cudaSuccess);
    CHECK(cudaMemcpyAsync(&back, p, sizeof(int), cudaMemcpyDeviceToHost) == cudaSuccess);
    CHECK(back == 0);  // the bug that shows
    CHECK(cudaStreamQuery(nullptr) == cudaErrorNotReady);
    CHECK(cudaStreamSynchronize(nullptr) == cudaSuccess);
    CHECK(back == 2);
    // A source that is overwritten too early.
    int source = 5;
    CHECK(cudaMemcpyAsync(p, &source, sizeof(int), cudaMemcpyHostToDevice) == cudaSuccess);
    source = 6;
    CHECK(cudaMemcpy(&back, p, sizeof(int), cudaMemcpyDeviceToHost) == cudaSuccess);
    CHECK(back == 6);
    // The wrong side.
    CHECK(cudaMemcpy(&back, &source, sizeof(int), cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
    CHECK(cudaMemcpy(p, p, 2 * sizeof(int), cudaMemcpyDeviceToDevice) == cudaErrorInvalidValue);
    CHECK(cudaFree(p) == cudaSuccess);
    CHECK(cudaFree(&back) == cudaErrorInvalidValue);
}

TEST_CASE("simt: streams are in order by themselves, events order them") {
    cudaStream_t a = nullptr, b = nullptr;
    cudaEvent_t done = nullptr;
    CHECK(cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking) == cudaSuccess);
    CHECK(cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking) == cudaSuccess);
    CHECK(cudaEventCreateWithFlags(&done, cudaEventDisableTiming) == cudaSuccess);
    CHECK(cudaStreamWaitEvent(b, done) == cudaSuccess);  // never recorded: no wait
    const int seven = 7;
    int back = 0;
    void* p = nullptr;
    CHECK(cudaMallocAsync(&p, sizeof(int), a) == cudaSuccess);
    CHECK(cudaMemsetAsync(p, 0, sizeof(int), a) == cudaSuccess);
    CHECK(cudaStreamSynchronize(a) == cudaSuccess);
    CHECK(cudaMemcpyAsync(p, &seven, sizeof(int), cudaMemcpyHostToDevice, a) == cudaSuccess);
    CHECK(cudaMemcpyAsync(&back, p, sizeof(int), cudaMemcpyDeviceToHost, b) == cudaSuccess);
    CHECK(cudaStreamSynchronize(b) == cudaSuccess);
    CHECK(back == 0);  // b did not wait for a
    CHECK(cudaEventRecord(done, a) == cudaSuccess);
    CHECK(cudaEventQuery(done) == cudaErrorNotReady);
    CHECK(cudaStreamWaitEvent(b, done) == cudaSuccess);
    CHECK(cudaMemcpyAsync(&back, p, sizeof(int), cudaMemcpyDeviceToHost, b) == cudaSuccess);
    CHECK(cudaStreamSynchronize(b) == cudaSuccess);
    CHECK(back == 7);
    CHECK(cudaEventSynchronize(done) == cudaSuccess);
    // The default stream waits for blocking streams and they for it, but not for these.
    cudaStream_t blocking = nullptr;
    CHECK(cudaStreamCreate(&blocking) == cudaSuccess);
    CHECK(cudaMemsetAsync(p, 0, sizeof(int), blocking) == cudaSuccess);
    CHECK(cudaMemcpy(&back, p, sizeof(int), cudaMemcpyDeviceToHost) == cudaSuccess);
    CHECK(back == 0);
    CHECK(cudaMemcpyAsync(p, &seven, sizeof(int), cudaMemcpyHostToDevice, a) == cudaSuccess);
    CHECK(cudaMemcpy(&back, p, sizeof(int), cudaMemcpyDeviceToHost) == cudaSuccess);
    CHECK(back == 0);
    const size_t before = simt::live_allocations();
    CHECK(cudaFreeAsync(p, a) == cudaSuccess);
    CHECK(simt::live_allocations() == before);  // not yet
    CHECK(cudaStreamSynchronize(a) == cudaSuccess);
    CHECK(simt::live_allocations() == before - 1);
    for (cudaStream_t s : {a, b, blocking}) CHECK(cudaStreamDestroy(s) == cudaSuccess);
    CHECK(cudaEventDestroy(done) == cudaSuccess);
}

TEST_CASE("simt: what is captured is not done, and done again by every launch") {
    DeviceArray<int> value({5}), copy({0});
    const size_t memory = simt::live_allocations();
    {
        Captured c;
        int* p = value.data();
        CHECK(increment(p, c.stream) == cudaSuccess);
        p = nullptr;  // arguments are taken as they were
        void* scratch = nullptr;
        CHECK(cudaMallocAsync(&scratch, sizeof(int), c.stream) == cudaSuccess);
        CHECK(cudaMemcpyAsync(scratch, value.data(), sizeof(int), cudaMemcpyDeviceToDevice,
                              c.stream) == cudaSuccess);
        CHECK(cudaMemcpyAsync(copy.data(), scratch, sizeof(int), cudaMemcpyDeviceToDevice,
                              c.stream) == cudaSuccess);
        CHECK(cudaFreeAsync(scratch, c.stream) == cudaSuccess);
        c.end();
        CHECK(value.copy() == std::vector<int>{5});
        size_t nodes = 0;
        CHECK(cudaGraphGetNodes(c.graph, nullptr, &nodes) == cudaSuccess);
        CHECK(nodes == 4);
        const size_t launches = simt::launches();
        for (int i = 0; i < 3; ++i) CHECK(cudaGraphLaunch(c.exec, nullptr) == cudaSuccess);
        CHECK(copy.copy() == std::vector<int>{8});
        CHECK(simt::launches() == launches);
        CHECK(simt::live_allocations() == memory + 1);  // the graph's own
        // On its way a launch needs neither graph nor executable.
        CHECK(cudaGraphLaunch(c.exec, nullptr) == cudaSuccess);
    }
    CHECK(copy.copy() == std::vector<int>{9});
    CHECK(simt::live_allocations() == memory);
}

TEST_CASE("simt: what a capture forbids is refused and ends it") {
    DeviceArray<int> value({5});
    int host = 3;
    void* p = nullptr;
    cudaEvent_t event = nullptr;
    CHECK(cudaEventCreate(&event) == cudaSuccess);
    Captured c;
    const auto refused = [&](cudaError_t status) {
        CHECK(status == cudaErrorStreamCaptureUnsupported);
        CHECK(increment(value.data(), c.stream) == cudaErrorStreamCaptureInvalidated);
        CHECK(cudaStreamEndCapture(c.stream, &c.graph) == cudaErrorStreamCaptureInvalidated);
        CHECK(c.graph == nullptr);
        CHECK(increment(value.data(), c.stream) == cudaSuccess);  // usable again
        CHECK(cudaStreamSynchronize(c.stream) == cudaSuccess);
        c.begin();
    };
    refused(cudaMalloc(&p, 8));
    refused(cudaMallocHost(&p, 8));
    refused(cudaFree(value.data()));
    refused(cudaDeviceSynchronize());
    refused(cudaStreamSynchronize(c.stream));
    refused(cudaStreamQuery(c.stream));
    refused(cudaEventRecord(event, c.stream));
    refused(cudaMemcpy(&host, value.data(), sizeof(int), cudaMemcpyDeviceToHost));
    refused(cudaMemcpyAsync(value.data(), &host, sizeof(int), cudaMemcpyHostToDevice, c.stream));
    CHECK(cudaStreamEndCapture(c.stream, &c.graph) == cudaSuccess);
    CHECK(value.copy() == std::vector<int>{5 + 9});
    CHECK(cudaEventDestroy(event) == cudaSuccess);
}

TEST_CASE("simt: a capture of the default stream, of one twice, by another thread, or in its way") {
    CHECK(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeRelaxed) ==
          cudaErrorStreamCaptureUnsupported);
    DeviceArray<int> value({5});
    Captured c(cudaStreamDefault);
    CHECK(cudaStreamBeginCapture(c.stream, cudaStreamCaptureModeRelaxed) == cudaErrorIllegalState);
    std::thread([&] {
        cudaGraph_t graph = nullptr;
        CHECK(cudaStreamEndCapture(c.stream, &graph) == cudaErrorStreamCaptureWrongThread);
        void* p = nullptr;
        CHECK(cudaMalloc(&p, 8) == cudaSuccess);
        CHECK(cudaFree(p) == cudaSuccess);
    }).join();
    CHECK(increment(value.data(), nullptr) == cudaErrorStreamCaptureImplicit);
    cudaGraph_t graph = nullptr;
    CHECK(cudaStreamEndCapture(c.stream, &graph) == cudaErrorStreamCaptureInvalidated);
    CHECK(cudaStreamEndCapture(c.stream, &graph) == cudaErrorIllegalState);
    // A graph that keeps memory could be launched once.
    c.begin();
    void* kept = nullptr;
    CHECK(cudaMallocAsync(&kept, 8, c.stream) == cudaSuccess);
    CHECK(cudaStreamEndCapture(c.stream, &c.graph) == cudaSuccess);
    CHECK(cudaGraphInstantiateWithFlags(&c.exec, c.graph, 0) == cudaErrorNotSupported);
}
