// A run is published and closed by one atomic number, the ticket; a worker takes part only in a run
// that it found open. So the caller waits for workers that have begun, never for one that is still
// asleep: on a busy machine a run costs at most what it costs alone.
//
// Each thread has a share of the chunks, a range, and the same part of the whole in every run: rows
// that it wrote in one kernel are in its own cache in the next. Who is done helps the others.
#include "kernels/cpu/thread_pool.h"

#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
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
    explicit State(int threads)
        : spins(threads <= hardware_threads() ? kSpins : 0), shares(static_cast<size_t>(threads)) {
        try {
            for (size_t i = 1; i < shares.size(); ++i) workers.emplace_back([this, i] { work(i); });
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
            ticket.fetch_add(kEpoch);
        }
        wake.notify_all();
        for (std::thread& worker : workers) worker.join();
    }

    // Takes the chunks of one's own share, then what others have left of theirs.
    void take_chunks(size_t self) {
        inside_chunk = true;
        for (size_t i = 0; i < shares.size(); ++i) {
            Share& share = shares[(self + i) % shares.size()];
            for (int64_t chunk;
                 (chunk = share.next.fetch_add(1, std::memory_order_relaxed)) < share.end;)
                call(chunk);
        }
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

    static uint64_t epoch(uint64_t t) { return t / kEpoch; }
    static bool active(uint64_t t) { return t % kOpen != 0; }

    void work(size_t self) {
        uint64_t seen = 0;
        for (;;) {
            for (int i = 0; i < spins && epoch(ticket.load()) == seen; ++i) pause_briefly();
            uint64_t t = ticket.load();
            if (epoch(t) == seen) {
                std::unique_lock lock(mutex);
                sleeping.fetch_add(1);
                wake.wait(lock, [&] { return epoch(t = ticket.load()) != seen; });
                sleeping.fetch_sub(1);
            }
            seen = epoch(t);
            while ((t & kOpen) && epoch(t) == seen)
                if (ticket.compare_exchange_weak(t, t + 1)) {
                    take_chunks(self);
                    ticket.fetch_sub(1);
                    if (waiting.load()) {
                        { std::lock_guard lock(mutex); }
                        done.notify_one();
                    }
                    break;
                }
            if (stopping.load()) return;
        }
    }

    void run(int64_t count, void (*f)(void*, int64_t), void* argument) {
        function = f;
        context = argument;
        error = nullptr;
        const int64_t parts = static_cast<int64_t>(shares.size());
        const int64_t each = count / parts, longer = count % parts;
        int64_t begin = 0;
        for (int64_t i = 0; i < parts; ++i) {
            Share& share = shares[static_cast<size_t>(i)];
            share.next.store(begin, std::memory_order_relaxed);
            share.end = begin += each + (i < longer);
        }
        // Nobody takes part now, so nobody else writes the ticket.
        ticket.store((epoch(ticket.load()) + 1) * kEpoch + kOpen);
        if (sleeping.load() > 0) {
            { std::lock_guard lock(mutex); }
            wake.notify_all();
        }
        take_chunks(0);
        ticket.fetch_and(~kOpen);
        for (int i = 0; i < spins && active(ticket.load()); ++i) pause_briefly();
        if (active(ticket.load())) {
            std::unique_lock lock(mutex);
            waiting.store(true);
            done.wait(lock, [&] { return !active(ticket.load()); });
            waiting.store(false);
        }
        if (error) std::rethrow_exception(std::exchange(error, nullptr));
    }

    // A ticket is the number of the run, whether it is open, and how many workers take part in it.
    static constexpr uint64_t kEpoch = uint64_t{1} << 32, kOpen = uint64_t{1} << 31;
    // Chunks [next, end): a thread's own, in a cache line of its own.
    struct alignas(64) Share {
        std::atomic<int64_t> next{0};
        int64_t end = 0;
    };

    const int spins;
    std::mutex caller;  // held for the length of a run: one caller at a time
    // What is written before and read after in another thread: all sequentially consistent.
    std::atomic<uint64_t> ticket{0};
    std::atomic<int> sleeping{0};      // workers that wait for a run
    std::atomic<bool> waiting{false};  // the caller waits for workers
    std::atomic<bool> stopping{false};
    std::mutex mutex, error_mutex;
    std::condition_variable wake, done;
    void (*function)(void*, int64_t) = nullptr;
    void* context = nullptr;
    std::exception_ptr error;
    int64_t error_chunk = 0;
    std::vector<Share> shares;         // the caller's, then the workers'
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
