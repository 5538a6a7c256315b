// Walking an n-d loop row by row (a row: the last dimension).
#pragma once

#include <cstdint>

#include "kernels/kernel.h"

namespace mc {

inline int64_t element_count(const StridedLoop& loop) {
    int64_t n = 1;
    for (int i = 0; i < loop.dims; ++i) n *= loop.size[i];
    return n;
}

// The same loop with as few dimensions as possible (at least one): those of size 1 go, neighbours
// that are one run of memory for both sources become one.
inline StridedLoop collapse(const StridedLoop& loop) {
    StridedLoop c;
    for (int i = 0; i < loop.dims; ++i) {
        if (loop.size[i] == 1) continue;
        const int last = c.dims - 1;
        if (last >= 0 && c.stride_a[last] == loop.stride_a[i] * loop.size[i] &&
            c.stride_b[last] == loop.stride_b[i] * loop.size[i]) {
            c.size[last] *= loop.size[i];
            c.stride_a[last] = loop.stride_a[i];
            c.stride_b[last] = loop.stride_b[i];
            continue;
        }
        c.size[c.dims] = loop.size[i];
        c.stride_a[c.dims] = loop.stride_a[i];
        c.stride_b[c.dims] = loop.stride_b[i];
        ++c.dims;
    }
    if (c.dims == 0) {
        c.dims = 1;
        c.size[0] = c.stride_a[0] = c.stride_b[0] = 1;
    }
    return c;
}

// Offsets of the current row of the sources.
class RowCursor {
  public:
    RowCursor(const StridedLoop& loop, int64_t row) : loop_(loop) {
        for (int i = loop.dims - 2; i >= 0; --i) {
            position_[i] = row % loop.size[i];
            row /= loop.size[i];
            a_ += position_[i] * loop.stride_a[i];
            b_ += position_[i] * loop.stride_b[i];
        }
    }
    int64_t a() const { return a_; }
    int64_t b() const { return b_; }
    void next() {
        for (int i = loop_.dims - 2; i >= 0; --i) {
            a_ += loop_.stride_a[i];
            b_ += loop_.stride_b[i];
            if (++position_[i] < loop_.size[i]) return;
            a_ -= loop_.stride_a[i] * loop_.size[i];
            b_ -= loop_.stride_b[i] * loop_.size[i];
            position_[i] = 0;
        }
    }

  private:
    const StridedLoop& loop_;
    int64_t position_[kMaxDims] = {};
    int64_t a_ = 0, b_ = 0;
};

}  // namespace mc
