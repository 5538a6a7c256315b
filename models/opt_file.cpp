#include "models/opt_file.h"

#include <fmt/format.h>

#include <charconv>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "kernels/error.h"

namespace mc {
namespace {

constexpr size_t kMostBytes = size_t{1} << 20;  // real ones have two kilobytes

std::string stripped(const std::string& text) {
    const size_t begin = text.find_first_not_of(" \t\r\n");
    if (begin == std::string::npos) return "";
    return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

}  // namespace

const std::string* OptFile::find(const std::string& key) const {
    const auto found = values_.find(key);
    return found == values_.end() ? nullptr : &found->second;
}

void OptFile::fail(const std::string& key, const std::string& what) const {
    throw Error(fmt::format("{}: {}: {}", source_, key, what));
}

std::string OptFile::text(const std::string& key,
                          const std::optional<std::string>& fallback) const {
    if (const std::string* value = find(key)) return *value;
    if (!fallback) fail(key, "is missing");
    return *fallback;
}

int64_t OptFile::integer(const std::string& key, std::optional<int64_t> fallback) const {
    const std::string* value = find(key);
    if (!value && fallback) return *fallback;
    if (!value) fail(key, "is missing");
    int64_t number = 0;
    const auto read = std::from_chars(value->data(), value->data() + value->size(), number);
    if (read.ec != std::errc() || read.ptr != value->data() + value->size())
        fail(key, "is \"" + *value + "\", want a whole number");
    return number;
}

double OptFile::number(const std::string& key, std::optional<double> fallback) const {
    const std::string* value = find(key);
    if (!value && fallback) return *fallback;
    if (!value) fail(key, "is missing");
    char* end = nullptr;
    const double number = std::strtod(value->c_str(), &end);
    if (value->empty() || *end != '\0') fail(key, "is \"" + *value + "\", want a number");
    return number;
}

bool OptFile::flag(const std::string& key, std::optional<bool> fallback) const {
    const std::string* value = find(key);
    if (!value && fallback) return *fallback;
    if (!value) fail(key, "is missing");
    if (*value != "True" && *value != "False")
        fail(key, "is \"" + *value + "\", want True or False");
    return *value == "True";
}

OptFile parse_opt_file(const std::string& text, const std::string& source) {
    std::map<std::string, std::string> values;
    std::istringstream lines(text);
    std::string line;
    for (int64_t number = 1; std::getline(lines, line); ++number) {
        const std::string whole = stripped(line);
        // The originals' reader fails on an empty line (QUIRK Q2).
        if (whole.empty() || whole == "------------ Options -------------" ||
            whole == "-------------- End ----------------")
            continue;
        const size_t colon = line.find(": ");
        if (colon == std::string::npos)
            throw Error(fmt::format("{}:{}: \"{}\" is no \"key: value\"", source, number,
                                    whole.substr(0, 60)));
        const std::string key = stripped(line.substr(0, colon));
        if (!values.emplace(key, stripped(line.substr(colon + 2))).second)
            throw Error(fmt::format("{}:{}: {} stands here twice", source, number, key));
    }
    return OptFile(source, std::move(values));
}

OptFile read_opt_file(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw Error(path.string() + ": cannot be opened");
    std::string text(kMostBytes + 1, '\0');
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<size_t>(file.gcount()));
    if (text.size() > kMostBytes) throw Error(path.string() + ": is too large for an opt.txt");
    return parse_opt_file(text, path.string());
}

}  // namespace mc
