#include "train/fact_score.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/error.h"
#include "motion/features.h"
#include "motion/skeleton.h"

namespace mc::train {

using motion::FactCase;
using motion::FactVerdict;
using motion::MotionFacts;

double FactReport::ratio() const {
    if (shuffled > 0) return score / shuffled;
    return score > 0 ? std::numeric_limits<double>::infinity() : 0;
}

MotionSource motions_of(MotionGenerator& generator, const GenerationOptions& options) {
    if (const int64_t want = motion::humanml3d_skeleton().feature_dims(); generator.dims() != want)
        throw Error(
            fmt::format("[facts] the generator's motions have {} columns; facts are measured of "
                        "HumanML3D's joints, of {}",
                        generator.dims(), want));
    return [&generator, options](std::span<const FactCase> cases, uint64_t seed) {
        std::vector<GenerationRequest> requests;
        for (const FactCase& c : cases) requests.push_back({c.prompt, std::nullopt});
        GenerationOptions seeded = options;
        seeded.seed += seed;
        std::vector<motion::JointSequence> motions;
        for (const auto& features : generator.generate(requests, seeded))
            motions.push_back(motion::joints_from_features(features));
        return motions;
    };
}

FactReport score_facts(std::span<const FactCase> cases, int64_t seeds, const MotionSource& source,
                       const std::function<void(int64_t, int64_t)>& progress) {
    if (cases.empty()) throw Error("[facts] there is no prompt to score");
    if (seeds < 1) throw Error(fmt::format("[facts] seeds: got {}, want at least 1", seeds));
    const size_t n = cases.size();
    std::map<std::string, size_t> index;  // of a prompt
    for (size_t i = 0; i < n; ++i) index[cases[i].prompt] = i;

    FactReport report;
    report.seeds = seeds;
    for (const FactCase& c : cases)
        report.cases.push_back({c.prompt, c.group, c.line, 0, 0, {}, {}});
    for (int64_t seed = 0; seed < seeds; ++seed) {
        const auto motions = source(cases, static_cast<uint64_t>(seed));
        if (motions.size() != n)
            throw Error(fmt::format("[facts] got {} motions for {} prompts", motions.size(), n));
        for (size_t i = 0; i < n; ++i)
            report.cases[i].facts.push_back(motion::measure_facts(
                motions[i], fmt::format("\"{}\", seed {}", cases[i].prompt, seed)));
        auto verdict = [&](size_t i, size_t shift) {
            auto facts_of = [&](size_t k) -> const MotionFacts& {
                return report.cases[(k + shift) % n].facts.back();
            };
            return motion::judge(
                cases[i], facts_of(i),
                [&](const std::string& p) -> const MotionFacts& { return facts_of(index.at(p)); });
        };
        for (size_t i = 0; i < n; ++i) {
            FactCaseScore& c = report.cases[i];
            c.verdicts.push_back(verdict(i, 0));
            if (c.verdicts.back().right) ++c.right;
            for (size_t shift = 1; shift < n; ++shift)
                if (verdict(i, shift).right) c.shuffled += 1;
        }
        if (progress) progress(seed + 1, seeds);
    }

    const double trials = static_cast<double>(n) * static_cast<double>(seeds);
    for (FactCaseScore& c : report.cases) {
        report.score += static_cast<double>(c.right) / trials;
        if (n > 1) c.shuffled /= static_cast<double>(n - 1) * static_cast<double>(seeds);
        report.shuffled += c.shuffled / static_cast<double>(n);
    }
    return report;
}

std::string fact_table(const FactReport& report, bool failures) {
    struct Group {
        int64_t prompts = 0, right = 0;
        double shuffled = 0;
    };
    std::vector<std::string> order;  // as in the file
    std::map<std::string, Group> groups;
    size_t width = 5;
    for (const FactCaseScore& c : report.cases) {
        const std::string name = c.group.empty() ? "-" : c.group;
        if (!groups.contains(name)) order.push_back(name);
        Group& g = groups[name];
        ++g.prompts;
        g.right += c.right;
        g.shuffled += c.shuffled;
        width = std::max(width, name.size());
    }
    auto row = [&](const std::string& name, int64_t prompts, double right, double shuffled) {
        return fmt::format("{:<{}}  {:>7}  {:>6.1f} %  {:>6.1f} %\n", name, width, prompts,
                           100 * right, 100 * shuffled);
    };
    std::string out = fmt::format("{:<{}}  {:>7}  {:>8}  {:>8}\n", "group", width, "prompts",
                                  "right", "shuffled");
    for (const std::string& name : order) {
        const Group& g = groups[name];
        const auto prompts = static_cast<double>(g.prompts);
        out += row(name, g.prompts,
                   static_cast<double>(g.right) / (prompts * static_cast<double>(report.seeds)),
                   g.shuffled / prompts);
    }
    out += row("all", static_cast<int64_t>(report.cases.size()), report.score, report.shuffled);
    out += fmt::format("{} {}; {}\n", report.seeds, report.seeds == 1 ? "seed" : "seeds",
                       report.shuffled > 0
                           ? fmt::format("{:.1f} times the shuffled score", report.ratio())
                           : std::string("no foreign motion passes"));
    if (!failures) return out;
    for (const FactCaseScore& c : report.cases)
        for (size_t seed = 0; seed < c.verdicts.size(); ++seed)
            if (!c.verdicts[seed].right) {
                std::string what;
                for (const std::string& f : c.verdicts[seed].failures)
                    what += (what.empty() ? "" : "; ") + f;
                out += fmt::format("line {}, seed {}: {}: {}\n", c.line, seed, c.prompt, what);
            }
    return out;
}

nlohmann::json fact_json(const FactReport& report) {
    nlohmann::json cases = nlohmann::json::array();
    for (const FactCaseScore& c : report.cases) {
        nlohmann::json runs = nlohmann::json::array();
        for (size_t seed = 0; seed < c.verdicts.size(); ++seed)
            runs.push_back({{"seed", seed},
                            {"right", c.verdicts[seed].right},
                            {"failures", c.verdicts[seed].failures},
                            {"facts", c.facts[seed].values}});
        cases.push_back({{"line", c.line},
                         {"prompt", c.prompt},
                         {"group", c.group},
                         {"right", c.right},
                         {"shuffled", c.shuffled},
                         {"runs", std::move(runs)}});
    }
    // JSON has no infinity: without a foreign motion that passes the ratio is null.
    const nlohmann::json ratio =
        std::isfinite(report.ratio()) ? nlohmann::json(report.ratio()) : nlohmann::json();
    return {{"prompts", report.cases.size()}, {"seeds", report.seeds}, {"score", report.score},
            {"shuffled", report.shuffled},    {"ratio", ratio},        {"cases", std::move(cases)}};
}

}  // namespace mc::train
