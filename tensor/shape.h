// Sizes of a tensor, at most kMaxDims of them, without heap.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

#include "kernels/error.h"
#include "kernels/kernel.h"

namespace mc {

class Shape {
  public:
    Shape() = default;
    Shape(std::initializer_list<int64_t> sizes) : Shape(sizes.begin(), sizes.end()) {}
    template <class It>
    Shape(It begin, It end) {
        for (; begin != end; ++begin) push_back(*begin);
    }

    int size() const { return dims_; }
    int64_t operator[](int i) const { return size_[i]; }
    int64_t& operator[](int i) { return size_[i]; }
    int64_t back() const { return size_[dims_ - 1]; }
    const int64_t* begin() const { return size_; }
    const int64_t* end() const { return size_ + dims_; }
    void push_back(int64_t n) {
        if (dims_ == kMaxDims) throw Error("[shape] more than 8 dimensions");
        size_[dims_++] = n;
    }
    int64_t numel() const {
        int64_t n = 1;
        for (int64_t s : *this) n *= s;
        return n;
    }
    bool operator==(const Shape& other) const {
        if (dims_ != other.dims_) return false;
        for (int i = 0; i < dims_; ++i)
            if (size_[i] != other.size_[i]) return false;
        return true;
    }
    std::string str() const {  // "(2, 3)"
        std::string s = "(";
        for (int i = 0; i < dims_; ++i) s += (i ? ", " : "") + std::to_string(size_[i]);
        return s + ")";
    }

  private:
    int64_t size_[kMaxDims] = {};
    int dims_ = 0;
};

// The shape that `a` and `b` broadcast to (NumPy's rules); an error names `op` and both shapes.
Shape broadcast_shapes(const Shape& a, const Shape& b, const char* op);

}  // namespace mc
