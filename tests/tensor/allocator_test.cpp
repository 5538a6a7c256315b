#include "tensor/allocator.h"

#include <doctest/doctest.h>

#include <cstring>
#include <thread>
#include <vector>

#include "kernels/error.h"

using namespace mc;

TEST_CASE("allocator: 64-byte aligned for every size") {
    for (size_t bytes : {0, 1, 63, 64, 65, 511, 513, 1000, 4097, 1 << 20}) {
        void* data = host_allocate(bytes);
        CHECK(reinterpret_cast<uintptr_t>(data) % 64 == 0);
        if (bytes) std::memset(data, 1, bytes);
        host_free(data, bytes);
    }
}

TEST_CASE("allocator: a freed block serves the next request of its class") {
    host_empty_cache();
    const AllocatorStats before = host_allocator_stats();
    void* first = host_allocate(100'000);
    CHECK(host_allocator_stats().in_use >= before.in_use + 100'000);
    CHECK(host_allocator_stats().in_use <= before.in_use + 112'500);  // at most an eighth wasted
    host_free(first, 100'000);
    CHECK(host_allocator_stats().in_use == before.in_use);
    CHECK(host_allocator_stats().cached >= 100'000);
    void* again = host_allocate(99'500);
    CHECK(again == first);
    CHECK(host_allocator_stats().cached == 0);
    host_free(again, 99'500);
    const AllocatorStats after = host_allocator_stats();
    CHECK(after.requests == before.requests + 2);
    CHECK(after.system_requests == before.system_requests + 1);
    host_empty_cache();
    CHECK(host_allocator_stats().cached == 0);
}

TEST_CASE("allocator: peak follows in_use until it is reset") {
    host_reset_peak();
    const uint64_t base = host_allocator_stats().peak;
    void* data = host_allocate(1 << 20);
    host_free(data, 1 << 20);
    CHECK(host_allocator_stats().peak == base + (1 << 20));
    host_reset_peak();
    CHECK(host_allocator_stats().peak == base);
}

TEST_CASE("allocator: beyond the limit the oldest blocks go back to the system") {
    host_empty_cache();
    const uint64_t limit = host_set_cache_limit(3 << 20);
    void* old = host_allocate(1 << 20);
    void* large = host_allocate(2 << 20);
    void* recent = host_allocate(512 << 10);
    host_free(old, 1 << 20);
    host_free(large, 2 << 20);
    CHECK(host_allocator_stats().cached == 3 << 20);
    host_free(recent, 512 << 10);
    CHECK(host_allocator_stats().cached == (2 << 20) + (512 << 10));  // `old` went
    CHECK(host_set_cache_limit(0) == 3 << 20);
    CHECK(host_allocator_stats().cached == 0);
    host_free(host_allocate(100), 100);
    CHECK(host_allocator_stats().cached == 0);
    host_set_cache_limit(limit);
}

TEST_CASE("allocator: out of memory is an error that says how much was asked") {
    CHECK_THROWS_WITH_AS(host_allocate(size_t{1} << 60),
                         doctest::Contains("out of memory: asked for 1152921504606846976 bytes"),
                         Error);
}

TEST_CASE("allocator: threads share it") {
    const uint64_t before = host_allocator_stats().in_use;
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
        threads.emplace_back([t] {
            for (size_t i = 1; i < 500; ++i) {
                auto* data = static_cast<unsigned char*>(host_allocate(i * 7));
                std::memset(data, t, i * 7);
                for (size_t j = 0; j < i * 7; ++j)
                    if (data[j] != t) throw Error("block shared by two threads");
                host_free(data, i * 7);
            }
        });
    for (auto& thread : threads) thread.join();
    CHECK(host_allocator_stats().in_use == before);
}
