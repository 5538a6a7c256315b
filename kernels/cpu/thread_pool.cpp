// A run is published under the mutex and closed under it; a worker takes part only in a run that it
// found open. So the caller waits for workers that have begun, never for one that is still asleep:
// on a busy machine a run costs at most what it costs alone.
#include "kernels/cpu/thread_pool.h"

#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace mc {

namespace {

void pause_briefly() {
#if defined(__x86_64__) || defined(__i386__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// About 50 us before a waiting thread goes to sleep: longer than the gaps between the kernels of a
// step, shorter than anybody notices on a shared machine.
constexpr int kSpins = 2000;

thread_local bool inside_chunk = false;

}  // namespace

struct ThreadPool::State {
    explicit State(int threads) : spins(threads <= hardware_threads() ? kSpins : 0) {
        try {
            for (int i = 1; i < threads; ++i) workers.emplace_back([this] { work(); });
        } catch (...) {
            stop();
            throw;
        }
    }
    ~State() { stop(); }

    static int hardware_threads() { return static_cast<int>(std::thread::hardware_concurrency()); }

    void stop() {
        {
            std::lock_guard lock(mutex);
            stopping = true;
            epoch.fetch_add(1);
        }
        wake.notify_all();
        for (std::thread& worker : workers) worker.join();
    }

    // Takes chunks until none is left.
    void take_chunks() {
        inside_chunk = true;
        for (int64_t chunk; (chunk = next.fetch_add(1, std::memory_order_relaxed)) < chunks;)
            call(chunk);
        inside_chunk = false;
    }

    // Of several exceptions the one of the lowest chunk is kept.
    void call(int64_t chunk) {
        try {
            function(context, chunk);
        } catch (...) {
            std::lock_guard lock(error_mutex);
            if (!error || chunk < error_chunk) {
                error = std::current_exception();
                error_chunk = chunk;
            }
        }
    }

    void work() {
        uint64_t seen = 0;
        for (;;) {
            for (int i = 0; i < spins && epoch.load(std::memory_order_relaxed) == seen; ++i)
                pause_briefly();
            {
                std::unique_lock lock(mutex);
                wake.wait(lock, [&] { return stopping || epoch.load() != seen; });
                if (stopping) return;
                seen = epoch.load();
                if (!open) continue;
                active.fetch_add(1);
            }
            take_chunks();
            {
                std::lock_guard lock(mutex);
                active.fetch_sub(1);
            }
            done.notify_one();
        }
    }

    void run(int64_t count, void (*f)(void*, int64_t), void* argument) {
        {
            std::lock_guard lock(mutex);
            function = f;
            context = argument;
            chunks = count;
            next.store(0, std::memory_order_relaxed);
            error = nullptr;
            open = true;
            epoch.fetch_add(1);
        }
        wake.notify_all();
        take_chunks();
        {
            std::lock_guard lock(mutex);
            open = false;
        }
        for (int i = 0; i < spins && active.load(std::memory_order_relaxed) != 0; ++i)
            pause_briefly();
        std::exception_ptr thrown;
        {
            std::unique_lock lock(mutex);
            done.wait(lock, [&] { return active.load() == 0; });
            thrown = error;
            error = nullptr;
        }
        if (thrown) std::rethrow_exception(thrown);
    }

    const int spins;
    std::mutex caller;  // held for the length of a run: one caller at a time
    std::mutex mutex, error_mutex;
    std::condition_variable wake, done;
    std::atomic<uint64_t> epoch{0};
    std::atomic<int> active{0};
    std::atomic<int64_t> next{0};
    bool open = false, stopping = false;
    void (*function)(void*, int64_t) = nullptr;
    void* context = nullptr;
    int64_t chunks = 0;
    std::exception_ptr error;
    int64_t error_chunk = 0;
    std::vector<std::thread> workers;  // last: they use all of the above
};

namespace {

void run_one_after_another(int64_t chunks, void (*f)(void*, int64_t), void* context) {
    std::exception_ptr error;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        try {
            f(context, chunk);
        } catch (...) {
            if (!error) error = std::current_exception();
        }
    }
    if (error) std::rethrow_exception(error);
}

}  // namespace

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>(threads < 1 ? 1 : threads)) {}

ThreadPool::~ThreadPool() = default;

int ThreadPool::size() const {
    return static_cast<int>(state_->workers.size()) + 1;
}

void ThreadPool::run(int64_t chunks, void (*f)(void*, int64_t), void* context) {
    if (chunks > 1 && !inside_chunk && !state_->workers.empty()) {
        // A second caller from another thread does not wait for the first: it works alone.
        std::unique_lock alone(state_->caller, std::try_to_lock);
        if (alone.owns_lock()) return state_->run(chunks, f, context);
    }
    run_one_after_another(chunks, f, context);
}

}  // namespace mc
