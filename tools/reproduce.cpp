// reproduce: our numbers against recorded runs of the original programs. `reproduce --help` shows
// examples.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tensor/formats/atomic_file.h"
#include "tools/common/cli.h"
#include "tools/common/paths.h"
#include "train/reproduce/reproduce.h"

namespace mc::tools {
namespace {

namespace fs = std::filesystem;

struct Options {
    std::vector<std::string> paths, filters;
    std::string json, vocabulary;
    bool quiet = false;
    CommonOptions common;
};

bool wanted(const fs::path& path, const std::vector<std::string>& filters) {
    const std::string name = path.filename().string();
    return filters.empty() ||
           std::any_of(filters.begin(), filters.end(), [&](const std::string& filter) {
               return name.find(filter) != std::string::npos;
           });
}

std::vector<fs::path> chosen_cases(const Options& options) {
    std::vector<fs::path> all;
    for (const std::string& path : options.paths) {
        if (!fs::is_directory(path)) {
            all.emplace_back(path);
            continue;
        }
        const std::vector<fs::path> found = train::cases_in(path);
        all.insert(all.end(), found.begin(), found.end());
    }
    std::vector<fs::path> chosen;
    for (const fs::path& path : all)
        if (wanted(path, options.filters)) chosen.push_back(path);
    if (chosen.empty()) throw Error("no case matches --filter; leave it out to run all");
    return chosen;
}

int run(const Options& options) {
    train::ReproduceOptions reproduce;
    reproduce.device = apply(options.common);
    reproduce.clip_vocabulary =
        options.vocabulary.empty() ? find_clip_vocabulary() : fs::path(options.vocabulary);
    const std::vector<fs::path> cases = chosen_cases(options);
    const bool table = options.json != "-";
    nlohmann::json report = nlohmann::json::array();
    int64_t failed = 0, agree = 0, compared = 0, skipped = 0;
    if (table) fmt::print("{}", train::table_header());
    for (const fs::path& path : cases) {
        const train::CaseResult result = train::reproduce_case(path, reproduce);
        failed += !result.passed();
        agree += result.passed() && result.count(train::Verdict::ok) > 0;
        compared += result.count(train::Verdict::ok) + result.count(train::Verdict::failed);
        skipped += result.count(train::Verdict::skipped);
        if (table) fmt::print("{}", train::case_table(result, options.quiet));
        std::fflush(stdout);
        report.push_back(train::case_json(result));
        report.back()["file"] = path.string();
    }
    const std::string summary =
        fmt::format("{} of {} cases reproduced, {} comparisons, {} tensors not compared\n", agree,
                    cases.size(), compared, skipped);
    const std::string json = nlohmann::json{{"cases", std::move(report)}, {"failed", failed}}.dump(
                                 1, ' ', false, nlohmann::json::error_handler_t::replace) +
                             "\n";
    if (table)
        fmt::print("{}", summary);
    else
        fmt::print("{}", json);
    if (table && !options.json.empty()) write_text_file(options.json, json);
    return failed > 0 ? 1 : 0;
}

}  // namespace
}  // namespace mc::tools

int main(int argc, char** argv) {
    using namespace mc::tools;
    CLI::App app(
        "Runs recorded cases of the original programs (their inputs and outputs; weights are made "
        "from their names) and compares: every number within a multiple of the original's own "
        "float32 error, every token exactly. Exit status 0: all agree; 1: something does not.",
        "reproduce");
    Options options;
    app.add_option("case", options.paths,
                   "reference cases (.safetensors, or the tokenizer's .jsonl) or folders of them")
        ->required()
        ->check(CLI::ExistingPath);
    app.add_option("--filter", options.filters,
                   "only files whose name contains this; several: any of them");
    app.add_option("--json", options.json, "write the whole report here; - : to standard output");
    app.add_option("--vocab", options.vocabulary,
                   "CLIP's bpe_simple_vocab_16e6.txt.gz for the tokenizer's case [build/clip]")
        ->check(CLI::ExistingFile);
    app.add_flag("--quiet", options.quiet, "print failures and what is not compared alone");
    add_common_options(app, options.common);
    app.footer(
        "Columns: the worst absolute error; the same as a share of the largest recorded "
        "magnitude; the original's own float32 error (its float32 run against its float64 run); "
        "the tolerance, a multiple of that plus two roundings.\n"
        "Examples:\n"
        "  reproduce tests/reference\n"
        "  reproduce tests/reference --filter momask --quiet\n"
        "  reproduce tests/reference --device cuda --quiet\n"
        "  reproduce tests/reference/clip_text.safetensors --json report.json");
    return run_program(app, argc, argv, [&] { return run(options); });
}
