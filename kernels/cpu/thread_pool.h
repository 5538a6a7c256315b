// The one thread pool. Work is cut by the caller into chunks whose number depends on the problem
// alone; which thread runs which chunk is open, so a chunk must write only what is its own.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace mc {

class ThreadPool {
  public:
    explicit ThreadPool(int threads);  // >= 1; the caller counts as one
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int size() const;

    // Calls f(context, chunk) for chunk = 0..chunks-1, returns when all are done. Not nested: a
    // call from inside a chunk runs its chunks one after another. An exception in a chunk is
    // rethrown here after the others have finished.
    void run(int64_t chunks, void (*f)(void*, int64_t), void* context);

    template <class F>
    void for_chunks(int64_t chunks, F&& f) {
        run(
            chunks,
            [](void* p, int64_t chunk) { (*static_cast<std::remove_reference_t<F>*>(p))(chunk); },
            &f);
    }

    // f(begin, end) over [0, n) in chunks of `grain` (the last one shorter).
    template <class F>
    void for_ranges(int64_t n, int64_t grain, F&& f) {
        if (n <= 0) return;
        if (grain < 1) grain = 1;
        for_chunks((n + grain - 1) / grain, [&](int64_t chunk) {
            const int64_t begin = chunk * grain;
            f(begin, begin + grain < n ? begin + grain : n);
        });
    }

  private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace mc
