#include "kernels/cpu/workspace.h"

#include <algorithm>
#include <new>

namespace mc {

namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kSmallestBlock = size_t{1} << 20;

std::byte* allocate(size_t bytes) {
    return static_cast<std::byte*>(::operator new (bytes, std::align_val_t{kAlignment}));
}
void release(std::byte* data) {
    ::operator delete (data, std::align_val_t{kAlignment});
}

// Never 0: a loan of nothing still has its place in the stack.
size_t rounded(size_t bytes) {
    return std::max((bytes + kAlignment - 1) / kAlignment * kAlignment, kAlignment);
}

}  // namespace

Workspace::~Workspace() {
    for (Block& block : blocks_) release(block.data);
}

void* Workspace::push(size_t bytes) {
    bytes = rounded(bytes);
    // The top of the stack is the last block in use; blocks above it are empty.
    size_t top = blocks_.size();
    while (top > 0 && blocks_[top - 1].used == 0) --top;
    size_t at = top > 0 ? top - 1 : 0;
    if (at < blocks_.size() && blocks_[at].size - blocks_[at].used < bytes && blocks_[at].used > 0)
        ++at;
    if (at == blocks_.size() || blocks_[at].size - blocks_[at].used < bytes) {
        // One block that holds this request and replaces the empty ones, which are too small.
        size_t size = std::max(bytes, kSmallestBlock);
        for (size_t i = at; i < blocks_.size(); ++i) size = std::max(size, bytes + blocks_[i].size);
        std::byte* data = allocate(size);
        while (blocks_.size() > at) {
            release(blocks_.back().data);
            blocks_.pop_back();
        }
        blocks_.push_back({data, size, 0});
    }
    Block& block = blocks_[at];
    void* result = block.data + block.used;
    block.used += bytes;
    in_use_ += bytes;
    peak_ = std::max(peak_, in_use_);
    return result;
}

void Workspace::pop(size_t bytes) {
    bytes = rounded(bytes);
    size_t top = blocks_.size();
    while (blocks_[top - 1].used == 0) --top;
    blocks_[top - 1].used -= bytes;
    in_use_ -= bytes;
    if (in_use_ == 0 && blocks_.size() > 1) {
        // The stack is empty: one block for the peak, so that the next round needs no second one.
        for (Block& block : blocks_) release(block.data);
        blocks_.clear();
        blocks_.reserve(1);
        const size_t size = std::max(peak_, kSmallestBlock);
        if (auto* data = static_cast<std::byte*>(
                ::operator new (size, std::align_val_t{kAlignment}, std::nothrow)))
            blocks_.push_back({data, size, 0});
    }
}

}  // namespace mc
