#include "tensor/allocator.h"

#include <doctest/doctest.h>

#include <cstring>
#include <thread>
#include <vector>

#include "kernels/error.h"

using namespace mc;

constexpr auto kCpu = DeviceType::cpu;

TEST_CASE("allocator: 64-byte aligned for every size") {
    for (size_t bytes : {0, 1, 63, 64, 65, 511, 513, 1000, 4097, 1 << 20}) {
        void* data = allocate(kCpu, bytes);
        CHECK(reinterpret_cast<uintptr_t>(data) % 64 == 0);
        if (bytes) std::memset(data, 1, bytes);
        release(kCpu, data, bytes);
    }
}

TEST_CASE("allocator: a freed block serves the next request of its class") {
    empty_cache(kCpu);
    const AllocatorStats before = allocator_stats(kCpu);
    void* first = allocate(kCpu, 100'000);
    CHECK(allocator_stats(kCpu).in_use >= before.in_use + 100'000);
    CHECK(allocator_stats(kCpu).in_use <= before.in_use + 112'500);  // at most an eighth wasted
    release(kCpu, first, 100'000);
    CHECK(allocator_stats(kCpu).in_use == before.in_use);
    CHECK(allocator_stats(kCpu).cached >= 100'000);
    void* again = allocate(kCpu, 99'500);
    CHECK(again == first);
    CHECK(allocator_stats(kCpu).cached == 0);
    release(kCpu, again, 99'500);
    const AllocatorStats after = allocator_stats(kCpu);
    CHECK(after.requests == before.requests + 2);
    CHECK(after.system_requests == before.system_requests + 1);
    empty_cache(kCpu);
    CHECK(allocator_stats(kCpu).cached == 0);
}

TEST_CASE("allocator: peak follows in_use until it is reset") {
    reset_peak(kCpu);
    const uint64_t base = allocator_stats(kCpu).peak;
    void* data = allocate(kCpu, 1 << 20);
    release(kCpu, data, 1 << 20);
    CHECK(allocator_stats(kCpu).peak == base + (1 << 20));
    reset_peak(kCpu);
    CHECK(allocator_stats(kCpu).peak == base);
}

TEST_CASE("allocator: beyond the limit the oldest blocks go back to the system") {
    empty_cache(kCpu);
    const uint64_t limit = set_cache_limit(kCpu, 3 << 20);
    void* old = allocate(kCpu, 1 << 20);
    void* large = allocate(kCpu, 2 << 20);
    void* recent = allocate(kCpu, 512 << 10);
    release(kCpu, old, 1 << 20);
    release(kCpu, large, 2 << 20);
    CHECK(allocator_stats(kCpu).cached == 3 << 20);
    release(kCpu, recent, 512 << 10);
    CHECK(allocator_stats(kCpu).cached == (2 << 20) + (512 << 10));  // `old` went
    CHECK(set_cache_limit(kCpu, 0) == 3 << 20);
    CHECK(allocator_stats(kCpu).cached == 0);
    release(kCpu, allocate(kCpu, 100), 100);
    CHECK(allocator_stats(kCpu).cached == 0);
    set_cache_limit(kCpu, limit);
}

TEST_CASE("allocator: a request takes the smallest block that is at most a quarter too large") {
    empty_cache(kCpu);
    const AllocatorStats before = allocator_stats(kCpu);
    void *small = allocate(kCpu, 80 << 20), *large = allocate(kCpu, 128 << 20);
    release(kCpu, large, 128 << 20);
    release(kCpu, small, 80 << 20);
    void* fits = allocate(kCpu, 70 << 20);
    CHECK(fits == small);
    CHECK(allocator_stats(kCpu).in_use == before.in_use + (80 << 20));
    void* other = allocate(kCpu, 70 << 20);  // the other block is more than a quarter larger
    CHECK(other != large);
    release(kCpu, fits, 70 << 20);
    release(kCpu, other, 70 << 20);
    CHECK(allocator_stats(kCpu).in_use == before.in_use);
    CHECK(allocator_stats(kCpu).system_requests == before.system_requests + 3);
    empty_cache(kCpu);
}

TEST_CASE("allocator: requests of ever other sizes do not pile blocks up") {
    empty_cache(kCpu);
    uint64_t held = 0;
    for (size_t mib = 64; mib <= 512; mib += 8) {  // never written: only addresses are taken
        release(kCpu, allocate(kCpu, mib << 20), mib << 20);
        const AllocatorStats stats = allocator_stats(kCpu);
        held = std::max(held, stats.in_use + stats.cached);
    }
    // All of them are 16 GiB; the most in use at once a class above 512 MiB, and what others hold.
    CHECK(held <= (uint64_t{700} << 20) + allocator_stats(kCpu).in_use);
    empty_cache(kCpu);
}

TEST_CASE("allocator: out of memory is an error that says how much was asked") {
    CHECK_THROWS_WITH_AS(
        allocate(kCpu, size_t{1} << 60),
        doctest::Contains("out of memory on cpu: asked for 1152921504606846976 bytes"), Error);
}

TEST_CASE("allocator: threads share it") {
    const uint64_t before = allocator_stats(kCpu).in_use;
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
        threads.emplace_back([t] {
            for (size_t i = 1; i < 500; ++i) {
                auto* data = static_cast<unsigned char*>(allocate(kCpu, i * 7));
                std::memset(data, t, i * 7);
                for (size_t j = 0; j < i * 7; ++j)
                    if (data[j] != t) throw Error("block shared by two threads");
                release(kCpu, data, i * 7);
            }
        });
    for (auto& thread : threads) thread.join();
    CHECK(allocator_stats(kCpu).in_use == before);
}
