// The language of the benchmark of plain facts: prompts, and what has to be true of their motions.
//
//     std::vector<FactCase> cases = read_fact_cases("pretrained/facts/facts.jsonl");
//     FactVerdict v = judge(cases[0], facts_of_its_motion, facts_of_another_prompt);
//     v.right;         // all checks hold
//     v.failures[0];   // "turn is 12, want >= 60"
//
// A file has one JSON object a line; empty lines are passed over:
//
//     {"prompt": "somebody spins to the left", "group": "turn", "checks": [CHECK, ...],
//      "examples": {"categories": ["turn", "walk"], "match": REGEX, "without": REGEX}}
//
// "group" puts prompts together in the table. "examples" says which captured segments show what the
// prompt asks for; only the calibration reads it. A CHECK is one of
//
//     {"fact": F, "op": OP, "value": 60}                 a number
//     {"fact": F, "op": OP, "than": G, "plus": 0.3}      another fact of the same motion
//     {"fact": F, "op": OP, "than_prompt": P, "times": 1.5}    F of the motion of another prompt
//     {"any": [CHECK, ...]}                              at least one of them
//
// with F, G names of motion/facts.h, OP one of ">=", "<=", ">", "<". "times" (default 1) and "plus"
// (default 0) apply to "than" and "than_prompt": want = times * other + plus.
//
// Errors (mc::Error) are one line, "FILE:LINE: what; remedy".
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "motion/facts.h"

namespace mc::motion {

enum class FactOp : uint8_t { kAtLeast, kAtMost, kAbove, kBelow };

struct FactCheck {
    std::string fact;  // empty for "any"
    FactOp op = FactOp::kAtLeast;
    double value = 0;
    std::string than, than_prompt;  // at most one is not empty; then `value` is not used
    double times = 1, plus = 0;
    std::vector<FactCheck> any;
};

struct FactExamples {
    std::vector<std::string> categories;  // of captured segments; empty: no examples are known
    std::string match;    // regular expression that one of a segment's captions has; empty: any
    std::string without;  // regular expression that none of them has; empty: none
};

struct FactCase {
    std::string prompt, group;
    std::vector<FactCheck> checks;  // at least one
    FactExamples examples;
    int64_t line = 0;  // in its file, from 1
};

inline constexpr uintmax_t kMaxFactFileBytes = 16 << 20;

// Error: no such file, larger than kMaxFactFileBytes, not JSON, unknown keys, facts or operators, a
// number that is not finite, a prompt twice, than_prompt that is not in the file or is its own, no
// case at all.
std::vector<FactCase> read_fact_cases(const std::filesystem::path& path);
// The same from memory; `source` names it in errors.
std::vector<FactCase> parse_fact_cases(std::string_view text, const std::string& source);

struct FactVerdict {
    bool right = true;
    std::vector<std::string> failures;  // one a check that does not hold
};

// `of_prompt` gives the facts of another prompt's motion; it is called for than_prompt alone.
FactVerdict judge(const FactCase& fact_case, const MotionFacts& facts,
                  const std::function<const MotionFacts&(const std::string&)>& of_prompt);

}  // namespace mc::motion
