// The score of a generator on the benchmark of plain facts: how often the motion of a prompt does
// what the prompt says, and how often it would if the motions were handed out at random.
//
//     FactReport report = score_facts(cases, 3, [&](std::span<const FactCase> cases, uint64_t seed)
//     {
//         return one motion a case;
//     });
//     fmt::print("{}", fact_table(report));
//
// NOTE [ Shuffled score ] A check may be so weak that any motion passes. So every prompt's checks
// are also tried on the motions of all other prompts: prompt i on motion i + d (mod N) for every
// shift d from 1 to N - 1. Each shift leaves no motion in its place, and together they try every
// pair of prompt and foreign motion exactly once, so the score is the expectation of a random
// assignment without a random number in it. A check against another prompt's motion sees that one
// shifted too.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "models/motion_generator.h"
#include "motion/fact_checks.h"
#include "motion/joints.h"

namespace mc::train {

// One motion a case, in their order: (T, 22, 3) at any length.
using MotionSource = std::function<std::vector<motion::JointSequence>(
    std::span<const motion::FactCase> cases, uint64_t seed)>;

// Asks a generator for all prompts at once, at lengths of its own choice. Seed k of the benchmark
// is options.seed + k. The generator has to outlive the source.
MotionSource motions_of(MotionGenerator& generator, const GenerationOptions& options = {});

struct FactCaseScore {
    std::string prompt, group;
    int64_t line = 0;
    int64_t right = 0;                          // of the seeds
    double shuffled = 0;                        // share of foreign motions that pass, 0 to 1
    std::vector<motion::FactVerdict> verdicts;  // one a seed
    std::vector<motion::MotionFacts> facts;     // one a seed
};

struct FactReport {
    int64_t seeds = 0;
    double score = 0;     // share of (prompt, seed) that is right, 0 to 1
    double shuffled = 0;  // the same for foreign motions; 0 if there is one prompt only
    std::vector<FactCaseScore> cases;

    // score / shuffled; infinite if no foreign motion passes and some own one does.
    double ratio() const;
};

// Seeds 0 to seeds - 1. `progress(done, total)` counts seeds. Error: seeds < 1, no cases, a source
// that gives another number of motions than cases, a motion that cannot be measured (the message
// names the prompt and the seed).
FactReport score_facts(std::span<const motion::FactCase> cases, int64_t seeds,
                       const MotionSource& source,
                       const std::function<void(int64_t, int64_t)>& progress = {});

// For people: the groups with their scores, what failed most, and the total. Ends with a newline.
std::string fact_table(const FactReport& report, bool failures = true);
// For programs: everything, facts included.
nlohmann::json fact_json(const FactReport& report);

}  // namespace mc::train
