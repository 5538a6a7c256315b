#include "tensor/finite.h"

#include <algorithm>
#include <limits>

namespace mc {
namespace {

// Index of the first element whose exponent bits (`mask`) are all set, or n. Looks at whole blocks
// without branches, and of a length that the compiler knows, so that clean data pass at memory
// speed.
template <class Bits>
int64_t first_not_finite(const std::byte* data, int64_t n, Bits mask) {
    constexpr int64_t kBlock = 1024;
    const auto full = [data, mask](int64_t i) {
        Bits b;
        std::memcpy(&b, data + i * static_cast<int64_t>(sizeof b), sizeof b);
        return (b & mask) == mask;
    };
    int64_t begin = 0;
    for (; begin + kBlock <= n; begin += kBlock) {
        Bits bad = 0;  // no wider than an element, so that a vector holds as many
        for (int64_t i = 0; i < kBlock; ++i)
            bad = static_cast<Bits>(bad | static_cast<Bits>(full(begin + i)));
        if (bad) break;
    }
    while (begin < n && !full(begin)) ++begin;
    return begin;
}

// NaN or a signed infinity, by the sign and the fraction of an element with a full exponent.
template <class Bits>
double classify(const std::byte* element, Bits mask) {
    Bits bits;
    std::memcpy(&bits, element, sizeof bits);
    const Bits sign = static_cast<Bits>(Bits{1} << (8 * sizeof bits - 1));
    if (bits & static_cast<Bits>(~(mask | sign))) return std::numeric_limits<double>::quiet_NaN();
    const double infinity = std::numeric_limits<double>::infinity();
    return bits & sign ? -infinity : infinity;
}

template <class Bits>
std::optional<NotFinite> find(const Tensor& x, Bits mask) {  // x contiguous
    int64_t at = first_not_finite<Bits>(x.raw(), x.numel(), mask);
    if (at == x.numel()) return std::nullopt;
    NotFinite found{x.shape(), classify<Bits>(x.raw() + at * int64_t{sizeof(Bits)}, mask)};
    for (int d = x.dims() - 1; d >= 0; --d) {
        found.index[d] = at % x.shape()[d];
        at /= x.shape()[d];
    }
    return found;
}

}  // namespace

std::optional<NotFinite> find_not_finite(const Tensor& x) {
    const Tensor c = x.cpu().contiguous();
    switch (c.dtype()) {
        case DType::f32:
            return find<uint32_t>(c, 0x7F800000u);
        case DType::f64:
            return find<uint64_t>(c, 0x7FF0000000000000u);
        case DType::f16:
            return find<uint16_t>(c, 0x7C00u);
        case DType::bf16:
            return find<uint16_t>(c, 0x7F80u);
        default:
            return std::nullopt;
    }
}

void check_finite(const std::string& name, const Tensor& x) {
    if (const auto found = find_not_finite(x))
        throw Error(name + ": " +
                    (found->value != found->value ? "nan"
                     : found->value > 0           ? "inf"
                                                  : "-inf") +
                    " at " + found->index.str() + " of shape " + x.shape().str());
}

}  // namespace mc
