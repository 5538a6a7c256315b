// Two processes with a GPU each, emulated both (on real ones: make check-gpu).
#include <doctest/doctest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>

#include "autograd/ops.h"
#include "tests/shared_meeting.h"
#include "train/data_parallel.h"
#include "train/processes.h"

using namespace mc;

namespace {

using mc::testing::SharedMeeting;

class ForkedRank : public Communicator {
  public:
    ForkedRank(int rank, SharedMeeting* meeting) : Communicator(rank, 2), meeting_(meeting) {}

  protected:
    void sum_over_ranks(const Tensor& t) override {
        const auto count = static_cast<size_t>(t.numel());
        if (t.dtype() == DType::i64)
            meeting_->sum(t.data<int64_t>(), count, rank(), size());
        else
            meeting_->sum(t.data<double>(), count, rank(), size());
    }
    void copy_from_first(const Tensor& t) override {
        meeting_->copy_from_first(t.raw(), static_cast<size_t>(t.numel()) * size_of(t.dtype()),
                                  rank(), size());
    }
    void wait_for_all() override { meeting_->meet(size()); }

  private:
    SharedMeeting* meeting_;
};

// The loss of all rows, and its gradient at w: each of the ranks has its share of them.
std::vector<double> loss_and_gradient(Communicator& ranks, DeviceType device) {
    const Tensor x = Generator(1).normal({5, 3}, 0, 1, DType::f64).to(device);
    const Var w(Generator(2).normal({4, 3}, 0, 1, DType::f64).to(device), requires_grad);
    const Share share = ranks.share(5);
    Tape tape;
    Tape::Recording recording(tape);
    const Var mine = tanh(linear(Var(x.slice(0, share.begin, share.end).contiguous()), w, {}));
    const Var all = all_gather(mine, share, ranks);
    const Var loss = sum(square(matmul(all, all, false, true)));
    tape.backward(loss);
    Var copy = w;
    train::average_gradients({{"w", &copy}}, ranks);
    std::vector<double> out = w.grad().to_vector<double>();
    out.push_back(loss.value().item<double>());
    const Tensor first = Tensor::full({2}, ranks.rank() + 1, DType::f64, device);
    ranks.broadcast(first);
    out.push_back(first.to_vector<double>()[1]);
    return out;
}

bool as_one(Communicator& ranks) {
    const std::vector<double> want = loss_and_gradient(single_process(), DeviceType::cpu),
                              got = loss_and_gradient(ranks, DeviceType::cuda);
    bool same = got.size() == want.size();
    // f64, sums of some ten terms in another order
    for (size_t i = 0; same && i < want.size(); ++i)
        same = std::fabs(got[i] - want[i]) <= 1e-12 * (1 + std::fabs(want[i]));
    return same;
}

}  // namespace

TEST_CASE("nccl: two processes have the gradient of one") {
    void* shared = ::mmap(nullptr, sizeof(SharedMeeting), PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(shared != MAP_FAILED);
    auto* meeting = static_cast<SharedMeeting*>(shared);
    const auto work = [&](int rank) {
        const auto ranks = train::with_nccl(std::make_unique<ForkedRank>(rank, meeting));
        return as_one(*ranks);
    };
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        bool good = false;
        try {
            good = work(1);
        } catch (...) {
        }
        ::_exit(good ? 0 : 1);
    }
    CHECK(work(0));
    int status = 0;
    ::waitpid(child, &status, 0);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
    ::munmap(shared, sizeof(SharedMeeting));
}
