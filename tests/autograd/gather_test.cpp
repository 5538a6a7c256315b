#include <cmath>

#include "tests/autograd/autograd_test_util.h"
#include "tests/thread_ranks.h"

using namespace mc;
using mc::testing::run_ranks;

namespace {

// A loss in which every row meets every other.
Var loss_of(const Var& all) {
    return sum(square(matmul(tanh(all), all, false, true)));
}

}  // namespace

TEST_CASE("all_gather: the mean over the ranks of its gradients is the loss's own, in f64") {
    const int64_t rows = 5, columns = 3;
    const Tensor x = testing::random({rows, columns}, 7);
    const auto value_at = [&](int64_t element, double h) {
        const Tensor moved = x.clone();
        moved.data<double>()[element] += h;
        return loss_of(Var(moved)).value().item<double>();
    };
    for (const int size : {1, 2, 3, 5}) {
        CAPTURE(size);
        run_ranks(size, [&](Communicator& ranks) {
            const Share share = ranks.share(rows);
            const Var mine(x.slice(0, share.begin, share.end).clone(), requires_grad);
            Tape tape;
            Tape::Recording recording(tape);
            const Var all = all_gather(mine, share, ranks);
            CHECK(all.value().to_vector<double>() == x.to_vector<double>());
            const Var loss = loss_of(all);
            tape.backward(loss);
            for (int64_t i = 0; i < mine.numel(); ++i) {
                constexpr double h = 1e-3;  // as gradcheck: fourth order, 1e-11 of both errors
                const int64_t e = share.begin * columns + i;
                const double slope = (8 * (value_at(e, h) - value_at(e, -h)) -
                                      (value_at(e, 2 * h) - value_at(e, -2 * h))) /
                                     (12 * h);
                const double got = mine.grad().data<double>()[i] / size;
                CHECK(std::fabs(got - slope) <= 1e-8 + 1e-6 * std::fabs(slope));
            }
        });
    }
}

TEST_CASE("all_gather: constants are gathered without a tape, wrong shares are refused") {
    run_ranks(2, [](Communicator& ranks) {
        const Var all = all_gather(Var(Tensor::full({1, 2}, ranks.rank())),
                                   {ranks.rank(), ranks.rank() + 1, 2}, ranks);
        CHECK_FALSE(all.has_grad_slot());
        CHECK(all.value().to_vector<float>() == std::vector<float>{0, 0, 1, 1});
        CHECK_THROWS_AS(ranks.all_gather(Tensor::zeros({2, 2}), {0, 1, 2}), Error);
        CHECK_THROWS_AS(ranks.all_reduce(Tensor::zeros({2}, DType::boolean)), Error);
        CHECK_THROWS_AS(ranks.all_reduce(Tensor::zeros({2, 3}).transpose(0, 1)), Error);
    });
}

TEST_CASE("communicator: shares, places, sums, draws") {
    run_ranks(3, [](Communicator& ranks) {
        const int r = ranks.rank();
        const Share share = ranks.share(7);
        CHECK(share.size() == (r == 0 ? 2 : r == 1 ? 2 : 3));
        const Share place = ranks.place(r + 1);
        CHECK(place.begin == (r == 0 ? 0 : r == 1 ? 1 : 3));
        CHECK(place.total == 6);
        const Tensor t = Tensor::full({4}, r + 1, DType::f64);
        ranks.all_reduce(t, Reduction::mean);
        CHECK(t.to_vector<double>() == std::vector<double>(4, 2.0));
        const Tensor first = Tensor::full({2}, r);
        ranks.broadcast(first);
        CHECK(first.item<float>({1}) == 0);
        const Generator common(5, 100);
        CHECK(ranks.own(common).position() > 100);
    });
    CHECK(single_process().own(Generator(5, 100)).position() == 100);
    CHECK(single_process().weight({0, 3, 3}) == 1);
}
