#include "motion/fact_checks.h"

#include <doctest/doctest.h>

#include <fstream>
#include <string>

#include "kernels/error.h"
#include "tests/test_paths.h"

using namespace mc::motion;

namespace {

const MotionFacts& nobody(const std::string&) {
    static const MotionFacts empty;
    return empty;
}

FactVerdict judge_alone(const std::string& checks, const MotionFacts& facts) {
    const auto cases = parse_fact_cases(R"({"prompt": "p", "checks": [)" + checks + "]}", "f");
    return judge(cases[0], facts, nobody);
}

}  // namespace

TEST_CASE("fact checks: every operator, than, any") {
    MotionFacts f;
    f.values = {{"turn", 50}, {"left_kick", 0.9}, {"right_kick", 0.1}};
    auto right = [&](const std::string& check) { return judge_alone(check, f).right; };
    CHECK(right(R"({"fact": "turn", "op": ">=", "value": 50})"));
    CHECK_FALSE(right(R"({"fact": "turn", "op": ">", "value": 50})"));
    CHECK(right(R"({"fact": "turn", "op": "<=", "value": 50})"));
    CHECK_FALSE(right(R"({"fact": "turn", "op": "<", "value": 50})"));
    CHECK(right(R"({"fact": "left_kick", "op": ">", "than": "right_kick"})"));
    CHECK(right(R"({"fact": "left_kick", "op": ">", "than": "right_kick", "plus": 0.7})"));
    CHECK_FALSE(right(R"({"fact": "left_kick", "op": ">", "than": "right_kick", "plus": 0.9})"));
    CHECK_FALSE(right(R"({"fact": "left_kick", "op": ">", "than": "right_kick", "times": 10})"));
    const std::string no = R"({"fact": "turn", "op": "<", "value": 0})";
    const std::string yes = R"({"fact": "turn", "op": ">", "value": 0})";
    CHECK(right(R"({"any": [)" + no + "," + yes + "]}"));
    CHECK_FALSE(right(R"({"any": [)" + no + "]}"));
    CHECK_FALSE(right(yes + "," + no));

    const FactVerdict v = judge_alone(no + "," + R"({"any": [)" + no + "," + no + "]}", f);
    REQUIRE(v.failures.size() == 2);
    CHECK(v.failures[0] == "turn is 50, want < 0");
    CHECK(v.failures[1] == "turn is 50, want < 0 or turn is 50, want < 0");
}

TEST_CASE("fact checks: a check may look at the motion of another prompt") {
    const auto cases = parse_fact_cases(
        R"({"prompt": "run", "group": "speed", "checks": [{"fact": "speed_mean", "op": ">", "than_prompt": "walk", "times": 1.5}]})"
        "\n\n"
        R"({"prompt": "walk", "checks": [{"fact": "path", "op": ">", "value": 0}], "examples": {"categories": ["walk"], "match": "on foot|walks?", "without": "back"}})",
        "f");
    REQUIRE(cases.size() == 2);
    CHECK(cases[0].group == "speed");
    CHECK(cases[1].line == 3);
    CHECK(cases[1].examples.match == "on foot|walks?");
    CHECK(cases[1].examples.without == "back");
    MotionFacts run, walk;
    run.values = {{"speed_mean", 3}};
    walk.values = {{"speed_mean", 1}};
    auto of = [&](const MotionFacts& other) {
        return judge(cases[0], run, [&](const std::string& prompt) -> const MotionFacts& {
            CHECK(prompt == "walk");
            return other;
        });
    };
    CHECK(of(walk).right);
    CHECK_FALSE(of(run).right);
    CHECK(of(run).failures[0] == "speed_mean is 3, want > 4.5 (from \"walk\")");
}

TEST_CASE("fact checks: every broken line is one error with file and line") {
    const std::string good =
        R"({"prompt": "a", "checks": [{"fact": "turn", "op": ">", "value": 1}]})";
    auto with = [](const std::string& checks) {
        return R"({"prompt": "b", "checks": )" + checks + "}";
    };
    const std::pair<std::string, const char*> broken[] = {
        {"{", "not a JSON object"},
        {"[1]", "has to be an object"},
        {"\"text\"", "has to be an object"},
        {std::string(200000, '['), "not a JSON object"},
        {R"({"prompt": "b"})", "\"checks\" is missing"},
        {R"({"checks": []})", "\"prompt\" is missing"},
        {R"({"prompt": "", "checks": []})", "not empty"},
        {R"({"prompt": 3, "checks": []})", "has to be a text"},
        {R"({"prompt": "b", "cheks": []})", "no key \"cheks\""},
        {good, "is here twice"},
        {with("[]"), "at least one check"},
        {with("{}"), "at least one check"},
        {with("[3]"), "has to be an object"},
        {with(R"([{"fact": "charm", "op": ">", "value": 1}])"), "no fact is called \"charm\""},
        {with(R"([{"fact": "turn", "op": "=", "value": 1}])"), "\"op\" is \"=\""},
        {with(R"([{"fact": "turn", "op": ">"}])"), "one of \"value\""},
        {with(R"([{"fact": "turn", "op": ">", "value": 1, "than": "turn"}])"), "one of \"value\""},
        {with(R"([{"fact": "turn", "op": ">", "value": "1"}])"), "finite number"},
        {with(R"([{"fact": "turn", "op": ">", "value": 1e999}])"), "not a JSON object"},
        {with(R"([{"fact": "turn", "op": ">", "value": NaN}])"), "not a JSON object"},
        {with(R"([{"fact": "turn", "op": ">", "value": 1, "plus": 2}])"), "go with"},
        {with(R"([{"fact": "turn", "op": ">", "value": 1, "unit": "deg"}])"), "no key \"unit\""},
        {with(R"([{"fact": "turn", "op": ">", "than_prompt": "c"}])"), "which no line asks for"},
        {with(R"([{"fact": "turn", "op": ">", "than_prompt": "b"}])"), "is the prompt itself"},
        {with(R"([{"any": []}])"), "at least one check"},
        {with(R"([{"any": [{"fact": "turn", "op": ">", "value": 1}], "op": ">"}])"),
         "no other keys"},
        {R"({"prompt": "b", "checks": [{"fact": "turn", "op": ">", "value": 1}], "examples": {"categories": ["x"], "match": "("}})",
         "not a regular expression"},
        {R"({"prompt": "b", "checks": [{"fact": "turn", "op": ">", "value": 1}], "examples": {"match": "x"}})",
         "\"categories\""},
        {"\xff\xfe", "not a JSON object"},
    };
    for (const auto& [line, what] : broken) {
        CAPTURE(line.substr(0, 120));
        try {
            parse_fact_cases(good + "\n" + line + "\n", "file.jsonl");
            FAIL("accepted");
        } catch (const mc::Error& e) {
            const std::string text = e.what();
            CAPTURE(text);
            CHECK(text.starts_with("file.jsonl:2: "));
            CHECK(text.find(what) != std::string::npos);
            CHECK(text.find('\n') == std::string::npos);
        }
    }
    std::string deep = R"({"fact": "turn", "op": ">", "value": 1})";
    for (int i = 0; i < 20; ++i) deep = R"({"any": [)" + deep + "]}";
    CHECK_THROWS_WITH_AS(parse_fact_cases(with("[" + deep + "]"), "f"),
                         doctest::Contains("too deep"), mc::Error);
    CHECK_THROWS_WITH_AS(parse_fact_cases("\n \n", "f"), "f: no line has a prompt", mc::Error);
    CHECK_THROWS_AS(read_fact_cases("no/such/file.jsonl"), mc::Error);
}

TEST_CASE("fact checks: lines may end as on Windows") {
    mc::testing::ScratchDir scratch;
    const auto path = scratch.path / "facts.jsonl";
    std::ofstream(path, std::ios::binary)
        << R"({"prompt": "a", "checks": [{"fact": "turn", "op": ">", "value": 1}]})"
        << "\r\n\r\n";
    CHECK(read_fact_cases(path).size() == 1);
}
