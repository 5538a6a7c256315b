#include "tensor/packed_weight.h"

#include <algorithm>
#include <mutex>

namespace mc {

namespace {

// What a copy is: of how many bytes at `source`, laid out in which way.
struct Form {
    enum Kind { matrix, convolution };
    const std::byte* source;
    int64_t rows, cols;
    Kind kind;
    int layout;  // a Precision, or a ConvPacking's
    bool operator==(const Form&) const = default;
};

}  // namespace

// What is held of one storage: a bank of weights has a copy for each that was asked for.
struct PackedWeights {
    struct Copy {
        Form form;
        uint32_t version;  // of the storage when it was packed
        Tensor packed;
    };
    std::vector<Copy> copies;
};

namespace {

// w's copy of that form, of `bytes` bytes that pack(dst) writes; null when it is asked for the
// first time, but if `at_once`.
template <class Pack>
const void* copy_of(const Tensor& w, const Form& form, int64_t bytes, bool at_once,
                    const Pack& pack) {
    static std::mutex mutex;
    const std::lock_guard lock(mutex);
    Storage& storage = *w.storage();
    if (!storage.packed) storage.packed = std::make_shared<PackedWeights>();
    std::vector<PackedWeights::Copy>& copies = storage.packed->copies;
    auto found = std::find_if(copies.begin(), copies.end(),
                              [&](const auto& copy) { return copy.form == form; });
    if (found == copies.end()) {
        copies.push_back({form, 0, Tensor()});
        if (!at_once) return nullptr;
        found = copies.end() - 1;
    }
    if (!found->packed.defined() || found->version != w.version()) {
        found->packed = Tensor::empty({bytes / 4}, DType::i32, w.device());
        pack(found->packed.raw_ptr());
        found->version = w.version();
    }
    return found->packed.raw_ptr();
}

}  // namespace

PackedMatrix packed_weight(const Tensor& w, Precision precision) {
    if (w.dims() != 2 || !w.is_contiguous())
        throw Error("[packed_weight] got " + w.shape().str() + ", want a contiguous (N, K)");
    const int64_t n = w.size(0), k = w.size(1);
    const void* copy =
        copy_of(w, {w.raw_ptr(), n, k, Form::matrix, static_cast<int>(precision)},
                packed_bytes(precision, k, n), precision != Precision::f32, [&](void* dst) {
                    backend(w.device())
                        .f32.pack_b(precision)(default_context(w.device()), dst, w.ptr<float>(), k,
                                               true, k, n);
                });
    if (!copy) return {};
    return {copy, precision};
}

const void* packed_weight(const Tensor& w, const ConvShape& shape) {
    if (!(w.shape() == Shape{shape.c_out, shape.c_in, shape.kernel}) || !w.is_contiguous())
        throw Error("[packed_weight] got " + w.shape().str() +
                    ", want a contiguous (Cout, Cin, K) of the convolution");
    const KernelTable<float>& table = backend(w.device()).f32;
    if (!table.pack_conv1d) return nullptr;
    const ConvPacking packing = table.conv1d_packing(shape);
    if (packing.bytes == 0) return nullptr;
    return copy_of(
        w, {w.raw_ptr(), shape.c_out, shape.c_in * shape.kernel, Form::convolution, packing.layout},
        packing.bytes, false, [&](void* dst) {
            table.pack_conv1d(default_context(w.device()), dst, w.ptr<float>(), shape);
        });
}

}  // namespace mc
