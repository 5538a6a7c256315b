// Several ranks in one process, for tests: a thread each, with tensors on the CPU.
//
//     run_ranks(2, [&](Communicator& ranks) { ... });
//
// What a rank throws ends the others at their next meeting, and comes out of run_ranks: that of the
// lowest rank that threw by itself.
#pragma once

#include <condition_variable>
#include <cstring>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "tensor/communicator.h"

namespace mc::testing {

class ThreadRank : public Communicator {
  public:
    struct Left : Error {
        Left() : Error("another rank has left") {}
    };
    struct Meeting {
        explicit Meeting(int n) : size(n), posted(static_cast<size_t>(n)) {}
        const int size;
        std::vector<Tensor> posted;
        std::mutex mutex;
        std::condition_variable all_here;
        int here = 0;
        uint64_t round = 0;
        bool left = false;

        void meet() {
            std::unique_lock lock(mutex);
            const uint64_t mine = round;
            if (++here == size) {
                here = 0;
                ++round;
                all_here.notify_all();
            }
            all_here.wait(lock, [&] { return left || round != mine; });
            if (round == mine) throw Left();
        }
        void leave() {
            const std::lock_guard lock(mutex);
            left = true;
            all_here.notify_all();
        }
    };
    ThreadRank(int rank, Meeting& meeting) : Communicator(rank, meeting.size), meeting_(meeting) {}

  protected:
    void sum_over_ranks(const Tensor& values) override {
        post(values);
        const Tensor sum = meeting_.posted[0].clone();
        for (size_t r = 1; r < meeting_.posted.size(); ++r) add(sum, meeting_.posted[r]);
        meeting_.meet();
        std::memcpy(values.raw(), sum.raw(), bytes(values));
    }
    void copy_from_first(const Tensor& values) override {
        post(values);
        const Tensor first = meeting_.posted[0].clone();
        meeting_.meet();
        std::memcpy(values.raw(), first.raw(), bytes(values));
    }
    void wait_for_all() override { meeting_.meet(); }

  private:
    void post(const Tensor& values) {
        meeting_.posted[static_cast<size_t>(rank())] = values;
        meeting_.meet();
        for (const Tensor& other : meeting_.posted)
            if (!(other.shape() == values.shape()) || other.dtype() != values.dtype())
                throw Error("ranks meet with " + other.shape().str() + " and " +
                            values.shape().str());
    }
    static size_t bytes(const Tensor& t) {
        return static_cast<size_t>(t.numel()) * size_of(t.dtype());
    }
    static void add(const Tensor& sum, const Tensor& values) {
        const auto add_as = [&](auto zero) {
            using T = decltype(zero);
            for (int64_t i = 0; i < sum.numel(); ++i) sum.data<T>()[i] += values.data<T>()[i];
        };
        if (sum.dtype() == DType::i64)
            add_as(int64_t{});
        else
            dispatch_float(sum.dtype(), "test", add_as);
    }
    Meeting& meeting_;
};

inline void run_ranks(int size, const std::function<void(Communicator&)>& work) {
    ThreadRank::Meeting meeting(size);
    std::vector<std::exception_ptr> errors(static_cast<size_t>(size));
    std::vector<std::thread> threads;
    for (int r = 0; r < size; ++r)
        threads.emplace_back([&, r] {
            ThreadRank rank(r, meeting);
            try {
                work(rank);
            } catch (const ThreadRank::Left&) {
            } catch (...) {
                errors[static_cast<size_t>(r)] = std::current_exception();
                meeting.leave();
            }
        });
    for (std::thread& thread : threads) thread.join();
    for (const std::exception_ptr& error : errors)
        if (error) std::rethrow_exception(error);
}

}  // namespace mc::testing
