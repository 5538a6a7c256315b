#include "tools/common/evaluate_facts.h"

#include <fmt/format.h>

#include <filesystem>
#include <system_error>
#include <vector>

#include "kernels/error.h"
#include "motion/fact_checks.h"
#include "motion/strip.h"
#include "tensor/formats/atomic_file.h"
#include "tools/common/cli.h"
#include "tools/common/motion_input.h"
#include "train/fact_score.h"
#include "train/progress.h"

namespace mc::tools {
namespace {

namespace fs = std::filesystem;
using motion::FactCase;
using motion::JointSequence;

std::string motion_name(const FactCase& fact_case, uint64_t seed, const char* extension) {
    return fmt::format("{}_{}{}", fact_case.line, seed, extension);
}

train::MotionSource motions_in(const fs::path& folder) {
    return [folder](std::span<const FactCase> cases, uint64_t seed) {
        std::vector<JointSequence> motions;
        for (const FactCase& c : cases)
            motions.push_back(read_motion(folder / motion_name(c, seed, ".npy")));
        return motions;
    };
}

// The same motions, drawn into `folder` on their way.
train::MotionSource with_strips(train::MotionSource source, const fs::path& folder) {
    return [source = std::move(source), folder](std::span<const FactCase> cases, uint64_t seed) {
        auto motions = source(cases, seed);
        for (size_t i = 0; i < motions.size() && i < cases.size(); ++i)
            motion::write_strip((folder / motion_name(cases[i], seed, ".png")).string(),
                                motions[i]);
        return motions;
    };
}

void make_folder(const fs::path& folder) {
    std::error_code failed;
    fs::create_directories(folder, failed);
    if (failed || !fs::is_directory(folder))
        throw Error(fmt::format("{}: cannot make the folder; choose another", folder.string()));
}

}  // namespace

void add_facts_options(CLI::App& app, FactsOptions& options, CLI::Option* facts) {
    app.add_option("--seeds", options.seeds, "motions a prompt")
        ->check(whole(1, 1000))
        ->capture_default_str();
    app.add_option("--strips", options.strips, "draw every motion into this folder, LINE_SEED.png")
        ->needs(facts);
    app.add_flag("--quiet", options.quiet, "leave out the list of what failed");
}

int evaluate_facts(const FactsOptions& options, const Evaluated& what) {
    const std::vector<FactCase> cases = motion::read_fact_cases(options.facts);
    Bundle bundle;  // lives as long as the source that asks its generator
    train::MotionSource source;
    if (what.motions.empty()) {
        bundle = open_bundle(what.model);
        if (what.seed) bundle.defaults.seed = *what.seed;
        source = train::motions_of(*bundle.generator, bundle.defaults);
    } else {
        source = motions_in(what.motions);
    }
    if (!options.strips.empty()) {
        make_folder(options.strips);
        source = with_strips(std::move(source), options.strips);
    }
    train::Progress progress("facts", options.seeds);
    const train::FactReport report = train::score_facts(
        cases, options.seeds, source, [&](int64_t done, int64_t) { progress.update(done); });
    progress.finish();
    fmt::print("{}", train::fact_table(report, !options.quiet));
    if (!what.json.empty()) write_text_file(what.json, train::fact_json(report).dump(1) + "\n");
    return 0;
}

}  // namespace mc::tools
