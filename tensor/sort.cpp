#include "tensor/sort.h"

namespace mc {
namespace {

Tensor sorted(const Tensor& x, bool places) {
    if (x.dims() < 1)
        throw Error("[argsort] got shape " + x.shape().str() + ", want at least one dimension");
    const Tensor rows = x.contiguous(), out = Tensor::empty(x.shape(), DType::i64, x.device());
    const int64_t n = rows.size(-1), count = n > 0 ? rows.numel() / n : 0;
    dispatch_float(rows.dtype(), "argsort", [&](auto zero) {
        using T = decltype(zero);
        int64_t* to = out.ptr<int64_t>();
        backend(rows.device())
            .table<T>()
            .argsort(default_context(rows.device()), places ? nullptr : to, places ? to : nullptr,
                     rows.ptr<T>(), count, n);
    });
    return out;
}

}  // namespace

Tensor argsort(const Tensor& x) {
    return sorted(x, false);
}

Tensor ranks(const Tensor& x) {
    return sorted(x, true);
}

}  // namespace mc
