// Host memory for a kernel of the device: each region that a call names is copied to device memory
// of its own, between guard zones and as badly aligned as it was, and back where the kernel may
// write. Regions that overlap (q, k and v in one packed row, dst equal to src) stay one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/kernel.h"

namespace mc::testing {

class Staging {
  public:
    Staging() = default;
    Staging(const Staging&) = delete;
    Staging& operator=(const Staging&) = delete;
    ~Staging();

    // n elements from p on, which may be null.
    template <class T>
    void read(const T* p, int64_t n) {
        add(p, n * static_cast<int64_t>(sizeof(T)), false);
    }
    template <class T>
    void write(T* p, int64_t n) {
        add(p, n * static_cast<int64_t>(sizeof(T)), true);
    }
    // What a loop reaches from p on with the given strides, in elements of `size` bytes.
    void strided(const void* p, const StridedLoop& loop, const int64_t* stride, size_t size,
                 bool writes);

    void upload();
    // The device's address of a host address within a region; null for null.
    template <class T>
    T* operator()(T* p) const {
        return static_cast<T*>(const_cast<void*>(device_address(p)));
    }
    // Waits for the device and brings back what was written; fails the test if a guard was.
    void download();

  private:
    struct Region {
        const unsigned char *begin, *end;
        bool writes;
        unsigned char* device = nullptr;  // where the region's first byte is
        unsigned char* block = nullptr;   // what was allocated
        size_t block_bytes = 0;
    };
    void add(const void* p, int64_t bytes, bool writes);
    const void* device_address(const void* p) const;

    std::vector<Region> regions_;
};

}  // namespace mc::testing
