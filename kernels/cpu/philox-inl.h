// Philox4x32-10 over vectors: bit for bit the `philox` of kernels/random.h.

#if defined(MOCLIP_KERNELS_CPU_PHILOX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MOCLIP_KERNELS_CPU_PHILOX_INL_H_
#undef MOCLIP_KERNELS_CPU_PHILOX_INL_H_
#else
#define MOCLIP_KERNELS_CPU_PHILOX_INL_H_
#endif

#include "hwy/highway.h"
#include "kernels/cpu/chunking.h"
#include "kernels/random.h"

HWY_BEFORE_NAMESPACE();
namespace mc {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// A run of a stream's draws that stays in the first-level cache.
class PhiloxWords {
  public:
    static constexpr int64_t kBlocks = 256;
    static constexpr int64_t kWords = 4 * kBlocks;
    static constexpr int64_t kSlack = 128;  // the last step may write beyond
    alignas(64) uint32_t word[kWords + kSlack];

    explicit PhiloxWords(const RandomStream& random) : random_(random) {
        uint32_t k0 = static_cast<uint32_t>(random.seed);
        uint32_t k1 = static_cast<uint32_t>(random.seed >> 32);
        for (int round = 0; round < kRounds; ++round) {
            key_[round][0] = k0;
            key_[round][1] = k1;
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
        }
    }

    // word[i] = draw 4 * first_block + i of the stream, for i < 4 * blocks; blocks <= kBlocks (some
    // words behind them are overwritten too).
    //
    // A counter word sits in the low half of a 64-bit lane and what is above it is never read: the
    // 32 x 32 -> 64 bit product ignores it, so a round is 2 products, 2 shuffles and 4 xors.
    HWY_NOINLINE void draw(uint64_t first_block, int64_t blocks) {
#if HWY_TARGET == HWY_SCALAR
        for (int64_t b = 0; b < blocks; ++b) {
            const PhiloxBlock block =
                philox(random_.seed, random_.stream, first_block + static_cast<uint64_t>(b));
            for (int i = 0; i < 4; ++i) word[4 * b + i] = block.word[i];
        }
#else
        const hn::ScalableTag<uint64_t> d;
        const hn::RepartitionToNarrow<decltype(d)> d32;
        using V = hn::Vec<decltype(d)>;
        constexpr int64_t N = static_cast<int64_t>(hn::MaxLanes(d));
        // Vectors worked on together: a round is a chain of some 7 cycles, others run beside it, as
        // many as there are registers for.
        constexpr int kWays = HWY_TARGET == HWY_AVX3 ? 4 : 2;
        static_assert(4 * kWays * N <= kSlack);
        // Not shifted: Intel's multiply and shift in the same place.
        const auto halves_swapped = [d, d32](V v) HWY_ATTR {
            return hn::BitCast(d, hn::Shuffle2301(hn::BitCast(d32, v)));
        };
        const V low_half = hn::Set(d, 0xFFFFFFFFu);
        const auto m0 = hn::BitCast(d32, hn::Set(d, uint64_t{0xD2511F53u}));
        const auto m1 = hn::BitCast(d32, hn::Set(d, uint64_t{0xCD9E8D57u}));
        const V stream0 = hn::Set(d, random_.stream & 0xFFFFFFFFu);
        const V stream1 = hn::Set(d, random_.stream >> 32);
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
            for (int round = 0; round < kRounds; ++round) {
                const V key0 = hn::Set(d, key_[round][0]), key1 = hn::Set(d, key_[round][1]);
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
                uint64_t* dst = reinterpret_cast<uint64_t*>(word + 4 * (b + w * N));
                hn::StoreInterleaved2(hn::Or(hn::And(c0[w], low_half), hn::ShiftLeft<32>(c1[w])),
                                      hn::Or(hn::And(c2[w], low_half), hn::ShiftLeft<32>(c3[w])), d,
                                      dst);
            }
        }
#endif
    }

  private:
    static constexpr int kRounds = 10;
    RandomStream random_;
    uint64_t key_[kRounds][2];
};

// A run of dropout's decisions (DropRule).
class DropDraws {
  public:
    static constexpr int64_t kMost = 2 * PhiloxWords::kWords - 8;  // numbers at a time

    DropDraws(const RandomStream& random, const DropRule& rule)
        : words_(random), limit_(static_cast<int32_t>(rule.limit)) {}

    // Numbers [first, first + n), n <= kMost.
    void draw(uint64_t first, int64_t n) {
        skip_ = static_cast<int64_t>(first % 8);
        words_.draw(first / 8, ceil_div(skip_ + n, 8));
    }

    // Of numbers first + j and those after it, a lane each, which are dropped.
    template <class D>
    HWY_INLINE hn::Mask<D> dropped(D d, int64_t j) const {
        const hn::Rebind<uint16_t, D> d16;
        const hn::Rebind<int32_t, D> d32;
        const uint16_t* halves = reinterpret_cast<const uint16_t*>(words_.word) + skip_ + j;
        const auto u = hn::PromoteTo(d32, hn::LoadU(d16, halves));
        if constexpr (sizeof(hn::TFromD<D>) == 4) {
            return hn::RebindMask(d, hn::Lt(u, hn::Set(d32, limit_)));
        } else {
            const hn::Rebind<int64_t, D> d64;
            return hn::RebindMask(d, hn::Lt(hn::PromoteTo(d64, u), hn::Set(d64, int64_t{limit_})));
        }
    }

  private:
    PhiloxWords words_;
    int32_t limit_;
    int64_t skip_ = 0;
};

}  // namespace HWY_NAMESPACE
}  // namespace mc
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
