// Philox4x32-10 over vectors: bit for bit the `philox` of kernels/random.h.

#if defined(MOCLIP_KERNELS_CPU_PHILOX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MOCLIP_KERNELS_CPU_PHILOX_INL_H_
#undef MOCLIP_KERNELS_CPU_PHILOX_INL_H_
#else
#define MOCLIP_KERNELS_CPU_PHILOX_INL_H_
#endif

#include "hwy/highway.h"
#include "kernels/random.h"

HWY_BEFORE_NAMESPACE();
namespace mc {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// A run of draws that stays in the first-level cache.
struct PhiloxWords {
    static constexpr int64_t kBlocks = 256;
    static constexpr int64_t kWords = 4 * kBlocks;
    alignas(64) uint32_t word[kWords];
};

// out.word[i] = draw 4 * first_block + i of the stream, for i < 4 * blocks; blocks <= kBlocks
// (words up to the next full vector are overwritten too).
//
// A counter word sits in the low half of a 64-bit lane and what is above it is never read: the
// 32 x 32 -> 64 bit product ignores it, so a round is 2 products, 2 shifts and 4 xors.
inline void philox_words(PhiloxWords& out, const RandomStream& random, uint64_t first_block,
                         int64_t blocks) {
#if HWY_TARGET == HWY_SCALAR
    for (int64_t b = 0; b < blocks; ++b) {
        const PhiloxBlock block =
            philox(random.seed, random.stream, first_block + static_cast<uint64_t>(b));
        for (int i = 0; i < 4; ++i) out.word[4 * b + i] = block.word[i];
    }
#else
    const hn::ScalableTag<uint64_t> d;
    const hn::RepartitionToNarrow<decltype(d)> d32;
    constexpr int64_t N = hn::MaxLanes(d);
    const auto low_half = hn::Set(d, 0xFFFFFFFFu);
    const auto m0 = hn::BitCast(d32, hn::Set(d, uint64_t{0xD2511F53u}));
    const auto m1 = hn::BitCast(d32, hn::Set(d, uint64_t{0xCD9E8D57u}));
    const auto stream0 = hn::Set(d, random.stream & 0xFFFFFFFFu);
    const auto stream1 = hn::Set(d, random.stream >> 32);
    for (int64_t b = 0; b < blocks; b += 2 * N) {
        const auto block_a = hn::Iota(d, first_block + static_cast<uint64_t>(b));
        const auto block_b = hn::Iota(d, first_block + static_cast<uint64_t>(b + N));
        auto a0 = block_a, a1 = hn::ShiftRight<32>(block_a), a2 = stream0, a3 = stream1;
        auto b0 = block_b, b1 = hn::ShiftRight<32>(block_b), b2 = stream0, b3 = stream1;
        uint32_t k0 = static_cast<uint32_t>(random.seed);
        uint32_t k1 = static_cast<uint32_t>(random.seed >> 32);
        for (int round = 0; round < 10; ++round) {
            const auto key0 = hn::Set(d, uint64_t{k0}), key1 = hn::Set(d, uint64_t{k1});
            const auto pa0 = hn::MulEven(m0, hn::BitCast(d32, a0));
            const auto pa1 = hn::MulEven(m1, hn::BitCast(d32, a2));
            const auto pb0 = hn::MulEven(m0, hn::BitCast(d32, b0));
            const auto pb1 = hn::MulEven(m1, hn::BitCast(d32, b2));
            a0 = hn::Xor(hn::Xor(hn::ShiftRight<32>(pa1), a1), key0);
            a2 = hn::Xor(hn::Xor(hn::ShiftRight<32>(pa0), a3), key1);
            b0 = hn::Xor(hn::Xor(hn::ShiftRight<32>(pb1), b1), key0);
            b2 = hn::Xor(hn::Xor(hn::ShiftRight<32>(pb0), b3), key1);
            a1 = pa1, a3 = pa0, b1 = pb1, b3 = pb0;
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
        }
        uint64_t* dst = reinterpret_cast<uint64_t*>(out.word + 4 * b);
        hn::StoreInterleaved2(hn::Or(hn::And(a0, low_half), hn::ShiftLeft<32>(a1)),
                              hn::Or(hn::And(a2, low_half), hn::ShiftLeft<32>(a3)), d, dst);
        hn::StoreInterleaved2(hn::Or(hn::And(b0, low_half), hn::ShiftLeft<32>(b1)),
                              hn::Or(hn::And(b2, low_half), hn::ShiftLeft<32>(b3)), d, dst + 2 * N);
    }
#endif
}

}  // namespace HWY_NAMESPACE
}  // namespace mc
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
