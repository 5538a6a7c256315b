#include "tensor/formats/element_type.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>

namespace mc {
namespace {

struct Row {
    ElementType type;
    size_t size;
    const char* torch;
    const char* numpy;
    std::optional<DType> dtype;
};

constexpr Row kRows[] = {
    {ElementType::f32, 4, "float32", "f4", DType::f32},
    {ElementType::f64, 8, "float64", "f8", DType::f64},
    {ElementType::f16, 2, "float16", "f2", DType::f16},
    {ElementType::bf16, 2, "bfloat16", "", DType::bf16},
    {ElementType::i64, 8, "int64", "i8", DType::i64},
    {ElementType::i32, 4, "int32", "i4", DType::i32},
    {ElementType::i16, 2, "int16", "i2", DType::i32},
    {ElementType::i8, 1, "int8", "i1", DType::i32},
    {ElementType::u8, 1, "uint8", "u1", DType::i32},
    {ElementType::u16, 2, "uint16", "u2", DType::i32},
    {ElementType::u32, 4, "uint32", "u4", DType::i64},
    {ElementType::u64, 8, "uint64", "u8", std::nullopt},
    {ElementType::boolean, 1, "bool", "b1", DType::boolean},
};

const Row& row_of(ElementType type) {
    return kRows[static_cast<size_t>(type)];
}

// Elements of FROM in row-major order, converted to TO.
template <class From, class To>
void gather(const std::byte* storage, const ElementLayout& layout, bool swap, To* to,
            int64_t count) {
    const size_t dims = layout.shape.size();
    std::vector<int64_t> index(dims, 0);
    int64_t at = layout.offset;
    for (int64_t i = 0; i < count; ++i) {
        std::byte raw[sizeof(From)];
        std::memcpy(raw, storage + at * static_cast<int64_t>(sizeof(From)), sizeof(From));
        if (swap) std::reverse(raw, raw + sizeof(From));
        From value;
        std::memcpy(&value, raw, sizeof value);
        to[i] = static_cast<To>(value);
        for (size_t d = dims; d-- > 0;) {
            at += layout.strides[d];
            if (++index[d] < layout.shape[d]) break;
            at -= layout.strides[d] * layout.shape[d];
            index[d] = 0;
        }
    }
}

template <class From>
void gather_as(const std::byte* storage, const ElementLayout& layout, bool swap, Tensor& to) {
    if (to.dtype() == DType::i64)
        gather<From>(storage, layout, swap, reinterpret_cast<int64_t*>(to.raw()), to.numel());
    else if (to.dtype() == DType::i32)
        gather<From>(storage, layout, swap, reinterpret_cast<int32_t*>(to.raw()), to.numel());
    else  // the type itself: bits
        gather<From>(storage, layout, swap, reinterpret_cast<From*>(to.raw()), to.numel());
}

void gather_any(const std::byte* storage, ElementType type, const ElementLayout& layout, bool swap,
                Tensor& to) {
    switch (type) {
        case ElementType::f32:
        case ElementType::u32:
            return gather_as<uint32_t>(storage, layout, swap, to);
        case ElementType::f64:
        case ElementType::i64:
        case ElementType::u64:
            return gather_as<uint64_t>(storage, layout, swap, to);
        case ElementType::f16:
        case ElementType::bf16:
        case ElementType::u16:
            return gather_as<uint16_t>(storage, layout, swap, to);
        case ElementType::i32:
            return gather_as<int32_t>(storage, layout, swap, to);
        case ElementType::i16:
            return gather_as<int16_t>(storage, layout, swap, to);
        case ElementType::i8:
            return gather_as<int8_t>(storage, layout, swap, to);
        case ElementType::u8:
        case ElementType::boolean:
            return gather_as<uint8_t>(storage, layout, swap, to);
    }
}

}  // namespace

size_t size_of(ElementType type) {
    return row_of(type).size;
}
const char* torch_name(ElementType type) {
    return row_of(type).torch;
}
std::optional<DType> dtype_of(ElementType type) {
    return row_of(type).dtype;
}

std::optional<ElementType> element_of_torch_name(std::string_view name) {
    for (const Row& row : kRows)
        if (name == row.torch) return row.type;
    return std::nullopt;
}

std::optional<ElementType> element_of_numpy(std::string_view kind_and_size) {
    for (const Row& row : kRows)
        if (*row.numpy && kind_and_size == row.numpy) return row.type;
    return std::nullopt;
}

ElementType element_of(DType dtype) {
    for (const Row& row : kRows)
        if (row.dtype == dtype) return row.type;  // the exact type stands first
    return ElementType::boolean;
}

ElementLayout ElementLayout::contiguous(std::vector<int64_t> shape) {
    ElementLayout layout{std::move(shape), {}, 0};
    layout.strides.resize(layout.shape.size());
    int64_t stride = 1;
    for (size_t d = layout.shape.size(); d-- > 0;) {
        layout.strides[d] = stride;
        if (__builtin_mul_overflow(stride, std::max<int64_t>(layout.shape[d], 1), &stride))
            stride = std::numeric_limits<int64_t>::max();  // extent() says no to it
    }
    return layout;
}

std::optional<ElementLayout::Extent> ElementLayout::extent() const {
    if (shape.size() != strides.size() || offset < 0) return std::nullopt;
    Extent extent{1, offset};
    int64_t last = offset;
    for (size_t d = 0; d < shape.size(); ++d) {
        if (shape[d] < 0 || strides[d] < 0) return std::nullopt;
        int64_t reach = 0;
        if (__builtin_mul_overflow(extent.count, std::max<int64_t>(shape[d], 1), &extent.count) ||
            __builtin_mul_overflow(std::max<int64_t>(shape[d] - 1, 0), strides[d], &reach) ||
            __builtin_add_overflow(last, reach, &last))
            return std::nullopt;
    }
    if (last == std::numeric_limits<int64_t>::max()) return std::nullopt;
    if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return Extent{0, 0};
    return Extent{extent.count, last + 1};
}

bool ElementLayout::is_contiguous() const {
    int64_t stride = 1;
    for (size_t d = shape.size(); d-- > 0;) {
        if (shape[d] != 1 && strides[d] != stride) return false;
        stride *= shape[d];
    }
    return true;
}

Tensor load_elements(std::span<const std::byte> storage, ElementType type,
                     const ElementLayout& layout, bool swap_bytes,
                     std::shared_ptr<const void> owner) {
    if (layout.shape.size() > static_cast<size_t>(kMaxDims))
        throw Error(
            fmt::format("{} dimensions, at most {} are supported", layout.shape.size(), kMaxDims));
    if (!layout.extent()) throw Error("its shape overflows");
    const auto dtype = dtype_of(type);
    if (!dtype)
        throw Error(fmt::format("element type {} fits none of the engine's; save it as int64",
                                torch_name(type)));
    const size_t size = size_of(type);
    const Shape shape(layout.shape.begin(), layout.shape.end());
    const int64_t count = shape.numel();
    const std::byte* data =
        storage.data() + (count ? layout.offset * static_cast<int64_t>(size) : 0);
    const bool as_it_is = element_of(*dtype) == type && (!swap_bytes || size == 1) &&
                          (count == 0 || layout.is_contiguous());
    Tensor tensor;
    if (as_it_is && data && reinterpret_cast<uintptr_t>(data) % size == 0 && owner) {
        tensor = Tensor::borrow(data, shape, *dtype, std::move(owner));
    } else {
        tensor = Tensor::empty(shape, *dtype);
        if (as_it_is && count > 0)
            std::memcpy(tensor.raw(), data, static_cast<size_t>(count) * size);
        else if (count > 0)
            gather_any(storage.data(), type, layout, swap_bytes && size > 1, tensor);
    }
    if (type == ElementType::boolean)
        for (int64_t i = 0; i < count; ++i)
            if (std::to_integer<unsigned>(tensor.raw()[i]) > 1)
                throw Error(fmt::format("element {} is neither 0 nor 1", i));
    return tensor;
}

}  // namespace mc
