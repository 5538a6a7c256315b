// NCCL in a group of one, which one GPU is enough for.
#include <doctest/doctest.h>

#include <string>

#include "tensor/tensor.h"

using namespace mc;

TEST_CASE("nccl: a group of one keeps its values") {
    const CollectiveKernels& nccl = backend(DeviceType::cuda).collective;
    Context& context = default_context(DeviceType::cuda);
    unsigned char id[CollectiveKernels::kIdBytes];
    try {
        nccl.new_id(context, id);
    } catch (const Error& e) {
        MESSAGE("SKIPPED: " << e.what());
        return;
    }
    void* group = nullptr;
    nccl.join(context, &group, id, 0, 1);
    for (const DType dtype : {DType::f32, DType::f64, DType::i64}) {
        const Tensor values = Tensor::full({1000}, 3, dtype).to(DeviceType::cuda);
        nccl.all_reduce(context, group, values.raw_ptr(), 1000, dtype);
        nccl.broadcast(context, group, values.raw_ptr(),
                       1000 * static_cast<int64_t>(size_of(dtype)));
        for (const double x : values.cpu().to(DType::f64).to_vector<double>()) REQUIRE(x == 3);
    }
    const Tensor halves = Tensor::zeros({4}, DType::bf16, DeviceType::cuda);
    CHECK_THROWS_AS(nccl.all_reduce(context, group, halves.raw_ptr(), 4, DType::bf16), Error);
    nccl.leave(context, group);
}
