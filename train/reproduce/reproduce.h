// Recorded runs of the original programs against ours: one runner a kind of case, chosen by the
// case's metadata. A runner builds the model that the case names at its full size, fills the
// weights from their names, runs on the device asked for, and compares everything that is recorded.
//
//     const CaseResult result = reproduce_case("reference/momask_rvq.safetensors", {});
//     for (const CheckRow& row : result.rows) ...          // never throws for a broken case
//
// A new kind is one function and one line of the table in reproduce.cpp.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>

#include "train/reproduce/checks.h"

namespace mc::train {

struct ReproduceOptions {
    DeviceType device = DeviceType::cpu;    // where models compute; what has none is the CPU's
    std::filesystem::path clip_vocabulary;  // bpe_simple_vocab_16e6.txt.gz; empty: look for it
};

struct CaseResult {
    std::string name, kind;  // of the metadata; the file's name where there is none
    std::vector<CheckRow> rows;
    double seconds = 0;
    int64_t count(Verdict verdict) const;
    bool passed() const { return count(Verdict::failed) == 0; }
};

struct CaseKind {
    const char* name;
    void (*run)(Checks& checks);
};
std::span<const CaseKind> case_kinds();
// The kind whose name stands in the case's between underscores or ends ("momask_generate" in
// "momask_generate_2"), the longest of them; null if there is none.
const CaseKind* kind_of(const std::string& case_name);

// A .safetensors case, or the tokenizer's JSON lines (told apart by their first bytes). Whatever
// goes wrong is a failed row.
CaseResult reproduce_case(const std::filesystem::path& path, const ReproduceOptions& options);

// The cases of a folder, sorted by name: *.safetensors and *.jsonl. Error if there are none.
std::vector<std::filesystem::path> cases_in(const std::filesystem::path& folder);

std::string case_table(const CaseResult& result, bool failures_only);  // lines of the table
std::string table_header();
nlohmann::json case_json(const CaseResult& result);

}  // namespace mc::train
