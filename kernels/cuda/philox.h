// Philox4x32-10 on the device: bit for bit the `philox` of kernels/random.h.
#pragma once

#include "kernels/cuda/device.h"

namespace mc::cuda {

struct Draws {
    uint32_t word[4];
};

__device__ inline Draws draws_of(RandomStream random, uint64_t block) {
    uint32_t c0 = static_cast<uint32_t>(block), c1 = static_cast<uint32_t>(block >> 32);
    uint32_t c2 = static_cast<uint32_t>(random.stream),
             c3 = static_cast<uint32_t>(random.stream >> 32);
    uint32_t k0 = static_cast<uint32_t>(random.seed), k1 = static_cast<uint32_t>(random.seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const uint64_t p0 = uint64_t{0xD2511F53u} * c0, p1 = uint64_t{0xCD9E8D57u} * c2;
        c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
        c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
        c1 = static_cast<uint32_t>(p1);
        c3 = static_cast<uint32_t>(p0);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

// Draw i of the stream.
__device__ inline uint32_t draw_of(RandomStream random, uint64_t i) {
    const Draws draws = draws_of(random, i / 4);
    // Chosen, not indexed: an index that is known late would put the words into memory.
    const uint32_t low = i % 2 ? draws.word[1] : draws.word[0];
    const uint32_t high = i % 2 ? draws.word[3] : draws.word[2];
    return i % 4 < 2 ? low : high;
}

// word[i] = draw first + i, of one draw or of the four of a block.
template <int n>
__device__ inline void draws_from(uint32_t (&word)[n], RandomStream random, uint64_t first) {
    static_assert(n == 1 || n == 4);
    if constexpr (n == 1) {
        word[0] = draw_of(random, first);
    } else {
        const Draws draws = draws_of(random, first / 4);
#pragma unroll
        for (int i = 0; i < 4; ++i) word[i] = draws.word[i];
    }
}

// Dropout's decision: u < p for u = (bits >> 8) 2^-24 is (bits >> 8) < ceil(p 2^24).
inline uint32_t drop_limit(double p) {
    const double scaled = p * 16777216.0;
    const auto floor = static_cast<uint32_t>(scaled);
    return floor + (static_cast<double>(floor) < scaled ? 1u : 0u);
}
__device__ inline bool dropped(uint32_t bits, uint32_t limit) {
    return (bits >> 8) < limit;
}

}  // namespace mc::cuda
