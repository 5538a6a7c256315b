// The field's evaluation of text to motion on a data set (Guo et al. 2022; generators.md 10):
// R-precision, Frechet distance, matching score (MM-Dist), diversity and multimodality in the space
// of the public evaluator, repeated, with 95 % intervals.
//
//     PublicEvaluator evaluator = load_public_evaluator("checkpoints/t2m", "glove");
//     motion::Dataset test = read_dataset({.root = "HumanML3D", .split = "test"});
//     Evaluation real = evaluate_motions(evaluator, test.samples, {}, {});
//     Evaluation made = evaluate_motions(evaluator, test.samples, generated_motions(...), {});
//     fmt::print("{}", evaluation_table(made, "momask"));
//
// NOTE [ Evaluation protocol ] One repetition:
//   - the samples in a new random order, cut into batches of 32; what is left over is dropped;
//   - a sample gives one of its captions at random, and its motion cut to a multiple of 4 frames,
//     at most 196, at a random place (training_crop), normalised with the evaluator's own mean and
//     std, then zeros up to 196 frames;
//   - a motion is made for that caption, at the length of the true motion or one that the generator
//     chooses; it is cut to a multiple of 4 and treated likewise: denormalised by the generator's
//     statistics, normalised by the evaluator's;
//   - in the first 3 batches `takes` motions a text are made, for multimodality: two draws of 10 of
//     them, the same for every text; the last one goes on to the other metrics;
//   - a batch is the pool of R-precision; the distance of Frechet is to the true motions of the
//   same
//     repetition.
// Ground truth is evaluated in the place of a generator: a second draw of the data, with crops and
// captions of its own, against the first, so that its Frechet distance shows what the protocol
// itself adds (0.002 on HumanML3D). The random numbers go on through all repetitions, nothing is
// seeded anew.
//
// This is MoMask's protocol but for its accidents: it uses another sampler for the first 3 batches
// (generators.md, Q42), and shows the evaluator what its decoder makes of nothing beyond a motion's
// end (Q43), where we have the zeros of T2M-GPT, MMM and BAD. Multimodality is not comparable
// between papers: T2M-GPT and MMM take all texts.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "models/evaluator/metrics.h"
#include "models/evaluator/public_layout.h"
#include "models/motion_generator.h"
#include "motion/dataset.h"

namespace mc::train {

// A text to make a motion for.
struct EvaluationText {
    const motion::MotionSample* sample = nullptr;
    const motion::Caption* caption = nullptr;  // one of the sample's
    int64_t frames = 0;                        // of the true motion
};

// One motion a text, features in their own units, at least 4 frames. `seed` is a fresh one for
// every call; `take` counts the motions of one text, 0, 1, ... from the number of the repetition
// on.
using EvaluationSource = std::function<std::vector<motion::FeatureSequence>(
    std::span<const EvaluationText> texts, uint64_t seed, int64_t take)>;

// Who decides how long a made motion is: the truth (MoMask, MMM, BAD) or the generator (BAMM,
// T2M-GPT).
enum class MotionLength { truth, generator };

// A generator as a source; it has to outlive it. options.seed is not used.
EvaluationSource generated_motions(MotionGenerator& generator, const GenerationOptions& options,
                                   MotionLength length);

struct EvaluationOptions {
    int64_t repeats = 20;
    int64_t takes = 30;                 // motions a text for multimodality, 0: none
    int64_t multimodality_batches = 3;  // of 32 texts
    uint64_t seed = 10107;
    std::function<void(int64_t, int64_t)> progress = {};  // (done, total) motions
};

struct Evaluation {
    int64_t texts = 0;                    // evaluated in each repetition
    std::vector<evaluator::Scores> made;  // one a repetition
    std::vector<evaluator::Scores> real;  // of the true motions of the same texts, without FID;
                                          // empty where these are what is evaluated
};

// Error: motions of so many columns, which `whose` are, are not what the evaluator takes. For what
// is known before hours of work.
void check_columns(const evaluator::PublicEvaluator& evaluator, const std::string& whose,
                   int64_t columns);

// Without a source, the ground truth. Deterministic in samples, source and options, whatever the
// number of threads. Error: fewer than 32 samples, captions without a single token, a token that is
// no word/POS, motions of another width than the evaluator's, a source that gives another number of
// motions than texts.
Evaluation evaluate_motions(const evaluator::PublicEvaluator& evaluator,
                            const std::vector<motion::MotionSample>& samples,
                            const EvaluationSource& source, const EvaluationOptions& options);

// A metric over the repetitions.
struct MetricRow {
    std::string key, title;      // "r_precision_top_1", "R-precision top 1"
    const char* better;          // "more", "less", "as real"
    std::vector<double> values;  // one a repetition; empty if it was not measured
};
std::vector<MetricRow> metric_rows(const std::vector<evaluator::Scores>& scores);

// As papers print it, mean +- 1.96 s / sqrt(n), the true motions beside `who` if they were scored
// too. Ends with a newline.
std::string evaluation_table(const Evaluation& evaluation, const std::string& who);
// {"texts", "repeats", "made": {"fid": {"mean", "interval", "values"}, ...}, "real": ...}
nlohmann::json evaluation_json(const Evaluation& evaluation);

}  // namespace mc::train
