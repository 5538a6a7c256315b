// evaluate: how good motions are. `evaluate --help` shows examples.
#include <fmt/format.h>

#include <filesystem>
#include <string>

#include "kernels/error.h"
#include "motion/facts.h"
#include "tools/common/cli.h"
#include "tools/common/evaluate_data.h"
#include "tools/common/evaluate_facts.h"
#include "tools/common/motion_input.h"
#include "tools/common/paths.h"

namespace mc::tools {
namespace {

struct Options {
    FactsOptions facts;
    DataOptions data;
    Evaluated what;
    std::string measured;
    bool list = false;
    CommonOptions common;
};

void list_facts() {
    for (const motion::FactInfo& f : motion::known_facts())
        fmt::print("{:<24} {:<8} {}\n", f.name, f.unit, f.meaning);
}

void measure(const std::string& path) {
    Notes notes;
    const motion::JointSequence joints = read_motion(path, &notes);
    for (const std::string& note : notes) notice("evaluate: warning: {}\n", note);
    const motion::MotionFacts facts = motion::measure_facts(joints, path);
    for (const motion::FactInfo& f : motion::known_facts())
        fmt::print("{:<24} {:>9.3f} {}\n", f.name, facts.at(f.name), f.unit);
}

// Before hours of work, not after.
void check_report(const std::string& json) {
    const auto folder = std::filesystem::path(json).parent_path();
    if (!folder.empty() && !std::filesystem::is_directory(folder))
        throw Error(fmt::format("{}: {} is no folder; make it, or name another file with --json",
                                json, folder.string()));
}

int run(Options& options) {
    options.what.model.device = apply(options.common);
    check_report(options.what.json);
    for (const std::string& read : {options.facts.facts, options.measured})
        check_not_read(options.what.json, read);
    if (!options.data.data.empty()) return evaluate_data(options.data, options.what);
    if (!options.facts.facts.empty()) return evaluate_facts(options.facts, options.what);
    if (options.list)
        list_facts();
    else
        measure(options.measured);
    return 0;
}

}  // namespace
}  // namespace mc::tools

int main(int argc, char** argv) {
    using namespace mc::tools;
    CLI::App app(
        "Measures motions, and scores generators: against what their prompts say, and on a data "
        "set as papers do.",
        "evaluate");
    Options options;
    auto* what = app.add_option_group("what", "one of");
    auto* facts = what->add_option("--facts", options.facts.facts,
                                   "score on prompts with checks, JSON lines (pretrained/facts)");
    auto* data = what->add_option("--data", options.data.data,
                                  "score on a data set in HumanML3D's layout: R-precision, FID, "
                                  "MM-Dist, Diversity, MultiModality")
                     ->check(CLI::ExistingDirectory);
    auto* measured =
        what->add_option("--measure", options.measured, "print the facts of one motion (.npy)");
    auto* list = what->add_flag("--list-facts", options.list, "print all facts with their meaning");
    what->require_option(1);
    const ModelOptions model = add_model_options(app, options.what.model);
    auto* motions =
        app.add_option("--motions", options.what.motions,
                       "score a folder of motions instead, joints (N, 22, 3) or features (N, 263): "
                       "LINE_SEED.npy, a prompt's line in the file from 1 and a seed from 0; with "
                       "--data CLIP_LINE_SEED.npy, LINE in texts/CLIP.txt")
            ->excludes(model.bundle)
            ->excludes(model.checkpoints);
    app.add_option("--seed", options.what.seed,
                   "of the random numbers [the bundle's; with --data 10107]")
        ->check(whole(0));
    auto* json = app.add_option("--json", options.what.json, "write the whole report here");
    for (CLI::Option* alone : {measured, list})
        for (CLI::Option* other : {model.bundle, model.checkpoints, motions, json})
            alone->excludes(other);
    add_facts_options(app, options.facts, facts);
    CLI::Option* real = add_data_options(app, options.data, data);
    for (CLI::Option* other : {model.bundle, model.checkpoints, motions}) real->excludes(other);
    add_common_options(app, options.common);
    app.footer(
        "Examples:\n"
        "  evaluate --facts pretrained/facts/facts.jsonl\n"
        "  evaluate --facts pretrained/facts/facts.jsonl --bundle out/bundle --json report.json\n"
        "  evaluate --facts pretrained/facts/facts.jsonl --motions takes --strips look\n"
        "  evaluate --data HumanML3D --evaluator checkpoints/t2m --glove glove --real\n"
        "  evaluate --data HumanML3D --evaluator checkpoints/t2m --glove glove --bundle "
        "out/bundle\n"
        "  evaluate --measure takes/1_0.npy\n"
        "  evaluate --list-facts\n"
        "The evaluator and its word vectors are not ours to ship. The READMEs of\n"
        "github.com/EricGuo5513/text-to-motion (\"Pre-trained Models\") and of\n"
        "github.com/EricGuo5513/momask-codes (prepare/download_evaluator.sh, download_glove.sh) "
        "say\n"
        "where they are; of checkpoints/t2m the parts text_mot_match/model/finest.tar and\n"
        "Comp_v6_KLD005/meta/{mean,std}.npy are read (for KIT checkpoints/kit).");
    return run_program(app, argc, argv, [&] { return run(options); });
}
