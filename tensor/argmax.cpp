#include "tensor/argmax.h"

namespace mc {

Tensor argmax(const Tensor& x) {
    if (x.dims() < 1 || x.size(-1) < 1)
        throw Error("[argmax] got shape " + x.shape().str() + ", want rows of at least one value");
    const Tensor rows = x.contiguous();
    const int64_t classes = rows.size(-1), count = rows.numel() / classes;
    Shape shape;
    for (int i = 0; i + 1 < rows.dims(); ++i) shape.push_back(rows.size(i));
    const Tensor ids = Tensor::empty(shape, DType::i64, rows.device()),
                 greatest = Tensor::empty(shape, rows.dtype(), rows.device());
    dispatch_float(rows.dtype(), "argmax", [&](auto zero) {
        using T = decltype(zero);
        backend(rows.device())
            .table<T>()
            .max(default_context(rows.device()), greatest.ptr<T>(), ids.ptr<int64_t>(),
                 rows.ptr<T>(), count, classes, 1);
    });
    return ids;
}

}  // namespace mc
