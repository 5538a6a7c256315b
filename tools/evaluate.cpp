// evaluate: how good motions are. `evaluate --help` shows examples.
// Exit status: 0 done, 1 failed (one line on the error output), 2 wrong usage.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "kernels/error.h"
#include "models/bundle.h"
#include "motion/fact_checks.h"
#include "motion/facts.h"
#include "motion/features.h"
#include "motion/motion_file.h"
#include "motion/strip.h"
#include "tensor/formats/atomic_file.h"
#include "tensor/formats/npy.h"
#include "tools/common/cli.h"
#include "tools/common/paths.h"
#include "train/fact_score.h"
#include "train/progress.h"

namespace {

namespace fs = std::filesystem;
using namespace mc;
using motion::FactCase;
using motion::JointSequence;

// Joints (N, 22, 3) as they are, or the joints of feature rows (N, 263).
JointSequence read_motion(const fs::path& path) {
    const NpyArray array = read_npy(path);
    if (array.shape.size() != 2) return motion::joints_of_array(array);
    return motion::joints_from_features(motion::features_of_array(array));
}

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

// Made by a bundle's generator, lengths estimated from the prompts, with the bundle's own settings.
train::MotionSource generated_by(const fs::path& folder) {
    auto bundle = std::make_shared<Bundle>(load_bundle(folder));
    return [bundle](std::span<const FactCase> cases, uint64_t seed) {
        std::vector<GenerationRequest> requests;
        for (const FactCase& c : cases) requests.push_back({c.prompt, {}});
        GenerationOptions options = bundle->defaults;
        options.seed = seed;
        std::vector<JointSequence> motions;
        for (const motion::FeatureSequence& made : bundle->generator->generate(requests, options))
            motions.push_back(motion::joints_from_features(made));
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

void list_facts() {
    for (const motion::FactInfo& f : motion::known_facts())
        fmt::print("{:<24} {:<8} {}\n", f.name, f.unit, f.meaning);
}

void measure(const fs::path& path) {
    const motion::MotionFacts facts = motion::measure_facts(read_motion(path), path.string());
    for (const motion::FactInfo& f : motion::known_facts())
        fmt::print("{:<24} {:>9.3f} {}\n", f.name, facts.at(f.name), f.unit);
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app("Measures motions, and scores them against what their prompts say.", "evaluate");
    app.footer(
        "Examples:\n"
        "  evaluate --facts pretrained/facts/facts.jsonl --seeds 3\n"
        "  evaluate --facts pretrained/facts/facts.jsonl --motions out --seeds 3\n"
        "  evaluate --measure out/1_0.npy\n"
        "  evaluate --list-facts\n"
        "MOTIONS has one file LINE_SEED.npy a prompt and seed (lines from 1, seeds from 0): "
        "joints\n"
        "(N, 22, 3) or HumanML3D's features (N, 263).\n"
        "Exit status: 0 done, 1 failed, 2 wrong usage.");

    fs::path facts, motions, measured, json, strips, bundle;
    tools::CommonOptions common;
    int64_t seeds = 3;
    bool list = false, quiet = false;
    auto* what = app.add_option_group("what", "one of");
    what->add_option("--facts", facts, "prompts and checks, JSON lines (pretrained/facts)");
    what->add_option("--measure", measured, "print the facts of one motion (.npy)");
    what->add_flag("--list-facts", list, "print all facts with their meaning");
    what->require_option(1);
    auto* of_facts = app.get_option_no_throw("--facts");
    if (of_facts == nullptr) of_facts = what->get_option("--facts");
    app.add_option("--motions", motions, "folder of motions, LINE_SEED.npy, instead of a bundle's")
        ->needs(of_facts);
    auto* of_bundle = app.add_option("--bundle", bundle,
                                     "model bundle that makes the motions [pretrained/default]");
    of_bundle->needs(of_facts);
    app.add_option("--seeds", seeds, "motions a prompt")
        ->check(CLI::Range(int64_t{1}, int64_t{1000}))
        ->capture_default_str();
    app.add_option("--json", json, "write the whole report here")->needs(of_facts);
    app.add_option("--strips", strips, "draw every motion into this folder, LINE_SEED.png")
        ->needs(of_facts);
    app.add_flag("--quiet", quiet, "leave out the list of what failed");
    tools::add_common_options(app, common);
    return tools::run_program(app, argc, argv, [&] {
        tools::apply(common);
        if (list) {
            list_facts();
        } else if (!measured.empty()) {
            measure(measured);
        } else {
            const std::vector<FactCase> cases = motion::read_fact_cases(facts);
            train::MotionSource source =
                motions.empty() ? generated_by(bundle.empty() ? tools::default_bundle() : bundle)
                                : motions_in(motions);
            if (!strips.empty()) {
                make_folder(strips);
                source = with_strips(std::move(source), strips);
            }
            train::Progress progress("facts", seeds);
            const train::FactReport report = train::score_facts(
                cases, seeds, source, [&](int64_t done, int64_t) { progress.update(done); });
            progress.finish();
            fmt::print("{}", train::fact_table(report, !quiet));
            if (!json.empty()) write_text_file(json, train::fact_json(report).dump(1) + "\n");
        }
        return 0;
    });
}
