// One function a reader of the tree: it takes any bytes, and may answer with an Error and nothing
// else. The same functions run under libFuzzer (entry.cpp; `make fuzz`) and, on the seeds and on
// simple damage to them, as an ordinary test (fuzz_test.cpp).
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

namespace mc::fuzz {

struct Target {
    std::string_view name;                    // and folder of its seeds
    void (*run)(std::span<const std::byte>);  // throws what is no Error if the reader is wrong
};

const std::vector<Target>& targets();

}  // namespace mc::fuzz
