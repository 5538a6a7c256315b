// The benchmark of plain facts against captured motion: its checks are true of the motions that its
// prompts describe, false of others, and its prompts are nobody's captions.
#include <doctest/doctest.h>

#include <algorithm>
#include <cctype>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "motion/fact_checks.h"
#include "motion/facts.h"
#include "tests/real_segments.h"
#include "tests/test_paths.h"
#include "train/fact_score.h"

using namespace mc;
using motion::FactCase;
using motion::MotionFacts;

namespace {

std::vector<FactCase> shipped_cases() {
    return motion::read_fact_cases(testing::source_dir() / "pretrained/facts/facts.jsonl");
}

struct Measured {
    testing::RealSegment segment;
    MotionFacts facts;
};

const std::vector<Measured>& measured_segments() {
    static const std::vector<Measured> all = [] {
        std::vector<Measured> out;
        for (auto& s : testing::read_real_segments(testing::shared_dir() / "data/mocap")) {
            MotionFacts facts = motion::measure_facts(s.joints, s.clip);
            out.push_back({std::move(s), std::move(facts)});
        }
        return out;
    }();
    return all;
}

// Segments that show what the prompt asks for, slowest first.
std::vector<const Measured*> examples_of(const FactCase& c) {
    const std::regex match(c.examples.match), without(c.examples.without);
    std::vector<const Measured*> out;
    for (const Measured& m : measured_segments()) {
        const auto& names = c.examples.categories;
        if (std::find(names.begin(), names.end(), m.segment.category) == names.end()) continue;
        auto any = [&](const std::regex& r) {
            return std::any_of(m.segment.captions.begin(), m.segment.captions.end(),
                               [&](const std::string& t) { return std::regex_search(t, r); });
        };
        if (!any(match)) continue;
        if (!c.examples.without.empty() && any(without)) continue;
        out.push_back(&m);
    }
    std::stable_sort(out.begin(), out.end(), [](const Measured* a, const Measured* b) {
        return a->facts.at("speed_mean") < b->facts.at("speed_mean");
    });
    return out;
}

std::string plain(const std::string& text) {
    std::string out;
    for (const char ch : text) {
        const auto c = static_cast<unsigned char>(ch);
        if (std::isalnum(c))
            out += static_cast<char>(std::tolower(c));
        else if (!out.empty() && out.back() != ' ')
            out += ' ';
    }
    while (!out.empty() && out.back() == ' ') out.pop_back();
    return out;
}

}  // namespace

TEST_CASE("facts: the shipped benchmark has at least 66 prompts of many kinds") {
    const auto cases = shipped_cases();
    CHECK(cases.size() >= 66);
    std::set<std::string> groups;
    for (const FactCase& c : cases) {
        CHECK_FALSE(c.group.empty());
        CHECK_FALSE(c.examples.categories.empty());
        groups.insert(c.group);
    }
    CHECK(groups.size() >= 15);
}

TEST_CASE("facts: no prompt is a caption, a paraphrase or a phrasing of the training data") {
    if (!testing::have_shared("data/mocap/captions.jsonl")) return;
    std::set<std::string> texts;
    for (const Measured& m : measured_segments()) {
        for (const auto& t : m.segment.captions) texts.insert(plain(t));
        for (const auto& t : m.segment.paraphrases) texts.insert(plain(t));
    }
    std::ifstream file(testing::shared_dir() / "data/mocap/phrasings.jsonl");
    for (std::string line; std::getline(file, line);) {
        const auto pool = nlohmann::json::parse(line);
        for (const std::string t : pool["phrasings"]) {
            texts.insert(plain(t));
            texts.insert(plain(motion::mirror_caption(t)));
        }
    }
    REQUIRE(texts.size() > 5000);
    for (const FactCase& c : shipped_cases()) {
        CAPTURE(c.prompt);
        CHECK_FALSE(texts.contains(plain(c.prompt)));
    }
}

TEST_CASE("facts: every prompt's checks hold for captured motions of its kind, not for others") {
    if (!testing::have_shared("data/mocap/captions.jsonl")) return;
    const auto cases = shipped_cases();
    std::map<std::string, std::vector<const Measured*>> examples;
    for (const FactCase& c : cases) examples[c.prompt] = examples_of(c);
    std::map<std::string, std::vector<const Measured*>> categories;
    for (const Measured& m : measured_segments()) categories[m.segment.category].push_back(&m);

    double true_sum = 0, false_sum = 0;
    for (const FactCase& c : cases) {
        auto right = [&](const Measured& m) {
            return motion::judge(c, m.facts,
                                 [&](const std::string& prompt) -> const MotionFacts& {
                                     const auto& other = examples.at(prompt);
                                     return other[other.size() / 2]->facts;  // of median speed
                                 })
                .right;
        };
        auto rate = [&](const std::vector<const Measured*>& list) {
            return static_cast<double>(std::count_if(
                       list.begin(), list.end(), [&](const Measured* m) { return right(*m); })) /
                   static_cast<double>(list.size());
        };
        const auto& own = examples.at(c.prompt);
        CAPTURE(c.prompt);
        REQUIRE(own.size() >= 6);
        const double true_rate = rate(own);
        // Each category counts once: the data have 30 times as many dances as flips.
        double foreign = 0;
        int count = 0;
        for (const auto& [name, list] : categories) {
            const auto& names = c.examples.categories;
            if (std::find(names.begin(), names.end(), name) != names.end()) continue;
            foreign += rate(list);
            ++count;
        }
        const double false_rate = foreign / count;
        CAPTURE(true_rate);
        CAPTURE(false_rate);
        CHECK(true_rate >= 0.75);
        CHECK(false_rate <= 0.15);
        true_sum += true_rate;
        false_sum += false_rate;
    }
    const auto n = static_cast<double>(cases.size());
    MESSAGE("captured motions of the kind pass: "
            << 100 * true_sum / n << " %, of other categories: " << 100 * false_sum / n << " %");
    CHECK(true_sum / n >= 0.93);
    CHECK(false_sum / n <= 0.05);
}

TEST_CASE("facts: captured motions score above 90 %, shuffled ones below 10 %") {
    if (!testing::have_shared("data/mocap/captions.jsonl")) return;
    const auto cases = shipped_cases();
    std::vector<std::vector<const Measured*>> examples;
    for (const FactCase& c : cases) examples.push_back(examples_of(c));
    // Seeds walk through the examples in steps, so that slow and fast ones come.
    const auto report =
        train::score_facts(cases, 5, [&](std::span<const FactCase> asked, uint64_t seed) {
            std::vector<motion::JointSequence> motions;
            for (size_t i = 0; i < asked.size(); ++i) {
                const auto& list = examples[i];
                motions.push_back(
                    list[(2 * seed + 1) * list.size() / 10 % list.size()]->segment.joints);
            }
            return motions;
        });
    MESSAGE(train::fact_table(report, false));
    CHECK(report.score > 0.9);
    CHECK(report.shuffled < 0.1);
    CHECK(report.ratio() > 9);
}
