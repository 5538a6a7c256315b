// Scratch memory: a stack that keeps its pages. Kernels take loans; a loan ends with its object.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace mc {

class Workspace {
  public:
    Workspace() = default;
    Workspace(const Workspace&) = delete;
    Workspace& operator=(const Workspace&) = delete;
    ~Workspace();

    // 64-byte aligned; blocks never move, so earlier loans stay valid.
    void* push(size_t bytes);
    void pop(size_t bytes);
    size_t peak_bytes() const { return peak_; }

  private:
    struct Block {
        std::byte* data;
        size_t size, used;
    };
    std::vector<Block> blocks_;
    size_t in_use_ = 0, peak_ = 0;
};

// The calling thread's own workspace: what a chunk that runs on a worker borrows from. Its memory
// stays with the thread.
Workspace& thread_workspace();

template <class T>
class Loan {
  public:
    Loan(Workspace& workspace, int64_t count)
        : workspace_(workspace),
          bytes_(static_cast<size_t>(count) * sizeof(T)),
          data_(static_cast<T*>(workspace.push(bytes_))) {}
    ~Loan() { workspace_.pop(bytes_); }
    Loan(const Loan&) = delete;
    Loan& operator=(const Loan&) = delete;
    T* data() const { return data_; }
    T& operator[](int64_t i) const { return data_[i]; }

  private:
    Workspace& workspace_;
    size_t bytes_;
    T* data_;
};

}  // namespace mc
