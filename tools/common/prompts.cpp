#include "tools/common/prompts.h"

#include <fmt/format.h>

#include <fstream>
#include <iostream>
#include <string_view>

#include "kernels/error.h"
#include "models/clip/text_cleaning.h"
#include "tensor/formats/split.h"
#include "tensor/formats/utf8.h"

namespace mc::tools {
namespace {

constexpr size_t kMaxPromptBytes = 100000;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

std::vector<PromptLine> read_lines(std::istream& in, const std::string& name) {
    std::vector<PromptLine> prompts;
    std::string line;
    for (int64_t number = 1; std::getline(in, line); ++number) {
        if (number == 1 && line.starts_with(kByteOrderMark)) line.erase(0, kByteOrderMark.size());
        line = trimmed(line);
        if (line.empty()) continue;
        const std::string place = fmt::format("{}:{}", name, number);
        const size_t hash = line.rfind('#');
        const std::string text = trimmed(line.substr(0, hash));
        check_prompt(text, place);
        prompts.push_back(
            {text, hash == std::string::npos ? "" : trimmed(line.substr(hash + 1)), place});
    }
    if (in.bad()) throw Error(name + ": cannot be read");
    if (prompts.empty()) throw Error(name + ": has no prompt");
    return prompts;
}

}  // namespace

void check_prompt(const std::string& prompt, const std::string& place) {
    if (const auto at = clip::validate_utf8(prompt))
        throw Error(fmt::format("{}: the prompt is not UTF-8 (byte {}); save the text as UTF-8",
                                place, *at));
    if (prompt.size() > kMaxPromptBytes)
        throw Error(fmt::format("{}: the prompt has {} bytes, at most {} are read", place,
                                prompt.size(), kMaxPromptBytes));
    if (!clip::has_letter(prompt))
        throw Error(fmt::format("{}: the prompt \"{}\" has no word; say what the person does",
                                place, printable(prompt)));
}

std::vector<PromptLine> read_prompts(const std::filesystem::path& path) {
    if (path == "-") return read_lines(std::cin, "standard input");
    std::ifstream file(path);
    if (!file) throw Error(path.string() + ": cannot be opened");
    return read_lines(file, path.string());
}

std::string script_warning(std::span<const PromptLine> prompts) {
    std::string first;
    int64_t count = 0;
    for (const PromptLine& prompt : prompts)
        if (!clip::is_latin(prompt.text) && count++ == 0) first = prompt.place;
    if (count == 0) return "";
    return fmt::format(
        "{}: {} not in Latin letters, and the text encoder has learnt English alone: expect a "
        "motion that has little to do with the words",
        first,
        count == 1 ? "the prompt is" : fmt::format("this prompt and {} more are", count - 1));
}

}  // namespace mc::tools
