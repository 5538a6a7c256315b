#include "train/data_parallel.h"

#include <exception>

namespace mc::train {
namespace {

using Parameter = std::pair<std::string, Var*>;

// One value a rank, on each.
std::vector<double> exchanged(double here, Communicator& ranks) {
    const Tensor all = Tensor::zeros({ranks.size()}, DType::f64);
    all.data<double>()[ranks.rank()] = here;
    ranks.all_reduce(all);
    return all.to_vector<double>();
}

// The gradients of `bucket`, `total` elements in all, as one buffer that they are views of from
// then on.
void average_bucket(const std::vector<Var*>& bucket, int64_t total, Communicator& ranks) {
    const GradSlot& like = *bucket.front()->slot();
    const Tensor flat = Tensor::empty({total}, like.dtype, like.device);
    int64_t at = 0;
    for (Var* parameter : bucket) {
        const Tensor part = flat.slice(0, at, at + parameter->numel());
        at += parameter->numel();
        Tensor& grad = parameter->slot()->grad;
        if (grad.defined())
            part.copy_(grad.contiguous().reshape({parameter->numel()}));
        else
            part.fill_(0);
        grad = part.reshape(parameter->shape());
    }
    ranks.all_reduce(flat, Reduction::mean);
}

}  // namespace

void average_gradients(const std::vector<Parameter>& parameters, Communicator& ranks,
                       int64_t bucket_bytes) {
    if (ranks.size() == 1) return;
    const Tensor present = Tensor::zeros({static_cast<int64_t>(parameters.size())}, DType::i64);
    for (size_t i = 0; i < parameters.size(); ++i)
        present.data<int64_t>()[i] = parameters[i].second->grad().defined();
    ranks.all_reduce(present);
    std::vector<Var*> bucket;
    int64_t total = 0;
    const auto flush = [&] {
        if (!bucket.empty()) average_bucket(bucket, total, ranks);
        bucket.clear();
        total = 0;
    };
    for (size_t i = 0; i < parameters.size(); ++i) {
        Var* parameter = parameters[i].second;
        if (present.data<int64_t>()[i] == 0) continue;
        const DType dtype = parameter->dtype();
        const int64_t most = bucket_bytes / static_cast<int64_t>(size_of(dtype));
        if (!bucket.empty() &&
            (bucket.front()->dtype() != dtype || total + parameter->numel() > most))
            flush();
        bucket.push_back(parameter);
        total += parameter->numel();
    }
    flush();
}

void average(std::map<std::string, double>& metrics, Communicator& ranks) {
    if (ranks.size() == 1) return;
    const Tensor values = Tensor::empty({static_cast<int64_t>(metrics.size())}, DType::f64);
    double* at = values.data<double>();
    for (const auto& [key, value] : metrics) *at++ = value;
    ranks.all_reduce(values, Reduction::mean);
    at = values.data<double>();
    for (auto& [key, value] : metrics) value = *at++;
}

bool any(bool here, Communicator& ranks) {
    if (ranks.size() == 1) return here;
    for (const double there : exchanged(here, ranks))
        if (there != 0) return true;
    return false;
}

void want_same(int64_t value, const std::string& error, Communicator& ranks) {
    const Tensor first = Tensor::from_ids({value}, {1});
    ranks.broadcast(first);
    together(ranks, [&] {
        if (first.item<int64_t>() != value) throw Error(error);
    });
}

void alike(Communicator& ranks, const std::function<void()>& work) {
    try {
        work();
    } catch (const std::exception&) {
        ranks.end_together();
        if (!ranks.first()) throw Error("");
        throw;
    }
}

void together(Communicator& ranks, const std::function<void()>& work) {
    if (ranks.size() == 1) return work();
    std::exception_ptr error;
    try {
        work();
    } catch (...) {
        error = std::current_exception();
    }
    ranks.barrier();
    const std::vector<double> failed = exchanged(error != nullptr, ranks);
    for (int r = 0; r < ranks.size(); ++r) {
        if (failed[static_cast<size_t>(r)] == 0) continue;
        ranks.end_together();
        if (r == ranks.rank()) std::rethrow_exception(error);
        throw Error("");
    }
}

}  // namespace mc::train
