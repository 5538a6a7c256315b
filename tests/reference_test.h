// What tests against the recorded runs share.
#pragma once

#include <doctest/doctest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "tensor/formats/safetensors.h"
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

// Runs a case as ./reproduce does. `skipped`: how many recorded tensors are known not to be
// compared; any other number is a failure, so that nothing drops out unseen.
inline void check_case_at(const std::filesystem::path& path, int64_t skipped = 0,
                          DeviceType device = DeviceType::cpu) {
    train::ReproduceOptions options;
    options.device = device;
    const auto vocabulary = shared_dir() / "data/CLIP/bpe_simple_vocab_16e6.txt.gz";
    if (std::filesystem::exists(vocabulary)) options.clip_vocabulary = vocabulary;
    const train::CaseResult result = train::reproduce_case(path, options);
    for (const train::CheckRow& row : result.rows)
        CHECK_MESSAGE(row.verdict != train::Verdict::failed,
                      path.filename().string() << ": " << row.tensor << ": " << row.note);
    CHECK(result.count(train::Verdict::skipped) == skipped);
    CHECK(result.count(train::Verdict::ok) > 0);
}

// A recorded case by its file's name.
inline void check_case(const std::string& file, int64_t skipped = 0,
                       DeviceType device = DeviceType::cpu) {
    const auto path = reference_file(file);
    if (!path.empty()) check_case_at(path, skipped, device);
}

// Of a recorded case with several modes ("output.MODE.final_ids") these alone: for cases that take
// long.
inline void check_modes(const std::string& file, const std::vector<std::string>& modes) {
    const auto path = reference_file(file);
    if (path.empty()) return;
    const SafetensorsFile whole(path);
    NamedTensors kept;
    for (const SafetensorsEntry& entry : whole.entries()) {
        bool wanted = !entry.name.starts_with("output.");
        for (const std::string& mode : modes)
            wanted = wanted || entry.name.starts_with("output." + mode + ".");
        if (wanted) kept.push_back({entry.name, whole.get(entry.name)});
    }
    const ScratchDir dir;
    write_safetensors(dir.path / file, kept, whole.metadata());
    check_case_at(dir.path / file);
}

// Full-size cases that take longer than everything else together.
inline bool slow_tests() {
    const char* wanted = std::getenv("MOCLIP_SLOW_TESTS");
    if (wanted && std::string(wanted) == "1") return true;
    MESSAGE("SKIPPED: set MOCLIP_SLOW_TESTS=1 for this full-size case");
    return false;
}

}  // namespace mc::testing
