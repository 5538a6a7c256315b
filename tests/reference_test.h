// What tests against the recorded runs share.
#pragma once

#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>

#include "tests/test_paths.h"
#include "train/reference_weights.h"
#include "train/reproduce/reproduce.h"

namespace mc::testing {

// A file of the recorded cases: in the tree, or beside it in the shared folder; empty, with a loud
// message, if it is in neither.
inline std::filesystem::path reference_file(const std::string& name) {
    const auto own = source_dir() / "tests/reference" / name;
    if (std::filesystem::exists(own)) return own;
    return have_shared("reference/" + name) ? shared_dir() / "reference" / name
                                            : std::filesystem::path();
}

// Runs a recorded case as ./reproduce does. `skipped`: how many recorded tensors are known not to
// be compared; any other number is a failure, so that nothing drops out unseen.
inline void check_case(const std::string& file, int64_t skipped = 0) {
    const auto path = reference_file(file);
    if (path.empty()) return;
    train::ReproduceOptions options;
    const auto vocabulary = shared_dir() / "data/CLIP/bpe_simple_vocab_16e6.txt.gz";
    if (std::filesystem::exists(vocabulary)) options.clip_vocabulary = vocabulary;
    const train::CaseResult result = train::reproduce_case(path, options);
    for (const train::CheckRow& row : result.rows)
        CHECK_MESSAGE(row.verdict != train::Verdict::failed,
                      file << ": " << row.tensor << ": " << row.note);
    CHECK(result.count(train::Verdict::skipped) == skipped);
    CHECK(result.count(train::Verdict::ok) > 0);
}

// Piece by piece, for what no runner compares: the recorded run, or null with a loud message.
inline std::unique_ptr<train::ReferenceCase> recorded_case(const std::string& name) {
    const auto path = reference_file(name + ".safetensors");
    return path.empty() ? nullptr : std::make_unique<train::ReferenceCase>(path);
}

inline void check_recorded(const train::ReferenceCase& recorded, const std::string& name,
                           const Tensor& ours, double factor = train::kReferenceFactor) {
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

// Every gradient that the file has as PREFIX + name, against the parameters'.
inline void check_gradients(const train::ReferenceCase& recorded, const std::string& prefix,
                            nn::Module& model, int64_t wanted,
                            double factor = train::kReferenceFactor) {
    int64_t found = 0;
    for (auto& [name, parameter] : model.parameters()) {
        const std::string key = prefix + name;
        if (!recorded.recorded(key)) continue;
        ++found;
        const Tensor grad = parameter->grad().defined()
                                ? parameter->grad()
                                : Tensor::zeros(parameter->shape(), parameter->dtype());
        check_recorded(recorded, key, grad, factor);
    }
    CHECK(found == wanted);
}

// Full-size cases that take longer than everything else together.
inline bool slow_tests() {
    const char* wanted = std::getenv("MOCLIP_SLOW_TESTS");
    if (wanted && std::string(wanted) == "1") return true;
    MESSAGE("SKIPPED: set MOCLIP_SLOW_TESTS=1 for this full-size case");
    return false;
}

}  // namespace mc::testing
