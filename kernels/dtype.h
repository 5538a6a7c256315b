// Element types. Mixing them in an operation is an error, never a promotion.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mc {

enum class DType : uint8_t { f32, f64, f16, bf16, i64, i32, boolean };
enum class DeviceType : uint8_t { cpu, cuda };

// In what numbers a product with a weight multiplies: NOTE [ Packed right operands ] in matmul.h.
enum class Precision : uint8_t { f32, bf16, f16, int16 };

constexpr const char* name_of(Precision p) {
    constexpr const char* kNames[] = {"f32", "bf16", "f16", "int16"};
    return kNames[static_cast<int>(p)];
}

constexpr size_t size_of(DType t) {
    switch (t) {
        case DType::f64:
        case DType::i64:
            return 8;
        case DType::f32:
        case DType::i32:
            return 4;
        case DType::f16:
        case DType::bf16:
            return 2;
        case DType::boolean:
            return 1;
    }
    return 0;
}

constexpr const char* name_of(DType t) {
    switch (t) {
        case DType::f32:
            return "f32";
        case DType::f64:
            return "f64";
        case DType::f16:
            return "f16";
        case DType::bf16:
            return "bf16";
        case DType::i64:
            return "i64";
        case DType::i32:
            return "i32";
        case DType::boolean:
            return "bool";
    }
    return "?";
}

constexpr const char* name_of(DeviceType d) {
    return d == DeviceType::cpu ? "cpu" : "cuda";
}

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
    static constexpr DType value = DType::f32;
};
template <>
struct DTypeOf<double> {
    static constexpr DType value = DType::f64;
};
template <>
struct DTypeOf<int64_t> {
    static constexpr DType value = DType::i64;
};
template <>
struct DTypeOf<int32_t> {
    static constexpr DType value = DType::i32;
};
template <>
struct DTypeOf<bool> {
    static constexpr DType value = DType::boolean;
};

// Storage types without arithmetic: IEEE binary16 and bfloat16 bit patterns.
struct f16_bits {
    uint16_t bits;
};
struct bf16_bits {
    uint16_t bits;
};

}  // namespace mc
