#include "train/fact_score.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "kernels/error.h"
#include "tests/synthetic_motion.h"

using namespace mc;
using motion::FactCase;
using motion::JointSequence;
using testing::Action;

namespace {

// Four prompts that each of the four synthetic actions fulfils alone.
const char* const kCases =
    R"({"prompt": "walk", "group": "way", "checks": [{"fact": "path", "op": ">=", "value": 1}]}
{"prompt": "jump", "group": "air", "checks": [{"fact": "airborne", "op": ">=", "value": 1}]}
{"prompt": "wave", "group": "still", "checks": [{"fact": "path", "op": "<", "value": 1}, {"fact": "airborne", "op": "<", "value": 1}, {"fact": "turn_abs", "op": "<", "value": 40}]}
{"prompt": "turn", "group": "way", "checks": [{"fact": "turn", "op": ">=", "value": 40}]}
)";

std::vector<JointSequence> actions(std::span<const FactCase> cases, uint64_t seed) {
    std::vector<JointSequence> out;
    for (size_t i = 0; i < cases.size(); ++i)
        out.push_back(
            motion::canonicalise(testing::synthetic_motion(static_cast<Action>(i % 4), 60, seed),
                                 motion::humanml3d_skeleton()));
    return out;
}

}  // namespace

TEST_CASE("fact score: the right motions score 1, foreign ones 0, mixed ones between") {
    const auto cases = motion::parse_fact_cases(kCases, "f");
    std::vector<int64_t> steps;
    const auto report = train::score_facts(cases, 3, actions, [&](int64_t done, int64_t total) {
        steps.push_back(done * 10 + total);
    });
    CAPTURE(train::fact_table(report));
    CHECK(report.score == doctest::Approx(1));
    CHECK(report.shuffled == 0);
    CHECK(steps == std::vector<int64_t>{13, 23, 33});
    CHECK(train::fact_table(report).find("no foreign motion passes") != std::string::npos);
    CHECK(train::fact_json(report)["ratio"].is_null());

    // All motions are walks: one prompt in four is right, and every shift gives it a walk.
    const auto walks = train::score_facts(cases, 2, [](auto asked, uint64_t seed) {
        auto out = actions(asked, seed);
        for (auto& m : out) m = out[0];
        return out;
    });
    CHECK(walks.score == doctest::Approx(0.25));
    CHECK(walks.shuffled == doctest::Approx(0.25));
    CHECK(walks.ratio() == doctest::Approx(1));
    CHECK(walks.cases[1].right == 0);
    CHECK(walks.cases[1].verdicts[0].failures.size() == 1);
    const std::string table = train::fact_table(walks);
    CHECK(table.find("line 2, seed 1: jump: airborne is 0, want >= 1") != std::string::npos);
    CHECK(train::fact_table(walks, false).find("line 2") == std::string::npos);
    const auto json = train::fact_json(walks);
    CHECK(json["score"].get<double>() == doctest::Approx(0.25));
    CHECK(json["cases"][1]["runs"][0]["facts"]["airborne"].get<double>() == 0);
}

TEST_CASE("fact score: a check against another prompt is shifted with it") {
    const auto cases = motion::parse_fact_cases(
        R"({"prompt": "fast", "checks": [{"fact": "speed_mean", "op": ">", "than_prompt": "slow"}]}
{"prompt": "slow", "checks": [{"fact": "speed_mean", "op": "<", "than_prompt": "fast"}]}
)",
        "f");
    const auto report = train::score_facts(cases, 1, [](auto asked, uint64_t seed) {
        auto four = actions(std::vector<FactCase>(4), seed);
        CHECK(asked.size() == 2);
        return std::vector<JointSequence>{four[0], four[2]};  // walk, wave
    });
    CHECK(report.score == 1);
    CHECK(report.shuffled == 0);  // the waver is not faster than the walker
}

TEST_CASE("fact score: a generator is asked for every prompt with seeds that follow each other") {
    struct Fake : MotionGenerator {
        void to(DeviceType) override {}
        std::vector<uint64_t> seeds;
        StageSeconds stages;
        const StageSeconds& stage_seconds() const override { return stages; }
        const std::vector<std::string> none;
        const std::vector<std::string>& warnings() const override { return none; }
        double fps() const override { return 20; }
        int64_t dims() const override { return 263; }
        int64_t unit() const override { return 4; }
        int64_t max_frames() const override { return 196; }
        std::vector<motion::FeatureSequence> generate(
            const std::vector<GenerationRequest>& requests,
            const GenerationOptions& options) override {
            seeds.push_back(options.seed);
            std::vector<motion::FeatureSequence> out;
            for (const auto& r : requests) {
                CHECK_FALSE(r.frames.has_value());
                for (const Action a : {Action::kWalk, Action::kJump, Action::kWave, Action::kTurn})
                    if (testing::action_name(a) ==
                        std::string(r.prompt == "wave" ? "gesture" : r.prompt))
                        out.push_back(motion::motion_features(testing::synthetic_motion(a, 61)));
            }
            return out;
        }
    } fake;
    GenerationOptions options;
    options.seed = 40;
    const auto report = train::score_facts(motion::parse_fact_cases(kCases, "f"), 2,
                                           train::motions_of(fake, options));
    CHECK(report.score == doctest::Approx(1));
    CHECK(fake.seeds == std::vector<uint64_t>{40, 41});
}

TEST_CASE("fact score: broken sources and arguments are errors") {
    const auto cases = motion::parse_fact_cases(kCases, "f");
    CHECK_THROWS_AS(train::score_facts(cases, 0, actions), Error);
    CHECK_THROWS_AS(train::score_facts({}, 1, actions), Error);
    CHECK_THROWS_WITH_AS(
        train::score_facts(cases, 1, [](auto, uint64_t) { return std::vector<JointSequence>(3); }),
        doctest::Contains("3 motions for 4 prompts"), Error);
    CHECK_THROWS_WITH_AS(
        train::score_facts(cases, 1, [](auto, uint64_t) { return std::vector<JointSequence>(4); }),
        doctest::Contains("\"walk\", seed 0"), Error);
}
