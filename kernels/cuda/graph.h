// Stream capture, for those whose calls it forbids.
#pragma once

namespace mc::cuda {

// True while this thread records a graph.
bool recording_graph();

// An error that names the operation if this thread records a graph.
void require_no_graph(const char* op);

}  // namespace mc::cuda
