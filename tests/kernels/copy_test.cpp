#include "kernels/copy.h"

#include <algorithm>
#include <numeric>

#include "tests/kernels/table_test_util.h"

namespace mc::testing {
namespace {

struct Strided {
    std::vector<int64_t> size, stride;
};

std::vector<Strided> layouts() {
    return {
        {{}, {}},
        {{5, 0, 3}, {3, 3, 1}},
        {{1000}, {1}},
        {{1000}, {3}},
        {{40001}, {2}},
        {{6, 7, 8}, {56, 8, 1}},    // contiguous
        {{6, 7, 8}, {100, 10, 1}},  // runs with gaps
        {{7, 9}, {1, 7}},           // transposes
        {{70, 100}, {1, 70}},
        {{130, 33}, {1, 131}},
        {{3, 65, 17}, {65 * 17, 1, 65}},
        {{4, 17, 3, 65}, {65 * 17 * 3, 1, 17, 17 * 3}},
        {{65, 3, 4, 17}, {1, 65 * 17 * 4, 65 * 17, 65}},
        {{2, 5, 3, 16}, {240, 16, 80, 1}},  // (B, T, H, D) from (B, H, T, D)
        {{3, 2}, {1, 3}},
        {{1, 9, 1, 4}, {77, 1, 77, 9}},
        {{3, 2, 2, 2, 2, 3, 2, 5}, {1, 3, 6, 12, 24, 48, 144, 288}},
    };
}

std::vector<int64_t> offsets_of(const Strided& s) {
    std::vector<int64_t> result = {0};
    for (size_t d = 0; d < s.size.size(); ++d) {
        std::vector<int64_t> longer;
        for (int64_t o : result)
            for (int64_t k = 0; k < s.size[d]; ++k) longer.push_back(o + k * s.stride[d]);
        result = longer;
    }
    return result;
}

StridedLoop loop_of(const Strided& s) {
    StridedLoop loop;
    loop.dims = static_cast<int>(s.size.size());
    for (size_t i = 0; i < s.size.size(); ++i) {
        loop.size[i] = s.size[i];
        loop.stride_a[i] = s.stride[i];
    }
    return loop;
}

template <class F>
void with_copy_kernels(F&& f) {
    Backend b;
    copy_kernels(b);
    for (int threads : {1, 3}) {
        TestContext context(threads);
        f(b.copy, context.context);
    }
}

TEST_CASE_TEMPLATE("gather_strided and scatter_strided move every element", E, uint8_t, uint16_t,
                   uint32_t, uint64_t) {
    with_copy_kernels([](CopyKernels& copy, Context& context) {
        for (const Strided& s : layouts()) {
            const std::vector<int64_t> at = offsets_of(s);
            const int64_t n = static_cast<int64_t>(at.size());
            const int64_t extent = at.empty() ? 0 : *std::max_element(at.begin(), at.end()) + 1;
            GuardedBuffer<E> strided(extent, 1), dense(n, 1);
            for (int64_t i = 0; i < extent; ++i) strided[i] = static_cast<E>(i * 37 + 11);
            copy.gather_strided(context, dense.data(), strided.data(), loop_of(s), sizeof(E));
            int64_t wrong = 0;
            for (int64_t i = 0; i < n; ++i)
                wrong += dense[i] != strided[at[static_cast<size_t>(i)]];
            CHECK(wrong == 0);

            // Back, with other values; what lies between stays.
            std::vector<E> want = strided.copy();
            for (int64_t i = 0; i < n; ++i) {
                dense[i] = static_cast<E>(i * 29 + 5);
                want[static_cast<size_t>(at[static_cast<size_t>(i)])] = dense[i];
            }
            copy.scatter_strided(context, strided.data(), dense.data(), loop_of(s), sizeof(E));
            CHECK(strided.copy() == want);
        }
    });
}

TEST_CASE("gather_strided broadcasts with stride 0 and goes backwards") {
    with_copy_kernels([](CopyKernels& copy, Context& context) {
        const float src[4] = {1, 2, 3, 4};
        float dst[24];
        copy.gather_strided(context, dst, src, loop_of({{2, 3, 4}, {0, 1, 0}}), 4);
        for (int i = 0; i < 24; ++i) CHECK(dst[i] == src[i / 4 % 3]);
        copy.gather_strided(context, dst, src, loop_of({{6, 4}, {0, 1}}), 4);
        for (int i = 0; i < 24; ++i) CHECK(dst[i] == src[i % 4]);
        copy.gather_strided(context, dst, src + 3, loop_of({{4}, {-1}}), 4);
        for (int i = 0; i < 4; ++i) CHECK(dst[i] == src[3 - i]);
    });
}

template <class To, class From>
std::vector<To> cast_all(DType to, DType from, const std::vector<From>& src) {
    Backend b;
    copy_kernels(b);
    TestContext context(2);
    GuardedBuffer<From> in(static_cast<int64_t>(src.size()), 1);
    GuardedBuffer<To> out(static_cast<int64_t>(src.size()), 1);
    std::copy(src.begin(), src.end(), in.data());
    b.copy.cast(context, out.data(), to, in.data(), from, out.size());
    return out.copy();
}

// The value of a bit pattern by the definition.
double half_value(uint32_t bits, int exponent_bits, int mantissa_bits) {
    const double sign = bits >> 15 ? -1 : 1;
    const int exponent = static_cast<int>(bits >> mantissa_bits & ((1u << exponent_bits) - 1));
    const double mantissa = bits & ((1u << mantissa_bits) - 1);
    const int bias = (1 << (exponent_bits - 1)) - 1;
    if (exponent == (1 << exponent_bits) - 1) return mantissa == 0 ? sign * kInf : kNan;
    if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
    return sign * std::ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
}

struct HalfFormat {
    DType dtype;
    int exponent_bits, mantissa_bits;
    double value(uint32_t bits) const { return half_value(bits, exponent_bits, mantissa_bits); }
};
constexpr HalfFormat kHalves[] = {{DType::f16, 5, 10}, {DType::bf16, 8, 7}};

TEST_CASE("every f16 and bf16 widens to its value and comes back") {
    std::vector<uint16_t> all(65536);
    std::iota(all.begin(), all.end(), uint16_t{0});
    for (const HalfFormat& h : kHalves) {
        const auto f32 = cast_all<float>(DType::f32, h.dtype, all);
        const auto f64 = cast_all<double>(DType::f64, h.dtype, all);
        const auto from_f32 = cast_all<uint16_t>(h.dtype, DType::f32, f32);
        const auto from_f64 = cast_all<uint16_t>(h.dtype, DType::f64, f64);
        int64_t wrong = 0;
        for (size_t i = 0; i < all.size(); ++i) {
            const double want = h.value(all[i]);
            if (std::isnan(want)) {
                wrong += !std::isnan(f32[i]) || !std::isnan(f64[i]);
                wrong += !std::isnan(h.value(from_f32[i])) || !std::isnan(h.value(from_f64[i]));
            } else {
                wrong += static_cast<double>(f32[i]) != want || f64[i] != want;
                wrong += std::signbit(f32[i]) != (all[i] >= 0x8000);
                wrong += from_f32[i] != all[i] || from_f64[i] != all[i];
            }
        }
        CHECK(wrong == 0);
    }
}

TEST_CASE("halves round to nearest, ties to even, once") {
    for (const HalfFormat& h : kHalves) {
        const uint32_t inf_bits = ((1u << h.exponent_bits) - 1) << h.mantissa_bits;
        std::vector<double> x;
        std::vector<uint16_t> want;
        const auto expect = [&](double value, uint32_t bits) {
            x.push_back(value);
            want.push_back(static_cast<uint16_t>(bits));
            x.push_back(-value);
            want.push_back(static_cast<uint16_t>(bits | 0x8000u));
        };
        for (uint32_t bits = 0; bits < inf_bits; ++bits) {
            const double low = h.value(bits);
            // The neighbour of the largest number is where infinity begins.
            const double high =
                bits + 1 < inf_bits ? h.value(bits + 1) : low + (low - h.value(bits - 1));
            const double middle = low + (high - low) / 2;
            expect(middle, bits % 2 == 0 ? bits : bits + 1);
            // A hair beside the tie: a rounding to f32 in between would lose it.
            expect(std::nextafter(middle, 0.0), bits);
            expect(std::nextafter(middle, kInf), bits + 1);
        }
        expect(1e300, inf_bits);
        expect(kInf, inf_bits);
        CHECK(cast_all<uint16_t>(h.dtype, DType::f64, x) == want);

        // From f32: the ties themselves and the floats beside them.
        std::vector<float> f;
        std::vector<uint16_t> want_f;
        for (uint32_t bits = 0; bits + 1 < inf_bits; ++bits) {
            const float middle = static_cast<float>((h.value(bits) + h.value(bits + 1)) / 2);
            f.push_back(middle);
            want_f.push_back(static_cast<uint16_t>(bits % 2 == 0 ? bits : bits + 1));
            f.push_back(std::nextafter(middle, 0.0f));
            want_f.push_back(static_cast<uint16_t>(bits));
            f.push_back(std::nextafter(middle, HUGE_VALF));
            want_f.push_back(static_cast<uint16_t>(bits + 1));
        }
        CHECK(cast_all<uint16_t>(h.dtype, DType::f32, f) == want_f);
    }
}

TEST_CASE("integers become halves with one rounding") {
    // 2^54 + 2^46 is the tie between two bf16 neighbours, 2^54 + 2^46 + 1 just above it.
    const int64_t tie = (int64_t{1} << 54) + (int64_t{1} << 46);
    const std::vector<int64_t> x = {0,
                                    1,
                                    -3,
                                    2049,
                                    2051,
                                    65519,
                                    65520,
                                    tie,
                                    tie + 1,
                                    tie - 1,
                                    std::numeric_limits<int64_t>::max(),
                                    std::numeric_limits<int64_t>::min()};
    CHECK(cast_all<uint16_t>(DType::f16, DType::i64, x) ==
          std::vector<uint16_t>{0, 0x3C00, 0xC200, 0x6800, 0x6802, 0x7BFF, 0x7C00, 0x7C00, 0x7C00,
                                0x7C00, 0x7C00, 0xFC00});
    const auto bf16 = cast_all<uint16_t>(DType::bf16, DType::i64, x);
    CHECK(bf16[7] == 0x5A80);
    CHECK(bf16[8] == 0x5A81);
    CHECK(bf16[9] == 0x5A80);
    CHECK(bf16[10] == 0x5F00);
    CHECK(bf16[11] == 0xDF00);
}

TEST_CASE("NaN becomes NaN of its sign, whichever of its bits are set") {
    std::vector<uint32_t> bits;
    for (uint32_t payload : {0x1u, 0x2000u, 0x10000u, 0x200000u, 0x400000u, 0x7FFFFFu})
        for (uint32_t sign : {0u, 0x80000000u}) bits.push_back(sign | 0x7F800000u | payload);
    std::vector<float> x(bits.size());
    std::memcpy(x.data(), bits.data(), bits.size() * sizeof(float));
    for (const HalfFormat& h : kHalves) {
        const auto half = cast_all<uint16_t>(h.dtype, DType::f32, x);
        for (size_t i = 0; i < half.size(); ++i) {
            CHECK(std::isnan(h.value(half[i])));
            CHECK((half[i] >= 0x8000) == (bits[i] >= 0x80000000u));
        }
    }
    for (double wide : cast_all<double>(DType::f64, DType::f32, x)) CHECK(std::isnan(wide));
}

TEST_CASE("float to integer truncates, within the limits") {
    const std::vector<double> x = {1.9,   -1.9, 0.5,          1e30,   -1e30,  kInf,
                                   -kInf, kNan, 2147483647.5, 0x1p31, -0x1p31};
    const int32_t max = std::numeric_limits<int32_t>::max(),
                  min = std::numeric_limits<int32_t>::min();
    CHECK(cast_all<int32_t>(DType::i32, DType::f64, x) ==
          std::vector<int32_t>{1, -1, 0, max, min, max, min, 0, max, max, min});
    CHECK(cast_all<int64_t>(DType::i64, DType::f64, std::vector<double>{0x1p63, -0x1p63}) ==
          std::vector<int64_t>{std::numeric_limits<int64_t>::max(),
                               std::numeric_limits<int64_t>::min()});
    const auto wide = cast_all<int64_t>(DType::i64, DType::f64, x);
    CHECK(wide[3] == std::numeric_limits<int64_t>::max());
    CHECK(wide[4] == std::numeric_limits<int64_t>::min());
    CHECK(wide[8] == 2147483647);
}

TEST_CASE("bool is != 0, other pairs are the language's conversions") {
    const auto flags = cast_all<bool>(DType::boolean, DType::f32,
                                      std::vector<float>{0, -0.0f, 0.25f, -7, std::nanf("")});
    CHECK(flags == std::vector<bool>{false, false, true, true, true});
    CHECK(cast_all<float>(DType::f32, DType::boolean, std::vector<bool>{true, false}) ==
          std::vector<float>{1, 0});
    CHECK(cast_all<bool>(DType::boolean, DType::f16, std::vector<uint16_t>{0, 0x8000, 1}) ==
          std::vector<bool>{false, false, true});
    CHECK(cast_all<int32_t>(DType::i32, DType::i64, std::vector<int64_t>{5, -6}) ==
          std::vector<int32_t>{5, -6});
    CHECK(cast_all<float>(DType::f32, DType::f64, std::vector<double>{0.1}) ==
          std::vector<float>{0.1f});
    CHECK(cast_all<uint16_t>(DType::bf16, DType::f16, std::vector<uint16_t>{0x3C00}) ==
          std::vector<uint16_t>{0x3F80});
    CHECK(cast_all<double>(DType::f64, DType::i64, std::vector<int64_t>{-9}) ==
          std::vector<double>{-9});
}

}  // namespace
}  // namespace mc::testing
