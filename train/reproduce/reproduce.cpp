#include "train/reproduce/reproduce.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "train/reproduce/runners.h"

namespace mc::train {
namespace {

constexpr CaseKind kKinds[] = {
    {"bad_generate", run_bad_generate},
    {"bad_quantizer_train", run_bad_quantizer_train},
    {"bad_transformer", run_bad_transformer},
    {"bad_vqvae", run_bad_vqvae},
    {"bamm_generate", run_bamm_generate},
    {"bamm_transformer", run_bamm_transformer},
    {"clip_text", run_clip_text},
    {"metrics", run_metrics},
    {"moclip_losses", run_moclip_losses},
    {"moclip_motion", run_moclip_motion},
    {"moclip_train", run_moclip_train},
    {"momask_generate", run_momask_generate},
    {"momask_length_estimator", run_momask_length_estimator},
    {"momask_mask_transformer", run_momask_mask_transformer},
    {"momask_residual_generate", run_momask_residual_generate},
    {"momask_residual_transformer", run_momask_residual_transformer},
    {"momask_rvq", run_momask_rvq},
    {"momask_rvq_train", run_momask_rvq_train},
    {"motion_features", run_motion_features},
    {"schedules", run_schedules},
    {"t2m_evaluator", run_t2m_evaluator},
};

std::string known_kinds() {
    std::string names = "tokenizer";
    for (const CaseKind& kind : kKinds) names += fmt::format(", {}", kind.name);
    return names;
}

void add_failure(CaseResult& result, const std::string& why) {
    CheckRow row;
    row.tensor = "(case)";
    row.verdict = Verdict::failed;
    row.note = why;
    result.rows.push_back(row);
}

bool is_json_lines(const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    return in.get() == '{';
}

void run_recorded(const std::filesystem::path& path, DeviceType device, CaseResult& result) {
    const ReferenceCase recorded(path);
    result.name = recorded.name();
    const CaseKind* kind = kind_of(result.name);
    if (!kind)
        return add_failure(result, fmt::format("no runner for kind {}; there are: {}", result.name,
                                               known_kinds()));
    result.kind = kind->name;
    Checks checks(recorded, device);
    std::string failure;
    try {
        checks.check_fills();
        kind->run(checks);
        checks.finish();
    } catch (const std::exception& error) {
        failure = error.what();
    }
    result.rows = checks.rows();
    if (!failure.empty()) add_failure(result, failure);
}

const char* word(Verdict verdict) {
    return verdict == Verdict::ok ? "ok" : verdict == Verdict::failed ? "FAILED" : "not compared";
}

// A number for JSON, which has no NaN.
nlohmann::json number(double x) {
    if (std::isfinite(x)) return x;
    return std::isnan(x) ? "nan" : x > 0 ? "inf" : "-inf";
}

}  // namespace

int64_t CaseResult::count(Verdict verdict) const {
    return std::count_if(rows.begin(), rows.end(),
                         [&](const CheckRow& row) { return row.verdict == verdict; });
}

std::span<const CaseKind> case_kinds() {
    return kKinds;
}

const CaseKind* kind_of(const std::string& case_name) {
    const CaseKind* best = nullptr;
    const std::string padded = "_" + case_name + "_";
    for (const CaseKind& kind : kKinds) {
        const std::string name = kind.name;
        if (padded.find("_" + name + "_") == std::string::npos) continue;
        if (!best || name.size() > std::string(best->name).size()) best = &kind;
    }
    return best;
}

CaseResult reproduce_case(const std::filesystem::path& path, const ReproduceOptions& options) {
    const auto begin = std::chrono::steady_clock::now();
    CaseResult result;
    result.name = path.stem().string();
    try {
        if (is_json_lines(path))
            result = run_tokenizer(path, options);
        else
            run_recorded(path, options.device, result);
    } catch (const std::exception& error) {
        add_failure(result, error.what());
    }
    const bool compared = std::any_of(result.rows.begin(), result.rows.end(),
                                      [](const CheckRow& r) { return r.tensor != "(case)"; });
    if (!compared && result.passed()) add_failure(result, "nothing in it could be compared");
    result.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return result;
}

std::vector<std::filesystem::path> cases_in(const std::filesystem::path& folder) {
    std::vector<std::filesystem::path> paths;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        const std::string extension = entry.path().extension().string();
        if (extension == ".safetensors" || extension == ".jsonl") paths.push_back(entry.path());
    }
    if (paths.empty())
        throw Error(folder.string() +
                    ": no reference cases (*.safetensors, *.jsonl) there; name another folder");
    std::sort(paths.begin(), paths.end());
    return paths;
}

std::string table_header() {
    return fmt::format("{:<28} {:<52} {:>10} {:>10} {:>10} {:>16}  {}\n", "case", "tensor",
                       "worst abs", "worst rel", "own error", "tolerance", "verdict");
}

std::string case_table(const CaseResult& result, bool failures_only) {
    std::string out;
    for (const CheckRow& row : result.rows) {
        if (failures_only && row.verdict == Verdict::ok) continue;
        std::string tensor = row.tensor;
        if (row.worst != "value") tensor += " (" + row.worst + ")";
        const std::string begin = fmt::format("{:<28} {:<52}", result.name, tensor);
        const char* verdict = word(row.verdict);
        const std::string note = row.note.empty() ? "" : ": " + row.note;
        if (row.count == 0 && row.verdict != Verdict::ok)
            out += fmt::format("{} {}{}\n", begin, verdict, note);
        else if (row.exact)
            out += fmt::format("{} {:>49}  {}{}\n", begin,
                               fmt::format("exact: {} of {} differ", row.different, row.count),
                               verdict, note);
        else
            out +=
                fmt::format("{} {:>10.2e} {:>10.2e} {:>10.2e} {:>16}  {}{}\n", begin, row.absolute,
                            row.relative, row.reference,
                            fmt::format("{:g}x: {:.2e}", row.factor, row.allowed), verdict, note);
    }
    return out + fmt::format("{:<28} {} ok, {} failed, {} not compared ({:.1f} s)\n", result.name,
                             result.count(Verdict::ok), result.count(Verdict::failed),
                             result.count(Verdict::skipped), result.seconds);
}

nlohmann::json case_json(const CaseResult& result) {
    nlohmann::json rows = nlohmann::json::array();
    for (const CheckRow& row : result.rows) {
        nlohmann::json j{{"tensor", row.tensor},
                         {"verdict", row.verdict == Verdict::ok       ? "ok"
                                     : row.verdict == Verdict::failed ? "failed"
                                                                      : "not compared"},
                         {"exact", row.exact}};
        if (row.count > 0) j["count"] = row.count;
        if (row.exact) {
            j["different"] = row.different;
        } else if (row.count > 0) {
            j["worst"] = row.worst;
            j["absolute"] = number(row.absolute);
            j["relative"] = number(row.relative);
            j["reference_error"] = number(row.reference);
            j["factor"] = row.factor;
            j["allowed"] = number(row.allowed);
        }
        if (!row.note.empty()) j["note"] = row.note;
        rows.push_back(std::move(j));
    }
    return {{"case", result.name},
            {"kind", result.kind},
            {"passed", result.passed()},
            {"seconds", result.seconds},
            {"rows", std::move(rows)}};
}

}  // namespace mc::train
