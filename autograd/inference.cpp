#include "autograd/inference.h"

#include "tensor/packed_weight.h"

namespace mc {

namespace {

thread_local const Inference* current = nullptr;
thread_local bool in_full = false;  // an InFull lives

}  // namespace

Inference::Inference(DType products) : products_(products), previous_(current) {
    if (products != DType::f32 && products != DType::bf16)
        throw Error(std::string("[inference] products in ") + name_of(products) +
                    ", want f32 or bf16");
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

PackedMatrix Inference::packed(const Tensor& w) {
    if (!current || w.device() != DeviceType::cpu || w.dtype() != DType::f32 || !w.is_contiguous())
        return {};
    return packed_weight(w, in_full ? DType::f32 : current->products_);
}

}  // namespace mc
