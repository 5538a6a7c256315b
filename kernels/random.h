// Philox4x32-10 draws (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
// Draw i of a stream: counter = (i / 4 as 64 bits, stream as 64 bits), key = seed; word i % 4 of
// the block.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels/kernel.h"

namespace mc {

struct PhiloxBlock {
    uint32_t word[4];
};

inline PhiloxBlock philox(uint64_t seed, uint64_t stream, uint64_t block) {
    uint32_t c0 = static_cast<uint32_t>(block), c1 = static_cast<uint32_t>(block >> 32);
    uint32_t c2 = static_cast<uint32_t>(stream), c3 = static_cast<uint32_t>(stream >> 32);
    uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round) {
        const uint64_t p0 = uint64_t{0xD2511F53u} * c0, p1 = uint64_t{0xCD9E8D57u} * c2;
        const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
        const uint32_t n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
        c1 = static_cast<uint32_t>(p1);
        c3 = static_cast<uint32_t>(p0);
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

// Uniform in [0, 1), 24 bits, exact in f32.
inline double uniform_from_bits(uint32_t bits) {
    return (bits >> 8) * (1.0 / 16777216.0);
}

// Dropout takes 16 bits a number, so that a block serves eight: number i is dropped where half i %
// 2, the low one first, of draw i / 2 of the stream is below `limit`. p, [0, 1), is thereby rounded
// to a multiple of 2^-16 (below 1), and `scale` is 1 / (1 - p) of the rounded one: means stay
// exact.
struct DropRule {
    explicit DropRule(double p)
        : limit(static_cast<uint32_t>(std::min(std::nearbyint(p * 65536), 65535.0))),
          scale(65536.0 / (65536 - limit)) {}
    uint32_t limit;  // 0: nothing is dropped
    double scale;    // of what is kept
};

inline uint32_t drop_bits(const RandomStream& random, uint64_t i) {
    const PhiloxBlock block = philox(random.seed, random.stream, i / 8);
    return block.word[i / 2 % 4] >> (16 * (i % 2)) & 0xFFFFu;
}

template <class T>
struct RandomKernels {
    // dst[i] = low + (high - low) * u_i.
    Kernel<T*, T, T, RandomStream, int64_t> uniform{"uniform"};  // (dst, low, high, stream, n)
    // dst[i] = mean + std * normal_i (Box-Muller on draws 2i and 2i+1, u1 = 1 - u in (0, 1]).
    Kernel<T*, T, T, RandomStream, int64_t> normal{"normal"};  // (dst, mean, std, stream, n)
};

}  // namespace mc
