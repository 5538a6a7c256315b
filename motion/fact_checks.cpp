#include "motion/fact_checks.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <initializer_list>
#include <memory>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <span>
#include <utility>

#include "kernels/error.h"
#include "tensor/formats/json_limit.h"
#include "tensor/formats/mapped_file.h"

namespace mc::motion {
namespace {

using nlohmann::json;

constexpr std::array<const char*, 4> kOpText{">=", "<=", ">", "<"};  // in FactOp's order
constexpr int kMaxDepth = 8;                                         // of "any" in "any"

// One line of a file; says where in every error.
struct Reader {
    std::string place;

    [[noreturn]] void fail(const std::string& what) const {
        throw Error(fmt::format("{}: {}", place, what));
    }

    void check_keys(const json& object, const char* of,
                    std::initializer_list<const char*> known) const {
        if (!object.is_object()) fail(fmt::format("a {} has to be an object {{...}}", of));
        for (const auto& [key, value] : object.items()) {
            bool found = false;
            std::string names;
            for (const char* k : known) {
                found = found || key == k;
                names += (names.empty() ? "" : ", ") + std::string(k);
            }
            if (!found) fail(fmt::format("a {} has no key \"{}\"; it has {}", of, key, names));
        }
    }

    std::string text(const json& object, const char* key, bool required) const {
        const auto it = object.find(key);
        if (it == object.end()) {
            if (required) fail(fmt::format("\"{}\" is missing", key));
            return "";
        }
        if (!it->is_string() || it->get_ref<const std::string&>().empty())
            fail(fmt::format("\"{}\" has to be a text that is not empty", key));
        return it->get<std::string>();
    }

    double number(const json& object, const char* key, double otherwise) const {
        const auto it = object.find(key);
        if (it == object.end()) return otherwise;
        if (!it->is_number() || !std::isfinite(it->get<double>()))
            fail(fmt::format("\"{}\" has to be a finite number", key));
        return it->get<double>();
    }

    std::string fact(const json& object, const char* key) const {
        const std::string name = text(object, key, true);
        if (!is_fact(name))
            fail(fmt::format("no fact is called \"{}\"; `evaluate --list-facts` shows all", name));
        return name;
    }

    FactCheck check(const json& object, int depth) const {
        check_keys(object, "check",
                   {"fact", "op", "value", "than", "than_prompt", "times", "plus", "any"});
        FactCheck c;
        if (object.contains("any")) {
            if (object.size() != 1) fail("a check with \"any\" has no other keys");
            if (depth >= kMaxDepth) fail("\"any\" inside \"any\" too deep");
            c.any = checks(object["any"], "any", depth + 1);
            return c;
        }
        c.fact = fact(object, "fact");
        const std::string op = text(object, "op", true);
        size_t i = 0;
        while (i < kOpText.size() && op != kOpText[i]) ++i;
        if (i == kOpText.size())
            fail(fmt::format("\"op\" is \"{}\"; it has to be >=, <=, > or <", op));
        c.op = static_cast<FactOp>(i);
        const int bounds = static_cast<int>(object.count("value") + object.count("than") +
                                            object.count("than_prompt"));
        if (bounds != 1) fail("a check has one of \"value\", \"than\" and \"than_prompt\"");
        c.value = number(object, "value", 0);
        if (object.contains("than")) c.than = fact(object, "than");
        c.than_prompt = text(object, "than_prompt", false);
        if (object.contains("value") && (object.contains("times") || object.contains("plus")))
            fail("\"times\" and \"plus\" go with \"than\" and \"than_prompt\" alone");
        c.times = number(object, "times", 1);
        c.plus = number(object, "plus", 0);
        return c;
    }

    std::vector<FactCheck> checks(const json& list, const char* key, int depth) const {
        if (!list.is_array() || list.empty())
            fail(fmt::format("\"{}\" has to be a list of at least one check", key));
        std::vector<FactCheck> out;
        for (const json& c : list) out.push_back(check(c, depth));
        return out;
    }

    std::string pattern(const json& object, const char* key) const {
        const std::string regex = text(object, key, false);
        try {
            std::regex compiled(regex);
        } catch (const std::regex_error&) {
            fail(fmt::format("\"{}\" is not a regular expression: {}", key, regex));
        }
        return regex;
    }

    FactExamples examples(const json& object) const {
        check_keys(object, "list of examples", {"categories", "match", "without"});
        FactExamples e;
        const auto it = object.find("categories");
        if (it == object.end() || !it->is_array() || it->empty())
            fail("\"categories\" has to be a list of at least one name");
        for (const json& name : *it) {
            if (!name.is_string()) fail("\"categories\" has to be a list of names");
            e.categories.push_back(name.get<std::string>());
        }
        e.match = pattern(object, "match");
        e.without = pattern(object, "without");
        return e;
    }

    FactCase fact_case(const std::string& line) const {
        json object;
        try {
            object = json::parse(line, json_depth_limit());
        } catch (const json::exception&) {
            fail("not a JSON object on one line");
        } catch (const Error&) {  // nested too deep
            fail("not a JSON object on one line");
        }
        check_keys(object, "case", {"prompt", "group", "checks", "examples"});
        FactCase c;
        c.prompt = text(object, "prompt", true);
        c.group = text(object, "group", false);
        if (!object.contains("checks")) fail("\"checks\" is missing");
        c.checks = checks(object["checks"], "checks", 0);
        if (object.contains("examples")) c.examples = examples(object["examples"]);
        return c;
    }
};

void check_prompts(const std::vector<FactCheck>& checks, const std::string& own,
                   const std::set<std::string>& prompts, const Reader& reader) {
    for (const FactCheck& c : checks) {
        check_prompts(c.any, own, prompts, reader);
        if (c.than_prompt.empty()) continue;
        if (c.than_prompt == own) reader.fail("\"than_prompt\" is the prompt itself");
        if (!prompts.contains(c.than_prompt))
            reader.fail(
                fmt::format("\"than_prompt\" is \"{}\", which no line asks for", c.than_prompt));
    }
}

bool compare(double got, FactOp op, double want) {
    switch (op) {
        case FactOp::kAtLeast:
            return got >= want;
        case FactOp::kAtMost:
            return got <= want;
        case FactOp::kAbove:
            return got > want;
        default:
            return got < want;
    }
}

// What is wrong, or nothing.
std::string failure(const FactCheck& check, const MotionFacts& facts,
                    const std::function<const MotionFacts&(const std::string&)>& of_prompt) {
    if (!check.any.empty()) {
        std::string all;
        for (const FactCheck& c : check.any) {
            const std::string one = failure(c, facts, of_prompt);
            if (one.empty()) return "";
            all += (all.empty() ? "" : " or ") + one;
        }
        return all;
    }
    const double got = facts.at(check.fact);
    double want = check.value;
    std::string origin;
    if (!check.than.empty()) {
        want = check.times * facts.at(check.than) + check.plus;
        origin = fmt::format(" (from {})", check.than);
    } else if (!check.than_prompt.empty()) {
        want = check.times * of_prompt(check.than_prompt).at(check.fact) + check.plus;
        origin = fmt::format(" (from \"{}\")", check.than_prompt);
    }
    if (compare(got, check.op, want)) return "";
    return fmt::format("{} is {:.3g}, want {} {:.3g}{}", check.fact, got,
                       kOpText[static_cast<size_t>(check.op)], want, origin);
}

}  // namespace

std::vector<FactCase> parse_fact_cases(std::string_view text, const std::string& source) {
    std::vector<FactCase> cases;
    std::set<std::string> prompts;
    auto reader_of = [&](int64_t line) { return Reader{fmt::format("{}:{}", source, line)}; };
    int64_t number = 0;
    for (size_t from = 0; from < text.size();) {
        const size_t end = std::min(text.find('\n', from), text.size());
        const std::string line(text.substr(from, end - from));
        from = end + 1;
        ++number;
        if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
        const Reader reader = reader_of(number);
        FactCase c = reader.fact_case(line);
        c.line = number;
        if (!prompts.insert(c.prompt).second)
            reader.fail(fmt::format("the prompt \"{}\" is here twice", c.prompt));
        cases.push_back(std::move(c));
    }
    if (cases.empty()) throw Error(fmt::format("{}: no line has a prompt", source));
    for (const FactCase& c : cases) check_prompts(c.checks, c.prompt, prompts, reader_of(c.line));
    return cases;
}

std::vector<FactCase> read_fact_cases(const std::filesystem::path& path) {
    const std::shared_ptr<const MappedFile> file = MappedFile::open(path);
    const std::span<const std::byte> bytes = file->bytes();
    if (bytes.size() > kMaxFactFileBytes)
        throw Error(fmt::format("{}: has {} bytes, at most {} are read", path.string(),
                                bytes.size(), kMaxFactFileBytes));
    return parse_fact_cases({reinterpret_cast<const char*>(bytes.data()), bytes.size()},
                            path.string());
}

FactVerdict judge(const FactCase& fact_case, const MotionFacts& facts,
                  const std::function<const MotionFacts&(const std::string&)>& of_prompt) {
    FactVerdict verdict;
    for (const FactCheck& check : fact_case.checks) {
        std::string what = failure(check, facts, of_prompt);
        if (what.empty()) continue;
        verdict.right = false;
        verdict.failures.push_back(std::move(what));
    }
    return verdict;
}

}  // namespace mc::motion
