// Philox4x32-10 over vectors: bit for bit the `philox` of kernels/random.h.

#if defined(MOCLIP_KERNELS_CPU_PHILOX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MOCLIP_KERNELS_CPU_PHILOX_INL_H_
#undef MOCLIP_KERNELS_CPU_PHILOX_INL_H_
#else
#define MOCLIP_KERNELS_CPU_PHILOX_INL_H_
#endif

#include <cmath>

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
    static constexpr int64_t kSlack = 128;  // the last step may write beyond
    alignas(64) uint32_t word[kWords + kSlack];
};

// out.word[i] = draw 4 * first_block + i of the stream, for i < 4 * blocks; blocks <= kBlocks
// (some words behind them are overwritten too).
//
// A counter word sits in the low half of a 64-bit lane and what is above it is never read: the
// 32 x 32 -> 64 bit product ignores it, so a round is 2 products, 2 shuffles and 4 xors.
HWY_NOINLINE inline void philox_words(PhiloxWords& out, const RandomStream& random,
                                      uint64_t first_block, int64_t blocks) {
#if HWY_TARGET == HWY_SCALAR
    for (int64_t b = 0; b < blocks; ++b) {
        const PhiloxBlock block =
            philox(random.seed, random.stream, first_block + static_cast<uint64_t>(b));
        for (int i = 0; i < 4; ++i) out.word[4 * b + i] = block.word[i];
    }
#else
    const hn::ScalableTag<uint64_t> d;
    const hn::RepartitionToNarrow<decltype(d)> d32;
    using V = hn::Vec<decltype(d)>;
    constexpr int64_t N = static_cast<int64_t>(hn::MaxLanes(d));
    // Vectors worked on together: a round is a chain of some 7 cycles, others run beside it, as
    // many as there are registers for.
    constexpr int kWays = HWY_TARGET == HWY_AVX3 ? 4 : 2;
    static_assert(4 * kWays * N <= PhiloxWords::kSlack);
    HWY_ALIGN uint64_t key[20 * N];  // a vector a word and round
    uint32_t k0 = static_cast<uint32_t>(random.seed);
    uint32_t k1 = static_cast<uint32_t>(random.seed >> 32);
    for (int round = 0; round < 10; ++round) {
        hn::Store(hn::Set(d, uint64_t{k0}), d, key + 2 * round * N);
        hn::Store(hn::Set(d, uint64_t{k1}), d, key + (2 * round + 1) * N);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    // Not shifted: Intel's multiply and shift in the same place.
    const auto halves_swapped = [d, d32](V v) HWY_ATTR {
        return hn::BitCast(d, hn::Shuffle2301(hn::BitCast(d32, v)));
    };
    const V low_half = hn::Set(d, 0xFFFFFFFFu);
    const auto m0 = hn::BitCast(d32, hn::Set(d, uint64_t{0xD2511F53u}));
    const auto m1 = hn::BitCast(d32, hn::Set(d, uint64_t{0xCD9E8D57u}));
    const V stream0 = hn::Set(d, random.stream & 0xFFFFFFFFu);
    const V stream1 = hn::Set(d, random.stream >> 32);
    V block = hn::Iota(d, first_block);
    const V step = hn::Set(d, static_cast<uint64_t>(N));
    for (int64_t b = 0; b < blocks; b += kWays * N) {
        V c0[kWays], c1[kWays], c2[kWays], c3[kWays];
        for (int w = 0; w < kWays; ++w) {
            c0[w] = block;
            block = hn::Add(block, step);
            c1[w] = hn::ShiftRight<32>(c0[w]);
            c2[w] = stream0;
            c3[w] = stream1;
        }
        for (int round = 0; round < 10; ++round) {
            const V key0 = hn::Load(d, key + 2 * round * N);
            const V key1 = hn::Load(d, key + (2 * round + 1) * N);
            for (int w = 0; w < kWays; ++w) {
                const V p0 = hn::MulEven(m0, hn::BitCast(d32, c0[w]));
                const V p1 = hn::MulEven(m1, hn::BitCast(d32, c2[w]));
                c0[w] = hn::Xor3(halves_swapped(p1), c1[w], key0);
                c2[w] = hn::Xor3(halves_swapped(p0), c3[w], key1);
                c1[w] = p1;
                c3[w] = p0;
            }
        }
        for (int w = 0; w < kWays; ++w) {
            uint64_t* dst = reinterpret_cast<uint64_t*>(out.word + 4 * (b + w * N));
            hn::StoreInterleaved2(hn::Or(hn::And(c0[w], low_half), hn::ShiftLeft<32>(c1[w])),
                                  hn::Or(hn::And(c2[w], low_half), hn::ShiftLeft<32>(c3[w])), d,
                                  dst);
        }
    }
#endif
}

// u < p for u = k / 2^24 is k < ceil(p 2^24), a comparison of integers.
inline int32_t drop_limit(double p) {
    return static_cast<int32_t>(std::ceil(p * 16777216.0));
}

// Which of the numbers drawn with these words are below p.
template <class D>
HWY_INLINE hn::Mask<D> dropped(D d, const uint32_t* words, int32_t limit) {
    const hn::Rebind<uint32_t, D> du;
    const hn::Rebind<int32_t, D> di;
    const auto k = hn::BitCast(di, hn::ShiftRight<8>(hn::LoadU(du, words)));
    if constexpr (sizeof(hn::TFromD<D>) == 4) {
        return hn::RebindMask(d, hn::Lt(k, hn::Set(di, limit)));
    } else {
        const hn::Rebind<int64_t, D> dl;
        return hn::RebindMask(d, hn::Lt(hn::PromoteTo(dl, k), hn::Set(dl, int64_t{limit})));
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace mc
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
