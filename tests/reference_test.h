// What tests against the recorded runs share.
#pragma once

#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>

#include "tests/test_paths.h"
#include "train/reference_case.h"
#include "train/reference_weights.h"

namespace mc::testing {

// The recorded run, or null with a loud message.
inline std::unique_ptr<train::ReferenceCase> recorded_case(const std::string& name) {
    const std::string path = "reference/" + name + ".safetensors";
    if (!have_shared(path)) return nullptr;
    return std::make_unique<train::ReferenceCase>(shared_dir() / path);
}

inline void check_recorded(const train::ReferenceCase& recorded, const std::string& name,
                           const Tensor& ours, double factor = 8) {
    const train::Comparison c = recorded.compare(name, ours, factor);
    CHECK_MESSAGE(c.fits(), c.text());
}

// How many places of a recorded U8 tensor of zeros and ones differ from ours, turned over if
// `inverted`: recordings say what may be attended, our masks what may not.
inline int64_t different_flags(const train::ReferenceCase& recorded, const std::string& name,
                               const Tensor& ours, bool inverted) {
    const SafetensorsEntry* entry = recorded.file().find(name);
    REQUIRE_MESSAGE(entry, name);
    std::ifstream file(recorded.file().path(), std::ios::binary);
    uint64_t header = 0;
    file.read(reinterpret_cast<char*>(&header), 8);
    std::string bytes(entry->end - entry->begin, '\0');
    file.seekg(static_cast<std::streamoff>(8 + header + entry->begin));
    file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    const Tensor flags = ours.contiguous();
    REQUIRE(static_cast<int64_t>(bytes.size()) == flags.numel());
    int64_t different = 0;
    for (int64_t i = 0; i < flags.numel(); ++i)
        different += (bytes[static_cast<size_t>(i)] != 0) != (flags.data<bool>()[i] != inverted);
    return different;
}

// Full-size cases that take longer than everything else together.
inline bool slow_tests() {
    const char* wanted = std::getenv("MOCLIP_SLOW_TESTS");
    if (wanted && std::string(wanted) == "1") return true;
    MESSAGE("SKIPPED: set MOCLIP_SLOW_TESTS=1 for this full-size case");
    return false;
}

// Every gradient that the file has as PREFIX + name, against the parameters'.
inline void check_gradients(const train::ReferenceCase& recorded, const std::string& prefix,
                            nn::Module& model, int64_t wanted, double factor = 8) {
    int64_t found = 0;
    for (auto& [name, parameter] : model.parameters()) {
        const std::string key = prefix + name;
        if (!recorded.has(key) && !recorded.has(key + ".slice")) continue;
        ++found;
        const Tensor grad = parameter->grad().defined()
                                ? parameter->grad()
                                : Tensor::zeros(parameter->shape(), parameter->dtype());
        check_recorded(recorded, key, grad, factor);
    }
    CHECK(found == wanted);
}

}  // namespace mc::testing
