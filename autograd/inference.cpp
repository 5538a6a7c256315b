#include "autograd/inference.h"

#include "tensor/packed_weight.h"

namespace mc {

namespace {

thread_local const Inference* current = nullptr;
thread_local bool in_full = false;  // an InFull lives

}  // namespace

Inference::Inference(Precision products) : products_(products), previous_(current) {
    current = this;
}

Inference::~Inference() {
    current = previous_;
}

Inference::InFull::InFull() : previous_(in_full) {
    in_full = true;
}

Inference::InFull::~InFull() {
    in_full = previous_;
}

Precision Inference::products() {
    return current && !in_full ? current->products_ : Precision::f32;
}

PackedMatrix Inference::packed(const Tensor& w) {
    if (!current || w.dtype() != DType::f32 || !w.is_contiguous()) return {};
    const Precision precision = products();
    if (precision == Precision::f32 && !backend(w.device()).f32.pack_b_f32) return {};
    return packed_weight(w, precision);
}

const void* Inference::packed(const Tensor& w, const ConvShape& shape) {
    if (!current || w.dtype() != DType::f32 || !w.is_contiguous()) return nullptr;
    return packed_weight(w, shape);
}

}  // namespace mc
