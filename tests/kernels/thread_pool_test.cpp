#include "kernels/cpu/thread_pool.h"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/workspace.h"
#include "kernels/cuda.h"

using namespace mc;

TEST_CASE("thread pool: every chunk runs once, whatever the numbers") {
    for (int threads : {1, 2, 3, 5}) {
        ThreadPool pool(threads);
        CHECK(pool.size() == threads);
        for (int64_t chunks : {0, 1, 2, 7, 1000}) {
            std::vector<std::atomic<int>> count(static_cast<size_t>(chunks) + 1);
            pool.for_chunks(chunks, [&](int64_t c) { ++count[static_cast<size_t>(c)]; });
            for (int64_t c = 0; c < chunks; ++c) CHECK(count[static_cast<size_t>(c)] == 1);
        }
    }
}

TEST_CASE("thread pool: many short runs in a row") {
    ThreadPool pool(3);
    int64_t total = 0;
    for (int round = 0; round < 2000; ++round) {
        std::atomic<int64_t> sum{0};
        pool.for_chunks(4, [&](int64_t c) { sum += c + 1; });
        total += sum;
    }
    CHECK(total == 20000);
}

TEST_CASE("thread pool: ranges cover [0, n) and the last is shorter") {
    ThreadPool pool(2);
    std::vector<int> hits(103, 0);
    pool.for_ranges(103, 10, [&](int64_t begin, int64_t end) {
        CHECK(end - begin == (begin == 100 ? 3 : 10));
        for (int64_t i = begin; i < end; ++i) ++hits[static_cast<size_t>(i)];
    });
    for (int h : hits) CHECK(h == 1);
    pool.for_ranges(0, 10, [](int64_t, int64_t) { FAIL("no range in nothing"); });
}

TEST_CASE("thread pool: an exception arrives after the others finished; the pool goes on") {
    for (int threads : {1, 2, 4}) {
        ThreadPool pool(threads);
        std::atomic<int> ran{0};
        std::string what;
        try {
            pool.for_chunks(50, [&](int64_t c) {
                ++ran;
                if (c == 7 || c == 30) throw std::runtime_error("chunk " + std::to_string(c));
            });
        } catch (const std::runtime_error& e) {
            what = e.what();
        }
        CHECK(what == "chunk 7");
        CHECK(ran == 50);
        ran = 0;
        pool.for_chunks(5, [&](int64_t) { ++ran; });
        CHECK(ran == 5);
    }
}

// Waits until `flag` is set, but not for good: whoever should set it may not come.
bool waited_for(const std::atomic<bool>& flag, std::chrono::seconds most) {
    const auto end = std::chrono::steady_clock::now() + most;
    while (!flag && std::chrono::steady_clock::now() < end) std::this_thread::yield();
    return flag;
}

TEST_CASE("thread pool: of two exceptions the lower chunk's arrives, whichever was first") {
    ThreadPool pool(2);
    std::atomic<bool> thrown{false};
    std::string what;
    try {
        pool.for_chunks(2, [&](int64_t c) {
            if (c == 0) waited_for(thrown, std::chrono::seconds(5));
            thrown = true;
            throw std::runtime_error("chunk " + std::to_string(c));
        });
    } catch (const std::runtime_error& e) {
        what = e.what();
    }
    CHECK(what == "chunk 0");
}

TEST_CASE("thread pool: the others take part in every run of a caller") {
    ThreadPool pool(2);
    for (int round = 0; round < 3; ++round) {
        std::atomic<bool> begun{false};
        bool together = false;
        pool.for_chunks(2, [&](int64_t c) {
            if (c == 0)
                together = waited_for(begun, std::chrono::seconds(60));
            else
                begun = true;
        });
        REQUIRE(together);
    }
}

TEST_CASE("thread pool: many more threads than processors") {
    ThreadPool pool(200);
    CHECK(pool.size() == 200);
    for (int64_t chunks : {1, 2, 199, 1000}) {
        std::atomic<int64_t> sum{0};
        pool.for_chunks(chunks, [&](int64_t c) { sum += c + 1; });
        CHECK(sum == chunks * (chunks + 1) / 2);
    }
}

TEST_CASE("thread pool: a nested run is serial and complete") {
    ThreadPool pool(2);
    std::atomic<int> ran{0};
    pool.for_chunks(4, [&](int64_t) {
        const auto self = std::this_thread::get_id();
        pool.for_chunks(8, [&](int64_t) {
            CHECK(std::this_thread::get_id() == self);
            ++ran;
        });
    });
    CHECK(ran == 32);
}

TEST_CASE("thread pool: callers from several threads") {
    ThreadPool pool(2);
    std::atomic<int> ran{0};
    std::vector<std::thread> callers;
    for (int t = 0; t < 3; ++t)
        callers.emplace_back([&] {
            for (int i = 0; i < 100; ++i) pool.for_chunks(8, [&](int64_t) { ++ran; });
        });
    for (auto& c : callers) c.join();
    CHECK(ran == 3 * 100 * 8);
}

TEST_CASE("workspace: aligned, stable, reused") {
    Workspace workspace;
    {
        Loan<float> a(workspace, 100);
        a[99] = 5;
        Loan<double> big(workspace, 1 << 20);
        Loan<char> nothing(workspace, 0);
        Loan<double> c(workspace, 3);
        std::memset(big.data(), 1, sizeof(double) << 20);
        CHECK(reinterpret_cast<uintptr_t>(a.data()) % 64 == 0);
        CHECK(reinterpret_cast<uintptr_t>(big.data()) % 64 == 0);
        CHECK(reinterpret_cast<uintptr_t>(c.data()) % 64 == 0);
        CHECK(a[99] == 5);
    }
    const size_t peak = workspace.peak_bytes();
    void* first = workspace.push(peak);  // all in one block now
    workspace.pop(peak);
    CHECK(workspace.push(64) == first);
    workspace.pop(64);
    CHECK(workspace.peak_bytes() == peak);
}

TEST_CASE("workspace: loans at every depth keep their contents") {
    Workspace workspace;
    for (int round = 0; round < 3; ++round) {
        std::vector<std::pair<unsigned char*, size_t>> loans;
        for (size_t i = 0; i < 40; ++i) {
            const size_t bytes = (i * 7919 + static_cast<size_t>(round)) % 300000;
            auto* p = static_cast<unsigned char*>(workspace.push(bytes));
            std::memset(p, static_cast<int>(i), bytes);
            loans.emplace_back(p, bytes);
            if (i % 5 == 4) {
                workspace.pop(loans.back().second);
                loans.pop_back();
            }
        }
        while (!loans.empty()) {
            auto [p, bytes] = loans.back();
            for (size_t b = 1; b < bytes; ++b) REQUIRE(p[b] == p[0]);
            workspace.pop(bytes);
            loans.pop_back();
        }
    }
}

TEST_CASE("context: the pool keeps its address when its size changes") {
    Context& context = default_context(DeviceType::cpu);
    const int before = num_threads();
    ThreadPool* pool = context.pool;
    set_num_threads(3);
    CHECK(num_threads() == 3);
    CHECK(default_context(DeviceType::cpu).pool == pool);
    CHECK(context.pool->size() == 3);
    set_num_threads(before);
    CHECK_THROWS_AS(set_num_threads(0), Error);
    CHECK(device_available(DeviceType::cpu));
}

TEST_CASE("a missing kernel names operation, dtype and device") {
    if (cuda_available()) return;
    Context& context = default_context(DeviceType::cpu);
    Backend& none = cuda_backend();
    CHECK_FALSE(none.f64.matmul);
    try {
        none.f64.matmul(context, {});
        FAIL("must throw");
    } catch (const Error& e) {
        const std::string what = e.what();
        CHECK(what.find("matmul") != std::string::npos);
        CHECK(what.find("f64") != std::string::npos);
        CHECK(what.find("cuda") != std::string::npos);
    }
    CHECK_THROWS_AS(default_context(DeviceType::cuda), Error);
}
