// evaluate: how good motions are. `evaluate --help` shows examples.
#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "kernels/error.h"
#include "models/bundle.h"
#include "motion/fact_checks.h"
#include "motion/facts.h"
#include "motion/features.h"
#include "motion/strip.h"
#include "tensor/formats/atomic_file.h"
#include "tensor/formats/npy.h"
#include "tools/common/cli.h"
#include "tools/common/motion_input.h"
#include "tools/common/paths.h"
#include "train/fact_score.h"
#include "train/progress.h"

namespace mc::tools {
namespace {

namespace fs = std::filesystem;
using motion::FactCase;
using motion::JointSequence;

// Joints (N, 22, 3) as they are, or the joints of feature rows (N, 263).
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

struct Options {
    std::string facts, motions, bundle, measured, json, strips;
    int64_t seeds = 3;
    std::optional<int64_t> seed;
    bool list = false, quiet = false;
    CommonOptions common;
};

void list_facts() {
    for (const motion::FactInfo& f : motion::known_facts())
        fmt::print("{:<24} {:<8} {}\n", f.name, f.unit, f.meaning);
}

void measure(const fs::path& path) {
    const motion::MotionFacts facts = motion::measure_facts(read_motion(path), path.string());
    for (const motion::FactInfo& f : motion::known_facts())
        fmt::print("{:<24} {:>9.3f} {}\n", f.name, facts.at(f.name), f.unit);
}

int score(const Options& options) {
    const std::vector<FactCase> cases = motion::read_fact_cases(options.facts);
    Bundle bundle;  // lives as long as the source that asks its generator
    train::MotionSource source;
    if (options.motions.empty()) {
        bundle = load_bundle(options.bundle.empty() ? default_bundle() : fs::path(options.bundle));
        if (options.seed) bundle.defaults.seed = static_cast<uint64_t>(*options.seed);
        source = train::motions_of(*bundle.generator, bundle.defaults);
    } else {
        source = motions_in(options.motions);
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
    if (!options.json.empty())
        write_text_file(options.json, train::fact_json(report).dump(1) + "\n");
    return 0;
}

int run(const Options& options) {
    apply(options.common);
    if (options.list) {
        list_facts();
    } else if (!options.measured.empty()) {
        measure(options.measured);
    } else {
        return score(options);
    }
    return 0;
}

}  // namespace
}  // namespace mc::tools

int main(int argc, char** argv) {
    using namespace mc::tools;
    CLI::App app("Measures motions, and scores generators against what their prompts say.",
                 "evaluate");
    Options options;
    auto* what = app.add_option_group("what", "one of");
    auto* facts = what->add_option("--facts", options.facts,
                                   "score on prompts with checks, JSON lines (pretrained/facts)");
    what->add_option("--measure", options.measured, "print the facts of one motion (.npy)");
    what->add_flag("--list-facts", options.list, "print all facts with their meaning");
    what->require_option(1);
    auto* bundle =
        app.add_option("--bundle", options.bundle, "score this model bundle [pretrained/default]");
    bundle->needs(facts);
    app.add_option("--motions", options.motions,
                   "score a folder of motions instead: LINE_SEED.npy, a prompt's line in the file "
                   "from 1 and a seed from 0; joints (N, 22, 3) or features (N, 263)")
        ->needs(facts)
        ->excludes(bundle);
    app.add_option("--seeds", options.seeds, "motions a prompt")
        ->check(CLI::Range(int64_t{1}, int64_t{1000}))
        ->capture_default_str();
    app.add_option("--seed", options.seed, "the generator's first seed [the bundle's]")
        ->check(CLI::Range(int64_t{0}, std::numeric_limits<int64_t>::max()));
    app.add_option("--json", options.json, "write the whole report here")->needs(facts);
    app.add_option("--strips", options.strips, "draw every motion into this folder, LINE_SEED.png")
        ->needs(facts);
    app.add_flag("--quiet", options.quiet, "leave out the list of what failed");
    add_common_options(app, options.common);
    app.footer(
        "Examples:\n"
        "  evaluate --facts pretrained/facts/facts.jsonl\n"
        "  evaluate --facts pretrained/facts/facts.jsonl --bundle out/bundle --json report.json\n"
        "  evaluate --facts pretrained/facts/facts.jsonl --motions takes --strips look\n"
        "  evaluate --measure takes/1_0.npy\n"
        "  evaluate --list-facts");
    return run_program(app, argc, argv, [&] { return run(options); });
}
