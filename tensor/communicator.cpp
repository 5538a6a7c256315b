#include "tensor/communicator.h"

namespace mc {
namespace {

constexpr uint64_t kStreamsOfARank = uint64_t{1} << 22;

void check(const char* op, const Tensor& values) {
    if (!values.is_contiguous())
        throw Error(std::string("[") + op + "] " + values.shape().str() + " is not contiguous");
    const DType dtype = values.dtype();
    if (dtype != DType::f32 && dtype != DType::f64 && dtype != DType::i64)
        throw Error(std::string("[") + op + "] got " + name_of(dtype) +
                    ", want f32, f64 or i64; convert with to()");
}

}  // namespace

Communicator& single_process() {
    static SingleProcess one;
    return one;
}

Generator Communicator::own(const Generator& common) const {
    const uint64_t beyond = size_ == 1 ? 0 : kStreamsOfARank * (static_cast<uint64_t>(rank_) + 1);
    return Generator(common.seed(), common.position() + beyond);
}

Share Communicator::place(int64_t mine) {
    std::vector<int64_t> counts(static_cast<size_t>(size_));
    counts[static_cast<size_t>(rank_)] = mine;
    const Tensor all = Tensor::from_ids(counts, {size_});
    all_reduce(all);
    Share share{};
    for (int r = 0; r < size_; ++r) {
        if (r == rank_) share.begin = share.total;
        share.total += all.data<int64_t>()[r];
    }
    share.end = share.begin + mine;
    return share;
}

void Communicator::all_reduce(const Tensor& values, Reduction reduction) {
    check("all_reduce", values);
    if (size_ == 1) return;
    values.bump_version();
    sum_over_ranks(values);
    if (reduction == Reduction::sum) return;
    dispatch_float(values.dtype(), "all_reduce", [&](auto zero) {
        using T = decltype(zero);
        T* data = values.ptr<T>();
        backend(values.device())
            .table<T>()
            .affine(default_context(values.device()), data, data, T(1.0 / size_), T(0),
                    values.numel());
    });
}

Tensor Communicator::all_gather(const Tensor& rows, const Share& share) {
    check("all_gather", rows);
    if (rows.size(0) != share.size())
        throw Error("[all_gather] got " + rows.shape().str() + " for a share of " +
                    std::to_string(share.size()) + " rows");
    if (size_ == 1) return rows;
    Shape shape = rows.shape();
    shape[0] = share.total;
    const Tensor all = Tensor::zeros(shape, rows.dtype(), rows.device());
    all.slice(0, share.begin, share.end).copy_(rows);
    all_reduce(all);
    return all;
}

void Communicator::broadcast(const Tensor& values) {
    check("broadcast", values);
    if (size_ == 1) return;
    values.bump_version();
    copy_from_first(values);
}

void Communicator::barrier() {
    if (size_ > 1) wait_for_all();
}

}  // namespace mc
