// CUDA graphs by stream capture. The context's stream is the default one, which cannot be captured:
// while a graph is recorded the context has a stream of the recording's own, not ordered with the
// default stream, so that other threads' work goes on.
#include "kernels/graph.h"

#include <cstdlib>
#include <memory>
#include <string>

#include "kernels/cuda/device.h"
#include "kernels/cuda/fill.h"
#include "kernels/cuda/graph.h"

namespace mc {

struct RecordedGraph {
    cudaGraphExec_t exec = nullptr;
    ~RecordedGraph() {
        if (exec) (void)cudaGraphExecDestroy(exec);
    }
};

namespace cuda {

namespace {

struct Recording {
    cudaStream_t stream = nullptr;
    void* before = nullptr;  // the context's stream
};
thread_local Recording recording;

void begin(Context& context) {
    require_no_graph("graph");
    cudaStream_t stream = nullptr;
    MC_CUDA("graph", cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    const cudaError_t status = cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
    if (status != cudaSuccess) {
        (void)cudaStreamDestroy(stream);
        check("graph", "cudaStreamBeginCapture", status);
    }
    recording = {stream, context.stream};
    context.stream = stream;
}

void end(Context& context, RecordedGraph** out, size_t* operations) {
    cudaGraph_t graph = nullptr;
    const cudaError_t ended = cudaStreamEndCapture(recording.stream, &graph);
    (void)cudaStreamDestroy(recording.stream);
    context.stream = recording.before;
    recording = {};
    if (!out) {  // its error is known already; the next call must not get the blame
        if (graph) (void)cudaGraphDestroy(graph);
        (void)cudaGetLastError();
        return;
    }
    check("graph", "cudaStreamEndCapture", ended);
    auto made = std::make_unique<RecordedGraph>();
    const cudaError_t counted = cudaGraphGetNodes(graph, nullptr, operations);
    const cudaError_t status =
        counted == cudaSuccess ? cudaGraphInstantiateWithFlags(&made->exec, graph, 0) : counted;
    (void)cudaGraphDestroy(graph);
    check("graph", "cudaGraphInstantiate", status);
    *out = made.release();
}

}  // namespace

bool recording_graph() {
    return recording.stream != nullptr;
}

void require_no_graph(const char* op) {
    if (recording_graph())
        throw Error(std::string("[") + op +
                    "] cannot be part of a CUDA graph, and one is being recorded; do it before, or "
                    "switch graphs off with MOCLIP_CUDA_GRAPHS=off");
}

void fill_graph(Backend& backend) {
    const char* wanted = std::getenv("MOCLIP_CUDA_GRAPHS");
    if (wanted && std::string(wanted) == "off") return;
    backend.graph.begin = begin;
    backend.graph.end = end;
    backend.graph.launch = [](Context& context, RecordedGraph* graph) {
        MC_CUDA("graph", cudaGraphLaunch(graph->exec, stream_of(context)));
    };
    backend.graph.release = [](Context&, RecordedGraph* graph) { delete graph; };
}

}  // namespace cuda

}  // namespace mc
