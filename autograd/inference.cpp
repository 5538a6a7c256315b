#include "autograd/inference.h"

#include "tensor/packed_weight.h"

namespace mc {

namespace {

thread_local const Inference* current = nullptr;
thread_local bool in_full = false;  // an InFull lives

}  // namespace

Inference::Inference(DType products) : products_(products), previous_(current) {
    if (products != DType::f32 && products != DType::bf16 && products != DType::f16)
        throw Error(std::string("[inference] products in ") + name_of(products) +
                    ", want f32, bf16 or f16");
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

DType Inference::products() {
    return current && !in_full ? current->products_ : DType::f32;
}

PackedMatrix Inference::packed(const Tensor& w) {
    if (!current || w.dtype() != DType::f32 || !w.is_contiguous()) return {};
    const DType dtype = products();
    if (dtype == DType::f32 && !backend(w.device()).f32.pack_b_f32) return {};
    return packed_weight(w, dtype);
}

}  // namespace mc
