// One element of a dtype to another, by the table's rules (kernels/copy.h): f16 and bf16 round once
// to nearest, ties to even; float to integer truncates within the limits; bool is != 0.
//
// All constexpr: the CPU's kernels, the GPU's and the compiler share them.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "kernels/dtype.h"

namespace mc {

constexpr float widen(f16_bits h) {
    const uint32_t sign = uint32_t{h.bits & 0x8000u} << 16, rest = h.bits & 0x7FFFu;
    // The exponent moves by a product with a power of two, which also makes denormals normal.
    const float value = std::bit_cast<float>(rest << 13) * 0x1p112f;
    const uint32_t special = rest >= 0x7C00u ? 0x7F800000u : 0u;  // infinities and NaNs
    return std::bit_cast<float>(std::bit_cast<uint32_t>(value) | special | sign);
}

constexpr float widen(bf16_bits h) {
    return std::bit_cast<float>(uint32_t{h.bits} << 16);
}

// To nearest, ties to even.
constexpr f16_bits to_f16(float x) {
    const uint32_t bits = std::bit_cast<uint32_t>(x), sign = bits >> 16 & 0x8000u;
    const uint32_t size = bits & 0x7FFFFFFFu;
    // All cases are computed and one is chosen: the compiler makes vectors of that.
    const uint32_t normal = (size - 0x38000000u + 0xFFFu + (size >> 13 & 1u)) >> 13;
    // Adding 0.5 puts a denormal result's last bit at the sum's last bit.
    const uint32_t denormal =
        std::bit_cast<uint32_t>(std::bit_cast<float>(size) + 0.5f) - 0x3F000000u;
    const uint32_t nan = 0x7E00u | (size >> 13 & 0x3FFu);  // quiet
    uint32_t h = size < 0x38800000u ? denormal : normal;   // normal may carry into infinity
    h = size >= 0x47800000u ? 0x7C00u : h;                 // 65536 and beyond
    h = size > 0x7F800000u ? nan : h;
    return {static_cast<uint16_t>(h | sign)};
}

constexpr bf16_bits to_bf16(float x) {
    const uint32_t bits = std::bit_cast<uint32_t>(x);
    const uint32_t rounded = (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
    const bool nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
    return {static_cast<uint16_t>(nan ? (bits >> 16 | 0x40u) : rounded)};
}

// Rounding twice to nearest is not rounding once; rounding to odd first is harmless (Boldo and
// Melquiond 2008): a value between two neighbours becomes the one with the odd last bit.
constexpr float to_odd(double x) {
    const float nearest = static_cast<float>(x);
    const double back = nearest;
    if (back == x || x != x) return nearest;
    uint32_t bits = std::bit_cast<uint32_t>(nearest);
    if (x > 0 ? back > x : back < x) --bits;  // to the one nearer to zero
    return std::bit_cast<float>(bits | 1u);
}

constexpr double to_odd(int64_t x) {
    const double nearest = static_cast<double>(x);
    // 2^63 does not fit back.
    const int64_t back = nearest < 0x1p63 ? static_cast<int64_t>(nearest) : x;
    if (back == x && nearest < 0x1p63) return nearest;
    uint64_t bits = std::bit_cast<uint64_t>(nearest);
    const bool beyond = nearest >= 0x1p63 || (x > 0 ? back > x : back < x);
    if (beyond) --bits;
    return std::bit_cast<double>(bits | 1u);
}

// What a float cannot be as an integer is defined here: NaN is 0, too large is the nearest limit.
template <class Int, class Float>
constexpr Int truncate(Float x) {
    constexpr Float kLow = static_cast<Float>(std::numeric_limits<Int>::min());  // a power of two
    if (x != x) return 0;
    if (x < kLow) return std::numeric_limits<Int>::min();
    if (x >= -kLow) return std::numeric_limits<Int>::max();
    return static_cast<Int>(x);
}

template <class T>
constexpr bool kHalf = std::is_same_v<T, f16_bits> || std::is_same_v<T, bf16_bits>;

template <class Dst, class Src>
constexpr Dst convert(Src x) {
    if constexpr (std::is_same_v<Dst, Src>) {
        return x;
    } else if constexpr (kHalf<Src>) {
        return convert<Dst>(widen(x));
    } else if constexpr (kHalf<Dst>) {
        float f;
        if constexpr (std::is_same_v<Src, double>)
            f = to_odd(x);
        else if constexpr (std::is_same_v<Src, int64_t>)
            f = to_odd(to_odd(x));
        else if constexpr (std::is_same_v<Src, int32_t>)
            f = to_odd(static_cast<double>(x));
        else
            f = static_cast<float>(x);
        if constexpr (std::is_same_v<Dst, f16_bits>)
            return to_f16(f);
        else
            return to_bf16(f);
    } else if constexpr (std::is_same_v<Dst, bool>) {
        return x != 0;
    } else if constexpr (std::is_integral_v<Dst> && std::is_floating_point_v<Src>) {
        return truncate<Dst>(x);
    } else {
        return static_cast<Dst>(x);
    }
}

// f(value of the dtype's C++ type).
template <class F>
void with_type(DType dtype, F&& f) {
    switch (dtype) {
        case DType::f32:
            return f(float());
        case DType::f64:
            return f(double());
        case DType::f16:
            return f(f16_bits());
        case DType::bf16:
            return f(bf16_bits());
        case DType::i64:
            return f(int64_t());
        case DType::i32:
            return f(int32_t());
        case DType::boolean:
            return f(bool());
    }
}

}  // namespace mc
