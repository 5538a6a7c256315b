#include "autograd/inference.h"

#include "tensor/packed_weight.h"

namespace mc {

namespace {

thread_local const Inference* current = nullptr;

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

PackedMatrix Inference::packed(const Tensor& w) {
    if (!current || w.device() != DeviceType::cpu || w.dtype() != DType::f32 || !w.is_contiguous())
        return {};
    return packed_weight(w, current->products_);
}

}  // namespace mc
