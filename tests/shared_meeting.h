// A meeting of several processes in memory that they share, zeros at first: what tests have in
// place of MPI's and NCCL's networks.
#pragma once

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <vector>

namespace mc::testing {

struct SharedMeeting {
    static constexpr int kRanks = 4;
    static constexpr size_t kSlot = 1 << 16;

    std::atomic<int> here, round;
    alignas(64) std::byte slot[kRanks][kSlot];

    void meet(int size) {
        const int mine = round.load();
        if (here.fetch_add(1) + 1 == size) {
            here.store(0);
            round.fetch_add(1);
        }
        while (round.load() == mine) sched_yield();
    }

    // In the order of the ranks, so the same on each.
    template <class T>
    void sum(T* data, size_t count, int rank, int size) {
        for (size_t at = 0; at < count; at += kSlot / sizeof(T)) {
            const size_t n = std::min(kSlot / sizeof(T), count - at);
            std::memcpy(slot[rank], data + at, n * sizeof(T));
            meet(size);
            std::fill_n(data + at, n, T{});
            for (int r = 0; r < size; ++r)
                for (size_t i = 0; i < n; ++i)
                    data[at + i] += reinterpret_cast<const T*>(slot[r])[i];
            meet(size);
        }
    }

    void copy_from_first(void* data, size_t bytes, int rank, int size) {
        for (size_t at = 0; at < bytes; at += kSlot) {
            const size_t n = std::min(kSlot, bytes - at);
            std::byte* part = static_cast<std::byte*>(data) + at;
            if (rank == 0) std::memcpy(slot[0], part, n);
            meet(size);
            if (rank != 0) std::memcpy(part, slot[0], n);
            meet(size);
        }
    }
};

}  // namespace mc::testing
