// The processes of a data-parallel run, as those that train see them: each has a rank, and all of
// them make the same calls in the same order.
//
//     Communicator& ranks = stage.ranks();
//     const Share mine = ranks.share(batch);          // this rank's rows of a batch of all
//     ranks.all_reduce(gradient, Reduction::mean);    // the same bits on every rank
//
// One process is a run of one rank (single_process()), for which nothing is done. train/processes.h
// makes the others: MPI for tensors on the CPU, NCCL for those on GPUs.
#pragma once

#include "tensor/generator.h"
#include "tensor/tensor.h"

namespace mc {

enum class Reduction { sum, mean };

// Rows [begin, end) of `total`.
struct Share {
    int64_t begin, end, total;
    int64_t size() const { return end - begin; }
};

class Communicator {
  public:
    Communicator(int rank, int size) : rank_(rank), size_(size) {}
    virtual ~Communicator() = default;
    Communicator(const Communicator&) = delete;
    Communicator& operator=(const Communicator&) = delete;

    int rank() const { return rank_; }
    int size() const { return size_; }
    bool first() const { return rank_ == 0; }  // who writes files and says what happened

    // This rank's part of n rows: parts follow each other by rank and differ by one row at most.
    Share share(int64_t n) const { return {n * rank_ / size_, n * (rank_ + 1) / size_, n}; }
    // The same of rows that each rank has already, `mine` of them here.
    Share place(int64_t mine);
    // What a mean over this rank's rows counts: the mean over the ranks of weight * mean is the
    // mean over all rows.
    double weight(const Share& share) const {
        return static_cast<double>(share.size() * size_) / static_cast<double>(share.total);
    }
    // For draws that differ by rank (dropout): each has 2^22 streams beyond those that all ranks
    // draw from `common`. A single process goes on where `common` stands.
    Generator own(const Generator& common) const;

    // In place, over all ranks, and then the same on each. Contiguous f32 or f64 (i64: the sum
    // alone) of one shape and dtype.
    void all_reduce(const Tensor& values, Reduction reduction = Reduction::sum);
    // Every rank's rows (share.size(), ...) as one tensor (share.total, ...) on each. Made of an
    // all-reduce of rows set in zeros: shares may differ in size, for which NCCL has no gather.
    Tensor all_gather(const Tensor& rows, const Share& share);
    // What rank 0 has, to all.
    void broadcast(const Tensor& values);
    // Until every rank is here. Waits asleep where it can: a rank may be long (validation).
    void barrier();

    // All ranks are about to end, and each will wait for the others once it has said why. Without
    // this, a process that ends takes the others down, as one must that failed alone.
    virtual void end_together() {}

  protected:
    // The values are contiguous; never called in a run of one rank.
    virtual void sum_over_ranks(const Tensor& values) = 0;
    virtual void copy_from_first(const Tensor& values) = 0;
    virtual void wait_for_all() = 0;

  private:
    int rank_, size_;
};

class SingleProcess : public Communicator {
  public:
    SingleProcess() : Communicator(0, 1) {}

  protected:
    void sum_over_ranks(const Tensor&) override {}
    void copy_from_first(const Tensor&) override {}
    void wait_for_all() override {}
};
Communicator& single_process();

}  // namespace mc
