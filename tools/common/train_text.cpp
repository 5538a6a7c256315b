#include "tools/common/train_text.h"

#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "models/clip/bpe_learner.h"
#include "models/clip/text_tower_file.h"
#include "tools/common/cli.h"
#include "tools/common/paths.h"
#include "tools/common/train_report.h"
#include "train/data_parallel.h"
#include "train/processes.h"
#include "train/text_stage.h"

namespace mc::tools {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

struct VocabOptions {
    std::vector<std::string> sentences;
    size_t merges = 8000;
    uint64_t min_count = 2;
    std::string out;
};

int run_vocab(const VocabOptions& options) {
    make_parent(options.out, "--out");
    clip::BpeLearner learner;
    size_t count = 0;
    for (const std::string& file : options.sentences) {
        for (const std::string& sentence : train::read_sentences(file)) {
            learner.add(sentence);
            ++count;
        }
    }
    const auto merges = learner.learn(options.merges, options.min_count);
    clip::write_merges(options.out, merges);
    fmt::print("{}: {} merges from {} sentences ({} distinct pieces)\n", options.out, merges.size(),
               count, learner.distinct_pieces());
    return 0;
}

struct TextOptions {
    std::string teacher, vocab, out, start, preset = "small";
    std::optional<std::string> config;
    std::vector<std::string> settings;
    std::optional<int64_t> steps, batch;
    std::optional<double> lr;
    std::optional<uint64_t> seed;
    bool resume = false, quiet = false;
    CommonOptions common;
};

Json resolve(const TextOptions& options) {
    std::vector<std::string> settings = options.settings;
    if (options.steps) settings.push_back(fmt::format("steps={}", *options.steps));
    if (options.batch) settings.push_back(fmt::format("batch={}", *options.batch));
    if (options.lr) settings.push_back(fmt::format("lr={}", *options.lr));
    if (options.seed) settings.push_back(fmt::format("seed={}", *options.seed));
    std::optional<fs::path> file;
    if (options.config) file = *options.config;
    return train::resolve_config(train::text_presets(), options.preset, file, settings);
}

int run_text(const TextOptions& options) {
    const DeviceType device = apply(options.common);
    const auto ranks = train::join_processes(device);
    Json config;
    std::optional<clip::Tokenizer> tokenizer;
    train::TextTeacher teacher;
    std::optional<train::TextStage> made;
    train::together(*ranks, [&] {
        config = resolve(options);
        tokenizer.emplace(clip::Tokenizer::from_file(options.vocab));
        teacher = train::read_text_teacher(options.teacher);
        train::check_run(options.out, options.resume, config, *ranks);
        made.emplace(config, teacher, *tokenizer, device);
        if (!options.start.empty())
            made->student().text.load(clip::read_text_tower(options.start).state,
                                      {{}, options.start});
        // A run is resumed with the data that it began with.
        config["made_with"] = {{"sentences", teacher.size()},
                               {"vocabulary", tokenizer->vocab_size()}};
    });
    train::TextStage& stage = *made;
    stage.set_ranks(*ranks);
    train::LoopOptions loop = train::text_loop_options(config, options.out);
    loop.resume = options.resume;
    loop.quiet = options.quiet;
    if (!options.quiet && ranks->first())
        notice("text: {} parameters, {} sentences, {} held out for validation\n",
               stage.model().parameter_count(), teacher.size(), stage.held_out().size());
    const train::LoopResult result = train::run_loop(stage, loop);
    if (!ranks->first()) return 0;
    if (!result.finished) return say_stopped(result, loop.steps);
    const fs::path written = train::export_text_encoder(options.out, config, *tokenizer);
    fmt::print("{}: held-out cosine to the teacher {:.4f} at best", written.string(),
               1 - result.best);
    if (const auto recall = result.validation.find("recall_at_1");
        recall != result.validation.end())
        fmt::print(", R@1 {:.1f}% at the end", 100 * recall->second);
    fmt::print("\n");
    return 0;
}

std::string preset_help() {
    std::string text = "what to begin from:";
    for (const train::Preset& preset : train::text_presets())
        text += fmt::format(" {} ({});", preset.name, preset.summary);
    text.back() = ' ';
    return text;
}

void add_vocab(CLI::App& app, std::function<int()>& action) {
    auto options = std::make_shared<VocabOptions>();
    CLI::App* sub = app.add_subcommand("vocab", "learn a byte-pair vocabulary from sentences");
    sub->add_option("--sentences", options->sentences,
                    "files: one sentence a line, or captions (.jsonl)")
        ->required()
        ->check(CLI::ExistingFile);
    sub->add_option("--merges", options->merges, "how many merges to learn at most")
        ->check(whole(1, 1000000))
        ->capture_default_str();
    sub->add_option("--min-count", options->min_count, "a pair must occur so often to be merged")
        ->check(whole(1))
        ->capture_default_str();
    sub->add_option("--out", options->out, "merge file to write, gzip if it ends in .gz")
        ->required();
    sub->footer(
        "Example:\n  train vocab --sentences text_teacher/sentences.txt "
        "pretrained/text/captions.jsonl --merges 8000 --out vocab.txt.gz");
    sub->callback([options, &action] { action = [options] { return run_vocab(*options); }; });
}

void add_text(CLI::App& app, std::function<int()>& action) {
    auto options = std::make_shared<TextOptions>();
    CLI::App* sub =
        app.add_subcommand("text", "teach a small text encoder a teacher's sentence embeddings");
    sub->add_option("--teacher", options->teacher,
                    "folder with sentences.txt, embeddings_i8.npy and embeddings_scale.npy")
        ->required()
        ->check(CLI::ExistingDirectory);
    sub->add_option("--vocab", options->vocab, "merge file, as `train vocab` writes it")
        ->required()
        ->check(CLI::ExistingFile);
    sub->add_option("--out", options->out, "run folder: checkpoints, log, text_encoder.safetensors")
        ->required();
    sub->add_option("--start", options->start,
                    "begin from this text tower of the same sizes and vocabulary (safetensors)")
        ->check(CLI::ExistingFile);
    sub->add_option("--preset", options->preset, preset_help())->capture_default_str();
    sub->add_option("--config", options->config, "JSON file with settings over the preset's");
    sub->add_option("--set", options->settings, "single settings over both, KEY=VALUE");
    sub->add_option("--steps", options->steps, "the same as --set steps=N")->check(whole(0));
    sub->add_option("--batch", options->batch, "the same as --set batch=N")->check(whole(1));
    sub->add_option("--lr", options->lr, "the same as --set lr=X")->check(finite(0, 1e6));
    sub->add_option("--seed", options->seed, "the same as --set seed=N")->check(whole(0));
    sub->add_flag("--resume", options->resume, "go on from the run folder's last checkpoint");
    sub->add_flag("--quiet", options->quiet, "no progress on standard error");
    add_common_options(*sub, options->common);
    std::string keys;
    for (const std::string& key : train::config_keys(train::text_presets().front().values))
        keys += (keys.empty() ? "" : ", ") + key;
    sub->footer(
        "Examples:\n  train text --teacher text_teacher --vocab vocab.txt.gz --out runs/text\n"
        "  train text --teacher text_teacher --vocab vocab.txt.gz --out runs/text --resume\n"
        "  train text ... --out runs/wide --set model.width=384 model.heads=6 lr=5e-4\n"
        "Keys of --set and --config: " +
        keys + ".");
    sub->callback([options, &action] { action = [options] { return run_text(*options); }; });
}

}  // namespace

void add_text_commands(CLI::App& app, std::function<int()>& action) {
    add_vocab(app, action);
    add_text(app, action);
}

}  // namespace mc::tools
