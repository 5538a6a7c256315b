#include "tensor/packed_weight.h"

#include <algorithm>
#include <mutex>

namespace mc {

// What is held of one storage: a bank of weights has a copy for each that was asked for.
struct PackedWeights {
    struct Copy {
        int64_t n, k;
        Precision precision;
        const std::byte* source;
        uint32_t version;  // of the storage when it was packed
        Tensor packed;
    };
    std::vector<Copy> copies;
};

PackedMatrix packed_weight(const Tensor& w, Precision precision) {
    if (w.dims() != 2 || !w.is_contiguous())
        throw Error("[packed_weight] got " + w.shape().str() + ", want a contiguous (N, K)");
    static std::mutex mutex;
    const std::lock_guard lock(mutex);
    Storage& storage = *w.storage();
    if (!storage.packed) storage.packed = std::make_shared<PackedWeights>();
    std::vector<PackedWeights::Copy>& copies = storage.packed->copies;
    const int64_t n = w.size(0), k = w.size(1);
    auto found = std::find_if(copies.begin(), copies.end(), [&](const auto& copy) {
        return copy.source == w.raw_ptr() && copy.n == n && copy.k == k &&
               copy.precision == precision;
    });
    if (found == copies.end()) {
        copies.push_back({n, k, precision, w.raw_ptr(), 0, Tensor()});
        if (precision == Precision::f32) return {};
        found = copies.end() - 1;
    }
    if (!found->packed.defined() || found->version != w.version()) {
        found->packed = Tensor::empty({packed_bytes(precision, k, n) / 4}, DType::i32, w.device());
        backend(w.device())
            .f32.pack_b(precision)(default_context(w.device()), found->packed.raw_ptr(),
                                   w.ptr<float>(), k, true, k, n);
        found->version = w.version();
    }
    return {found->packed.raw_ptr(), precision};
}

}  // namespace mc
