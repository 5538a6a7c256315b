#include "tests/simt/staging.h"

#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <algorithm>

#include "kernels/cuda/device.h"

namespace mc::testing {

namespace {

// The emulation has guards of its own around every allocation, which AddressSanitizer watches too.
#ifdef MC_SIMT
constexpr size_t kGuardBytes = 0;
#else
constexpr size_t kGuardBytes = 256;
#endif
constexpr int kGuardPattern = 0xFF;  // NaN for whoever reads too far

}  // namespace

Staging::~Staging() {
    for (const Region& r : regions_) (void)cudaFree(r.block);
}

void Staging::add(const void* p, int64_t bytes, bool writes) {
    if (!p) return;
    const auto* begin = static_cast<const unsigned char*>(p);
    regions_.push_back({begin, begin + std::max<int64_t>(bytes, 0), writes});
}

void Staging::strided(const void* p, const StridedLoop& loop, const int64_t* stride, size_t size,
                      bool writes) {
    int64_t low = 0, high = 1, count = 1;
    for (int i = 0; i < loop.dims; ++i) {
        const int64_t reach = (loop.size[i] - 1) * stride[i];
        (reach < 0 ? low : high) += reach;
        count *= loop.size[i];
    }
    const auto bytes = static_cast<int64_t>(size);
    if (count == 0) return add(p, 0, writes);
    add(static_cast<const unsigned char*>(p) + low * bytes, (high - low) * bytes, writes);
}

void Staging::upload() {
    std::sort(regions_.begin(), regions_.end(),
              [](const Region& a, const Region& b) { return a.begin < b.begin; });
    std::vector<Region> merged;
    for (const Region& r : regions_) {
        if (!merged.empty() && (r.begin < merged.back().end || r.begin == merged.back().begin)) {
            merged.back().end = std::max(merged.back().end, r.end);
            merged.back().writes |= r.writes;
        } else {
            merged.push_back(r);
        }
    }
    regions_ = merged;
    for (Region& r : regions_) {
        const size_t bytes = static_cast<size_t>(r.end - r.begin);
        const size_t shift = reinterpret_cast<uintptr_t>(r.begin) % 64;
        r.block_bytes = std::max<size_t>(kGuardBytes + shift + bytes + kGuardBytes, 1);
        void* block = nullptr;
        MC_CUDA("staging", cudaMalloc(&block, r.block_bytes));
        r.block = static_cast<unsigned char*>(block);
        r.device = r.block + kGuardBytes + shift;
        MC_CUDA("staging", cudaMemset(r.block, kGuardPattern, r.block_bytes));
        MC_CUDA("staging", cudaMemcpy(r.device, r.begin, bytes, cudaMemcpyHostToDevice));
    }
}

const void* Staging::device_address(const void* p) const {
    if (!p) return nullptr;
    const auto* at = static_cast<const unsigned char*>(p);
    for (const Region& r : regions_)
        if (at >= r.begin && (at < r.end || at == r.begin)) return r.device + (at - r.begin);
    throw Error("[staging] an address that no region names");
}

void Staging::download() {
    MC_CUDA("staging", cudaDeviceSynchronize());
    for (const Region& r : regions_) {
        std::vector<unsigned char> block(r.block_bytes);
        MC_CUDA("staging",
                cudaMemcpy(block.data(), r.block, r.block_bytes, cudaMemcpyDeviceToHost));
        const auto data = block.begin() + (r.device - r.block), end = data + (r.end - r.begin);
        const auto touched = [](unsigned char c) { return c != kGuardPattern; };
        CHECK_MESSAGE(
            (std::none_of(block.begin(), data, touched) && std::none_of(end, block.end(), touched)),
            "a kernel wrote outside its buffer on the device");
        if (r.writes) std::copy(data, end, const_cast<unsigned char*>(r.begin));
    }
}

}  // namespace mc::testing
