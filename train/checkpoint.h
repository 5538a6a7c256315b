// A training checkpoint: one safetensors file with the weights, the optimiser's moments and buffers
// as tensors, and where the run stands as a JSON document in the metadata.
//
//     RunFolder run("runs/vq");
//     run.make();
//     if (run.can_resume()) state = load_checkpoint(run.latest(), "vq");
//     run.save(state, is_best);
//
// Complete: a run killed at any moment and resumed ends in the same bits as one that was not.
// Atomic: a failed or killed save leaves the old file (AtomicFile).
// The document only ever gains keys, so newer programs read older files; a file of a newer version
// is refused. Names of tensors: model.*, optimizer.m.*, optimizer.v.*, and what a stage adds.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>

#include "tensor/formats/safetensors.h"
#include "tensor/generator.h"

namespace mc::train {

inline constexpr int kCheckpointVersion = 1;

struct GeneratorState {
    uint64_t seed = 0, position = 0;
};
inline GeneratorState state_of(const Generator& g) {
    return {g.seed(), g.position()};
}
inline Generator generator_of(const GeneratorState& s) {
    return Generator(s.seed, s.position);
}

struct Checkpoint {
    std::string stage;  // which trainer wrote it: "moclip", "vq", ...
    nlohmann::json config = nlohmann::json::object();  // all options of the run, resolved
    int64_t epoch = 0;                                 // the one under way, from 0
    int64_t step = 0;      // optimiser steps done since the start of the run
    int64_t position = 0;  // samples already used of this epoch's shuffled data
    // By use: "main" as it is now; "shuffle" as it was before it drew this epoch's order; ...
    std::map<std::string, GeneratorState> generators;
    nlohmann::json schedule = nlohmann::json::object();  // the learning rate's own state
    std::optional<double> best_metric;                   // of the model selection, if there was one
    nlohmann::json extra = nlohmann::json::object();     // what only this stage knows
    NamedTensors tensors;

    // Tensors as PREFIX.NAME, and those of a prefix under their NAME, in the file's order.
    void add(const std::string& prefix, const NamedTensors& named);
    NamedTensors section(const std::string& prefix) const;
    // Error that names the generator if there is none of that use.
    Generator generator(const std::string& use) const;
};

// Error (and no change to the file) if the disk is full or a number is NaN or infinite: a run gone
// wrong does not replace a good checkpoint.
void save_checkpoint(const std::filesystem::path& path, const Checkpoint& checkpoint);

// Tensors borrow the mapped file. Error in one line: not a checkpoint, of another stage, of a newer
// version, missing or mistyped keys (all of them), a tensor with NaN.
Checkpoint load_checkpoint(const std::filesystem::path& path, const std::string& stage);

// What a run writes: latest.safetensors, best.safetensors, log.jsonl.
class RunFolder {
  public:
    explicit RunFolder(std::filesystem::path path) : path_(std::move(path)) {}

    // The folder is there from now on. Error: it cannot be.
    void make() const;
    // The error that make() would throw and one if nothing could be written there; what was not
    // there is not there afterwards.
    void check_can_be_made() const;

    const std::filesystem::path& path() const { return path_; }
    std::filesystem::path latest() const { return path_ / "latest.safetensors"; }
    std::filesystem::path best() const { return path_ / "best.safetensors"; }
    std::filesystem::path log() const { return path_ / "log.jsonl"; }
    bool can_resume() const { return std::filesystem::exists(latest()); }

    // `latest`, and before it `best` if this one is: killed in between, the resumed run comes to
    // the same best again.
    void save(const Checkpoint& checkpoint, bool is_best = false) const;

  private:
    std::filesystem::path path_;
};

// One process at a time trains in a run folder: who holds this. Error: another does, on this
// machine or, where the file system tells, on another. It ends with the object or the process.
class RunClaim {
  public:
    explicit RunClaim(const RunFolder& run);  // whose folder is there
    ~RunClaim();
    RunClaim(const RunClaim&) = delete;
    RunClaim& operator=(const RunClaim&) = delete;

    // Unfinished files that killed processes left behind go, each as large as a checkpoint.
    void clean() const;

  private:
    const RunFolder run_;
    int descriptor_;
};

}  // namespace mc::train
