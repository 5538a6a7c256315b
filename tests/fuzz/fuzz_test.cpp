// Without libFuzzer: every seed as it is, cut short, with changed bytes, and with parts doubled.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "tests/fuzz/targets.h"
#include "tests/test_paths.h"

namespace fs = std::filesystem;
using namespace mc;

namespace {

constexpr size_t kMaxVariants = 60;  // of each kind and seed: some milliseconds each seed

void run(const fuzz::Target& target, const std::string& bytes) {
    // An own copy of the exact size, so that AddressSanitizer sees reads beyond it.
    const auto view = std::as_bytes(std::span(bytes));
    const std::vector<std::byte> copy(view.begin(), view.end());
    target.run(copy);
}

}  // namespace

TEST_CASE("fuzz: the seeds of every target, and simple damage to them") {
    for (const fuzz::Target& target : fuzz::targets()) {
        const fs::path folder = testing::source_dir() / "tests/fuzz/seeds" / target.name;
        int seeds = 0;
        for (const auto& entry : fs::directory_iterator(folder)) {
            INFO(entry.path().string());
            ++seeds;
            std::ifstream in(entry.path(), std::ios::binary);
            const std::string seed{std::istreambuf_iterator<char>(in), {}};
            CHECK(seed.size() < 20000);
            run(target, seed);
            const size_t step = seed.size() / kMaxVariants + 1;
            for (size_t at = 0; at < seed.size(); at += step) {
                run(target, seed.substr(0, at));
                run(target, seed.substr(0, at) + seed.substr(at / 2));
                for (const char flip : {'\x01', '\x80', '\xff'}) {
                    std::string changed = seed;
                    changed[at] = static_cast<char>(changed[at] ^ flip);
                    run(target, changed);
                }
            }
        }
        INFO(folder.string());
        CHECK(seeds > 0);
    }
}

TEST_CASE("fuzz: bytes that are nothing") {
    for (const fuzz::Target& target : fuzz::targets()) {
        INFO(target.name);
        run(target, "");
        for (const std::string part : {"\0", "\xff", "[", "{\"a\":", "(", "\n"})
            for (const size_t count : {1u, 30u, 30000u}) {
                std::string bytes;
                while (bytes.size() < count) bytes += part.empty() ? std::string(1, '\0') : part;
                run(target, bytes);
            }
    }
}
