// What the elements of a tensor in a file are, and how they become a Tensor. The engine has fewer
// types than the files: small integers are widened, exactly (i8 u8 i16 u16 -> i32, u32 -> i64).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/tensor.h"

namespace mc {

enum class ElementType : uint8_t {
    f32,
    f64,
    f16,
    bf16,
    i64,
    i32,
    i16,
    i8,
    u8,
    u16,
    u32,
    u64,
    boolean
};

size_t size_of(ElementType type);
const char* torch_name(ElementType type);  // "float32", "bool"
std::optional<ElementType> element_of_torch_name(std::string_view name);
// By NumPy's kind and size, as in "f4"; nothing for others.
std::optional<ElementType> element_of_numpy(std::string_view kind_and_size);
// The engine's type that holds them all; nothing for u64.
std::optional<DType> dtype_of(ElementType type);
ElementType element_of(DType dtype);

// Where elements lie in a storage: sizes, strides and offset in elements.
struct ElementLayout {
    std::vector<int64_t> shape, strides;
    int64_t offset = 0;

    static ElementLayout contiguous(std::vector<int64_t> shape);
    // The number of elements, and the index after the last one that is touched (0 if there is
    // none). Nothing on overflow, a negative size, stride or offset, or strides that do not fit the
    // shape.
    struct Extent {
        int64_t count, end;
    };
    std::optional<Extent> extent() const;
    bool is_contiguous() const;
};

// The tensor of these elements, row-major. Borrows `storage`, which `owner` keeps alive, where it
// can: contiguous, aligned, in this machine's byte order, of a type of the engine's; else copies.
// The caller has checked that the extent lies in the storage. Error, in words that follow the name
// of a tensor: too many dimensions, a type that does not fit, a bool that is neither 0 nor 1.
Tensor load_elements(std::span<const std::byte> storage, ElementType type,
                     const ElementLayout& layout, bool swap_bytes,
                     std::shared_ptr<const void> owner);

}  // namespace mc
