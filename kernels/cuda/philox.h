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

// bits[i] = what decides over number first + i (DropRule), of one number or of the eight of a
// block.
template <int n>
__device__ inline void drop_bits(uint32_t (&bits)[n], RandomStream random, uint64_t first) {
    static_assert(n == 1 || n == 8);
    const Draws draws = draws_of(random, first / 8);
    if constexpr (n == 1) {
        // Chosen, not indexed: an index that is known late would put the words into memory.
        const uint32_t i = static_cast<uint32_t>(first % 8);
        const uint32_t low = i & 2 ? draws.word[1] : draws.word[0];
        const uint32_t high = i & 2 ? draws.word[3] : draws.word[2];
        bits[0] = (i & 4 ? high : low) >> (16 * (i & 1)) & 0xFFFFu;
    } else {
#pragma unroll
        for (int i = 0; i < 8; ++i) bits[i] = draws.word[i / 2] >> (16 * (i % 2)) & 0xFFFFu;
    }
}

}  // namespace mc::cuda
