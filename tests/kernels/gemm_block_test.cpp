// What the matrix product fetches ahead (a mistake there changes no result, only its time), and how
// it cuts rows.
#include "kernels/cpu/gemm_block.h"

#include <doctest/doctest.h>

#include <set>
#include <vector>

using namespace mc;

TEST_CASE("fetch: every line of every row, in the steps that there are") {
    constexpr int64_t kRows = 32, kLine = 64;
    for (int64_t bytes : {64, 384, 1024, 1536})
        for (int64_t steps : {32 * 24, 2 * 384 * 3, 6 * 384, 12 * 384, 12 * 384 + 7})
            for (int64_t row_stride : {bytes, bytes + 64, int64_t{16512}}) {
                CAPTURE(bytes);
                CAPTURE(steps);
                CAPTURE(row_stride);
                const std::vector<char> memory(static_cast<size_t>(kRows * row_stride + 8192));
                const Fetch fetch = Fetch::rows(memory.data(), kRows, bytes, row_stride, steps);
                std::set<int64_t> lines;
                FetchWalk walk(fetch);
                for (int64_t i = 0; i < steps / kRows * kRows; ++i, walk.step())
                    lines.insert((walk.at - memory.data()) / kLine);
                int64_t missed = 0;
                for (int64_t row = 0; row < kRows; ++row)
                    for (int64_t at = 0; at < bytes; at += kLine)
                        missed += !lines.contains((row * row_stride + at) / kLine);
                CHECK(missed == 0);
            }
}

TEST_CASE("fetch: to skip steps is to walk them") {
    const std::vector<char> memory(1 << 16);
    for (const Fetch& fetch :
         {Fetch::line(memory.data(), 19), Fetch::rows(memory.data(), 5, 1536, 4096, 5 * 7),
          Fetch::rows(memory.data(), 5, 64, 128, 3), Fetch::rows(memory.data(), 3, 96, 32, 9)})
        for (int64_t before : {0, 3, 7})
            for (int64_t steps = 0; steps < 24; ++steps) {
                Fetch skipped = fetch;
                skipped.skip(before);
                FetchWalk walk(skipped);
                for (int64_t i = 0; i < steps; ++i) walk.step();
                Fetch twice = skipped;
                twice.skip(steps);
                CHECK(twice.at == walk.at);
                CHECK(twice.left == walk.left);
            }
}

template <bool kEven>
static void check_blocks() {
    for (int64_t rows = 1; rows <= 100; ++rows) {
        CAPTURE(rows);
        const RowBlocks<12, kEven> blocks(rows);
        CHECK(blocks.count == (rows + 11) / 12);
        CHECK(blocks.begin(0) == 0);
        CHECK(blocks.begin(blocks.count) == rows);
        for (int64_t block = 0; block < blocks.count; ++block) {
            const int64_t height = blocks.height(block);
            CHECK(height > 0);
            CHECK(height <= 12);
            if (kEven)
                CHECK(height >= rows / blocks.count);
            else
                CHECK(blocks.begin(block) == 12 * block);
        }
    }
}

TEST_CASE("register blocks cover the rows, evenly or full ones") {
    check_blocks<true>();
    check_blocks<false>();
}
