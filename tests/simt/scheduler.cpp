// The scheduler. Built without ThreadSanitizer whatever the rest is built with: it is the machine,
// not the program. A stack runs threads one after the other until one of them has to wait on it, so
// kernels without barriers cost no switch at all.
#include "tests/simt/scheduler.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "tests/simt/fiber.h"

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace simt {

namespace {

constexpr size_t kGuardBytes = 256;
constexpr unsigned char kGuardPattern = 0xA7;

enum class State : uint8_t { unstarted, running, at_barrier, in_collective, ended };

struct Thread {
    int stack = -1;
    State state = State::unstarted;
    Collective kind{};
    uint32_t mask = 0;
    unsigned line = 0;
    const char* file = "";
    dim3 index;
    // What ThreadSanitizer is told: `out` carries what this thread did before it waited, `in` what
    // the others did. The last to come joins all `out`s and hands them to all `in`s; one tag for
    // the block would also order a thread that is already at its next barrier, and hide races.
    char out = 0, in = 0;
};

struct Warp {
    uint64_t brought[kWarpSize], result[kWarpSize];
    uint32_t waiting = 0, ended = 0;
};

// Text that owns nothing: what a failing CUDA thread says is abandoned with its stack.
struct Text {
    char c[400];
};

__attribute__((format(printf, 1, 2))) Text text(const char* format, ...) {
    Text t;
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(t.c, sizeof(t.c), format, arguments);
    va_end(arguments);
    return t;
}

class Scheduler {
  public:
    std::string run(const std::function<void()>& body, dim3 grid, dim3 block, size_t shared_bytes);
    void barrier(std::source_location where);
    uint64_t exchange(Collective kind, uint32_t mask, uint64_t bits, int source,
                      std::source_location where);
    void run_threads();  // what a new stack does
    bool inside() const { return current_ >= 0; }
    int lane() const { return current_ % kWarpSize; }
    void* dynamic() { return shared_; }
    void seed(uint64_t value) {
        seed_ = value;
        engine_.seed(value);
    }

  private:
    void run_block(unsigned block);
    void resume(int thread);
    void begin_stack(Stack& from, bool abandon);
    void leave(Stack& from, bool abandon);
    void wait();
    void open_barrier_if_full();
    void settle(int warp);
    void permute();
    void check_shared();
    void forget_threads();
    [[noreturn]] void fail(const Text& what);
    void report_stuck();
    Stack& own_stack() { return stacks_[static_cast<size_t>(threads_[current()].stack)]; }
    size_t current() const { return static_cast<size_t>(current_); }

    std::vector<Thread> threads_;
    std::vector<Warp> warps_;
    std::vector<Stack> stacks_;
    std::vector<void*> tsan_;
    std::vector<int> order_, ready_, free_stacks_;
    int ended_stack_ = -1;  // whose thread ended last: it runs until another one is begun on
    std::vector<unsigned char> shared_block_;
    unsigned char* shared_ = nullptr;
    const std::function<void()>* body_ = nullptr;
    std::string report_;
    size_t shared_bytes_ = 0, next_ = 0;
    int live_ = 0, at_barrier_ = 0, current_ = -1;
    Stack main_;
    void* main_tsan_ = nullptr;
    char begin_tag_ = 0, end_tag_ = 0;
    uint64_t seed_ =
        std::getenv("SIMT_SEED") ? std::strtoull(std::getenv("SIMT_SEED"), nullptr, 10) : 2;
    std::mt19937_64 engine_{seed_};
};

Scheduler& scheduler() {
    static Scheduler s;
    return s;
}

Text place_of(const Thread& t) {
    const char* name = std::strrchr(t.file, '/');
    return text("%.80s:%u", name ? name + 1 : t.file, t.line);
}

void fiber_entry() {
    scheduler().run_threads();
    std::abort();  // run_threads never returns
}

void Scheduler::fail(const Text& what) {
    report_ = text("%.250s (block %u,%u,%u, thread %u,%u,%u)", what.c, blockIdx.x, blockIdx.y,
                   blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z)
                  .c;
    Stack& from = own_stack();
    current_ = -1;
    tsan_release(&end_tag_);
    tsan_switch(main_tsan_);
    switch_stack(from, main_, true);
    std::abort();
}

void Scheduler::report_stuck() {
    int barriers = 0, collectives = 0;
    const Thread *b = nullptr, *c = nullptr;
    for (const Thread& t : threads_) {
        if (t.state == State::at_barrier) ++barriers, b = &t;
        if (t.state == State::in_collective) ++collectives, c = &t;
    }
    const Text at_barrier =
        b ? text(" %d threads wait at the barrier %s", barriers, place_of(*b).c) : text("%s", "");
    const Text in_collective =
        c ? text("%s %d wait in the warp collective %s for lanes that do not come", b ? "," : "",
                 collectives, place_of(*c).c)
          : text("%s", "");
    fail(text("divergence:%.120s%.120s", at_barrier.c, in_collective.c));
}

void Scheduler::resume(int thread) {
    current_ = thread;
    threadIdx = threads_[current()].index;
    threads_[current()].state = State::running;
    if (tsan_present()) tsan_switch(tsan_[current()]);
}

void Scheduler::begin_stack(Stack& from, bool abandon) {
    const int stack = free_stacks_.back();
    free_stacks_.pop_back();
    threads_[static_cast<size_t>(order_[next_])].stack = stack;
    begin_on(stacks_[static_cast<size_t>(stack)], fiber_entry);
    switch_stack(from, stacks_[static_cast<size_t>(stack)], abandon);
}

// Leaves the running stack for a thread that can go on, or for the launcher when none is left.
void Scheduler::leave(Stack& from, bool abandon) {
    if (!ready_.empty()) {
        const int thread = ready_.back();
        ready_.pop_back();
        resume(thread);
        switch_stack(from, own_stack(), abandon);
    } else if (next_ < order_.size()) {
        begin_stack(from, abandon);
    } else if (live_ == 0) {
        current_ = -1;
        tsan_switch(main_tsan_);
        switch_stack(from, main_, abandon);
    } else {
        report_stuck();
    }
}

void Scheduler::run_threads() {
    entered(main_);
    const int stack = threads_[static_cast<size_t>(order_[next_])].stack;
    do {
        const int thread = order_[next_++];
        Thread& t = threads_[static_cast<size_t>(thread)];
        t.stack = stack;
        resume(thread);
        tsan_acquire(&begin_tag_);
        (*body_)();
        tsan_release(&t.out);
        tsan_release(&end_tag_);
        t.state = State::ended;
        warps_[static_cast<size_t>(thread / kWarpSize)].ended |= 1u << (thread % kWarpSize);
        --live_;
        open_barrier_if_full();
        settle(thread / kWarpSize);
        // To ThreadSanitizer a stack belongs to one thread.
    } while (!tsan_present() && next_ < order_.size());
    if (ended_stack_ >= 0) free_stacks_.push_back(ended_stack_);
    ended_stack_ = stack;
    leave(stacks_[static_cast<size_t>(stack)], true);
    std::abort();
}

void Scheduler::wait() {
    const int self = current_;
    Thread& me = threads_[current()];
    if (!ready_.empty() && ready_.back() == self) {  // the last to come goes on at once
        ready_.pop_back();
        me.state = State::running;
    } else if (next_ < order_.size()) {
        begin_stack(own_stack(), false);
    } else {
        leave(own_stack(), false);
    }
    tsan_acquire(&me.in);
}

void Scheduler::open_barrier_if_full() {
    if (at_barrier_ == 0 || at_barrier_ != live_) return;
    const Thread* first = nullptr;
    for (Thread& t : threads_) {
        if (t.state != State::at_barrier) continue;
        if (!first) first = &t;
        if (t.line != first->line || t.file != first->file)
            fail(text("divergent barrier: threads of one block wait at %s and at %s",
                      place_of(*first).c, place_of(t).c));
    }
    for (Thread& t : threads_) tsan_acquire(&t.out);
    for (int i : order_) {
        Thread& t = threads_[static_cast<size_t>(i)];
        if (t.state != State::at_barrier) continue;
        t.state = State::running;
        tsan_release(&t.in);
        ready_.push_back(i);
    }
    at_barrier_ = 0;
}

// Completes the collectives of a warp whose lanes have all come.
void Scheduler::settle(int warp_index) {
    Warp& warp = warps_[static_cast<size_t>(warp_index)];
    const size_t base = static_cast<size_t>(warp_index) * kWarpSize;
    for (uint32_t left = warp.waiting; left != 0;) {
        const Thread& t = threads_[base + static_cast<size_t>(__builtin_ctz(left))];
        const uint32_t mask = t.mask;
        if (mask & warp.ended)
            fail(text("the mask of the warp collective %s names a lane that has ended or never was",
                      place_of(t).c));
        left &= ~mask;
        if ((mask & warp.waiting) != mask) continue;
        for (uint32_t m = mask; m != 0; m &= m - 1) {
            const int lane = __builtin_ctz(m);
            Thread& other = threads_[base + static_cast<size_t>(lane)];
            if (other.mask != mask || other.kind != t.kind)
                fail(text("lanes of one mask meet in different warp collectives: %s and %s",
                          place_of(t).c, place_of(other).c));
            tsan_acquire(&other.out);
            warp.result[lane] = warp.brought[lane];
            ready_.push_back(static_cast<int>(base) + lane);
        }
        for (uint32_t m = mask; m != 0; m &= m - 1)
            tsan_release(&threads_[base + static_cast<size_t>(__builtin_ctz(m))].in);
        warp.waiting &= ~mask;
    }
}

void Scheduler::barrier(std::source_location where) {
    Thread& me = threads_[current()];
    me.state = State::at_barrier;
    me.line = where.line();
    me.file = where.file_name();
    tsan_release(&me.out);
    ++at_barrier_;
    open_barrier_if_full();
    wait();
}

uint64_t Scheduler::exchange(Collective kind, uint32_t mask, uint64_t bits, int source,
                             std::source_location where) {
    const int self = current_, my_lane = self % kWarpSize;
    Thread& me = threads_[current()];
    Warp& warp = warps_[static_cast<size_t>(self / kWarpSize)];
    me.line = where.line();
    me.file = where.file_name();
    if (!(mask >> my_lane & 1))
        fail(text("a lane called the warp collective %s whose mask leaves it out", place_of(me).c));
    me.state = State::in_collective;
    me.kind = kind;
    me.mask = mask;
    warp.brought[my_lane] = bits;
    warp.waiting |= 1u << my_lane;
    tsan_release(&me.out);
    settle(self / kWarpSize);
    // Whoever completes the collective goes on first: wait() looks at the last of `ready_`.
    const auto it = std::find(ready_.rbegin(), ready_.rend(), self);
    if (it != ready_.rend()) std::iter_swap(it, ready_.rbegin());
    wait();
    if (kind == Collective::ballot) {
        uint64_t votes = 0;
        for (uint32_t m = mask; m != 0; m &= m - 1)
            votes |= (warp.result[__builtin_ctz(m)] & 1) << __builtin_ctz(m);
        return votes;
    }
    if (kind == Collective::sync) return 0;
    if (!(mask >> source & 1))
        fail(text("the shuffle %s reads from a lane outside its mask", place_of(me).c));
    return warp.result[source];
}

void Scheduler::permute() {
    std::iota(order_.begin(), order_.end(), 0);
    if (seed_ == 0) return;
    if (seed_ == 1) return std::reverse(order_.begin(), order_.end());
    std::shuffle(order_.begin(), order_.end(), engine_);
}

void Scheduler::check_shared() {
    if (asan_present()) return;  // it has seen more
    const auto touched = [](unsigned char c) { return c != kGuardPattern; };
    const unsigned char* end = shared_ + shared_bytes_;
    if (std::any_of(shared_ - kGuardBytes, shared_, touched) ||
        std::any_of(end, end + kGuardBytes, touched))
        report_ = text("a write outside dynamic shared memory (block %u,%u,%u)", blockIdx.x,
                       blockIdx.y, blockIdx.z)
                      .c;
}

// What the threads that a failure has left did before they waited is over: to ThreadSanitizer their
// stacks are new memory, and so are they.
void Scheduler::forget_threads() {
    for (Thread& t : threads_) tsan_acquire(&t.out);
    for (void* fiber : tsan_) tsan_destroy(fiber);
    tsan_.clear();
}

void Scheduler::run_block(unsigned block) {
    blockIdx =
        dim3(block % gridDim.x, block / gridDim.x % gridDim.y, block / gridDim.x / gridDim.y);
    const size_t n = order_.size();
    if (shared_bytes_ > 0)  // NaN for whoever reads before it writes
        std::memset(shared_, 0xff, shared_bytes_);
    for (size_t t = 0; t < n; ++t) {
        threads_[t].state = State::unstarted;
        threads_[t].stack = -1;
    }
    for (Warp& warp : warps_) warp.waiting = warp.ended = 0;
    if (n % kWarpSize) warps_.back().ended = ~0u << (n % kWarpSize);
    next_ = 0;
    live_ = static_cast<int>(n);
    at_barrier_ = 0;
    ready_.clear();
    tsan_release(&begin_tag_);
    begin_stack(main_, false);
    tsan_acquire(&end_tag_);
    if (!report_.empty()) forget_threads();
    if (shared_bytes_ > 0 && report_.empty()) check_shared();
}

std::string Scheduler::run(const std::function<void()>& body, dim3 grid, dim3 block,
                           size_t shared_bytes) {
    const size_t n = size_t{block.x} * block.y * block.z;
    body_ = &body;
    report_.clear();
    blockDim = block;
    gridDim = grid;
    main_ = Stack();
    main_tsan_ = tsan_current();
    threads_.assign(n, Thread{});
    for (size_t t = 0; t < n; ++t)
        threads_[t].index =
            dim3(static_cast<unsigned>(t) % block.x, static_cast<unsigned>(t) / block.x % block.y,
                 static_cast<unsigned>(t) / (block.x * block.y));
    warps_.assign((n + kWarpSize - 1) / kWarpSize, Warp{});
    order_.resize(n);
    // All that the scheduler needs is allocated here, on the launching thread: an allocation made
    // by one CUDA thread and freed by another would look like a race.
    ready_.reserve(n);
    while (stacks_.size() < n + 1) stacks_.push_back(make_stack());
    while (tsan_present() && tsan_.size() < n) tsan_.push_back(tsan_create());
    free_stacks_.resize(stacks_.size());
    std::iota(free_stacks_.begin(), free_stacks_.end(), 0);
    ended_stack_ = -1;
    shared_bytes_ = shared_bytes;
    unpoison(shared_block_.data(), shared_block_.size());
    shared_block_.assign(shared_bytes + 2 * kGuardBytes, kGuardPattern);
    shared_ = shared_block_.data() + kGuardBytes;
    poison(shared_block_.data(), kGuardBytes);
    poison(shared_ + shared_bytes, kGuardBytes);
    permute();
    const unsigned blocks = grid.x * grid.y * grid.z;
    const unsigned turn = seed_ > 1 ? static_cast<unsigned>(engine_() % blocks) : 0;
    for (unsigned i = 0; i < blocks && report_.empty(); ++i) {
        run_block(seed_ == 1 ? blocks - 1 - i : (i + turn) % blocks);
        if (seed_ > 1)  // another order for the next block, cheaply
            std::rotate(order_.begin(), order_.begin() + (n > 1 ? 1 : 0), order_.end());
    }
    current_ = -1;
    return report_;
}

}  // namespace

void set_seed(uint64_t seed) {
    scheduler().seed(seed);
}
std::string run_grid(const std::function<void()>& body, dim3 grid, dim3 block,
                     size_t shared_bytes) {
    return scheduler().run(body, grid, block, shared_bytes);
}
bool inside_kernel() {
    return scheduler().inside();
}
void barrier(std::source_location where) {
    scheduler().barrier(where);
}
uint64_t exchange(Collective kind, uint32_t mask, uint64_t bits, int source,
                  std::source_location where) {
    return scheduler().exchange(kind, mask, bits, source, where);
}
int lane() {
    return scheduler().lane();
}
void* dynamic_shared() {
    return scheduler().dynamic();
}

}  // namespace simt
