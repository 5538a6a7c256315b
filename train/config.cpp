#include "train/config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>
#include <numeric>

#include "kernels/error.h"
#include "tensor/formats/json_limit.h"
#include "tensor/formats/split.h"

namespace mc::train {
namespace {

using Json = nlohmann::json;

// Levenshtein's distance.
size_t distance(const std::string& a, const std::string& b) {
    std::vector<size_t> row(b.size() + 1);
    std::iota(row.begin(), row.end(), size_t{0});
    for (size_t i = 1; i <= a.size(); ++i) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b.size(); ++j) {
            const size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
        }
    }
    return row.back();
}

void collect_keys(const Json& config, const std::string& prefix, std::vector<std::string>& out) {
    for (const auto& [key, value] : config.items()) {
        if (value.is_object() && !value.empty())
            collect_keys(value, prefix + key + ".", out);
        else
            out.push_back(prefix + key);
    }
}

const char* type_name(const Json& value) {
    if (value.is_boolean()) return "true or false";
    if (value.is_number_integer()) return "a whole number";
    if (value.is_number()) return "a number";
    if (value.is_string()) return "a text";
    if (value.is_array()) return "a list";
    if (value.is_object()) return "a group of keys";
    return "anything";
}

[[noreturn]] void wrong_type(const std::string& source, const std::string& key, const Json& value,
                             const Json& like) {
    // A text from the command line may be no UTF-8.
    const std::string got = value.dump(-1, ' ', false, Json::error_handler_t::replace);
    throw Error(fmt::format("{}: '{}' got {}, want {} (such as {})", source, key, got,
                            type_name(like), like.dump()));
}

// `value` as the type of `like`; whole numbers serve as numbers, elements of a list follow its
// first.
Json convert(const std::string& source, const std::string& key, const Json& value,
             const Json& like) {
    if (like.is_null()) return value;
    if (like.is_number_float() && value.is_number()) {
        if (!std::isfinite(value.get<double>())) wrong_type(source, key, value, like);
        return value.get<double>();
    }
    if (like.is_array() && value.is_array()) {
        Json out = Json::array();
        for (const Json& element : value)
            out.push_back(like.empty() ? element : convert(source, key, element, like[0]));
        return out;
    }
    const bool same = (like.is_boolean() && value.is_boolean()) ||
                      (like.is_number_integer() && value.is_number_integer()) ||
                      (like.is_string() && value.is_string());
    if (!same) wrong_type(source, key, value, like);
    return value;
}

// The text of a setting as JSON, guided by the type it should have.
Json parse_text(const std::string& text, const Json& like) {
    if (like.is_string()) return text;
    if (like.is_boolean()) {
        for (const char* yes : {"true", "on", "yes", "1"})
            if (text == yes) return true;
        for (const char* no : {"false", "off", "no", "0"})
            if (text == no) return false;
        return text;
    }
    if (like.is_array() && !text.starts_with('[')) {
        Json list = Json::array();
        if (text.empty()) return list;
        for (const std::string& part : split(text, ','))
            list.push_back(parse_text(part, like.empty() ? Json() : like[0]));
        return list;
    }
    if (like.is_number_float()) {  // also "1." and ".5", which are not JSON
        double number = 0;
        const auto end = text.data() + text.size();
        const auto result = std::from_chars(text.data(), end, number);
        if (result.ec == std::errc() && result.ptr == end && std::isfinite(number)) return number;
        return text;
    }
    const Json parsed = Json::parse(text, json_depth_limit(), false);
    return parsed.is_discarded() ? Json(text) : parsed;
}

[[noreturn]] void unknown_key(const std::string& source, const std::string& key,
                              const Json& config) {
    const auto keys = config_keys(config);
    const auto near = near_names(key, keys);
    throw Error(near.empty() ? fmt::format("{}: unknown key '{}'; there are: {}", source, key,
                                           fmt::join(keys, ", "))
                             : fmt::format("{}: unknown key '{}'; did you mean {}?", source, key,
                                           fmt::join(near, " or ")));
}

void merge(Json& group, const Json& overrides, const std::string& prefix, const Json& whole,
           const std::string& source) {
    for (const auto& [key, value] : overrides.items()) {
        const std::string name = prefix + key;
        const auto found = group.find(key);
        if (found == group.end()) unknown_key(source, name, whole);
        if (found->is_object()) {
            if (!value.is_object()) wrong_type(source, name, value, *found);
            merge(*found, value, name + ".", whole, source);
        } else {
            *found = convert(source, name, value, *found);
        }
    }
}

// What a setting may be, by the last part of its key. Of those that are not here whole numbers are
// 1 at least, others not negative; the preset's own value is right.
struct Range {
    const char* key;
    double least, most;
    bool below = false;  // `most` itself is too much
};
constexpr double kAny = std::numeric_limits<double>::infinity();
constexpr Range kRanges[] = {
    {"balance", 0, 1},
    {"beta1", 0, 1, true},
    {"beta2", 0, 1, true},
    {"cond_drop_prob", 0, 1},
    {"cross_layers", 0, kAny},
    {"depth", 1, 8},
    {"dilation_growth_rate", 1, 16},
    {"down_t", 1, 6},
    {"dropout", 0, 1, true},
    {"feat_bias_power", 0, kAny},
    {"frozen_share", 0, 1},
    {"gamma", 0, 1},
    {"held_out_percent", 1, 99},
    {"milestones", 0, kAny},
    {"motion_sentences", 0, kAny},
    {"motion_share", 0, 1},
    {"mu", 0, 1, true},
    {"padded_frames", 0, kAny},
    {"quantize_dropout_prob", 0, 1},
    {"reword_share", 0, 1},
    {"seed", 0, kAny},
    {"short_share", 0, 1},
    {"speed_change", 0, 1, true},
    {"warm_up", 0, kAny},
};

void check_number(const std::string& key, const Json& value) {
    const std::string name = key.substr(key.rfind('.') + 1);
    const auto listed = std::find_if(std::begin(kRanges), std::end(kRanges),
                                     [&](const Range& range) { return name == range.key; });
    const Range range = listed != std::end(kRanges)
                            ? *listed
                            : Range{nullptr, value.is_number_integer() ? 1.0 : 0.0, kAny};
    const double number = value.get<double>();
    if (number >= range.least && (range.below ? number < range.most : number <= range.most)) return;
    throw Error(range.most == kAny
                    ? fmt::format("{}={}: want {} or more", key, value.dump(), range.least)
                    : fmt::format("{}={}: want {} to {}{}", key, value.dump(), range.least,
                                  range.below ? "below " : "", range.most));
}

// `like`: the same of the preset, whose values are right by themselves.
void check_ranges(const Json& config, const Json& like, const std::string& prefix) {
    for (const auto& [key, value] : config.items()) {
        const std::string name = prefix + key;
        if (value == like.at(key)) continue;
        if (value.is_object() && like.at(key).is_object())
            check_ranges(value, like.at(key), name + ".");
        if (value.is_number()) check_number(name, value);
        if (!value.is_array()) continue;
        for (const Json& element : value) {
            if (element.is_number()) check_number(name, element);
            if (key == "milestones" && !element.is_number_integer())
                throw Error(fmt::format("{}={}: want whole numbers, of steps", name, value.dump()));
        }
    }
}

Json read_json(const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    if (!in || !std::filesystem::is_regular_file(path))
        throw Error(
            fmt::format("{}: cannot read the configuration; check the path", path.string()));
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    try {
        return Json::parse(text, json_depth_limit(), true, true);  // comments are welcome
    } catch (const Json::parse_error& e) {
        const std::string before = text.substr(0, e.byte);
        throw Error(fmt::format("{}: line {} is not JSON; look for a missing comma or quote",
                                path.string(), 1 + std::count(before.begin(), before.end(), '\n')));
    } catch (const Json::exception&) {  // of its kinds the parser throws one more
        throw Error(fmt::format("{}: a number is too large; keep below 1e308", path.string()));
    } catch (const Error& e) {
        throw Error(fmt::format("{}: {}; no configuration is", path.string(), e.what()));
    }
}

// What of `settings` has a key in `config`.
Json known_to(const Json& config, const Json& settings) {
    Json known = Json::object();
    for (const auto& [key, value] : settings.items()) {
        const auto there = config.find(key);
        if (there == config.end()) continue;
        known[key] = there->is_object() && value.is_object() ? known_to(*there, value) : value;
    }
    return known;
}

}  // namespace

std::vector<std::string> config_keys(const Json& config) {
    std::vector<std::string> keys;
    collect_keys(config, "", keys);
    return keys;
}

std::vector<std::string> near_names(const std::string& name,
                                    const std::vector<std::string>& names) {
    std::vector<std::pair<size_t, std::string>> near;
    for (const auto& candidate : names) {
        const std::string last = candidate.substr(candidate.rfind('.') + 1);
        size_t far = std::min(distance(name, candidate), distance(name, last) + 1);
        if (name.size() >= 3 && candidate.find(name) != std::string::npos)
            far = std::min<size_t>(far, 1);
        if (far <= std::max<size_t>(2, name.size() / 3)) near.emplace_back(far, candidate);
    }
    std::stable_sort(near.begin(), near.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    std::vector<std::string> out;
    for (size_t i = 0; i < std::min<size_t>(3, near.size()); ++i) out.push_back(near[i].second);
    return out;
}

Json without_nulls(Json config) {
    for (auto at = config.begin(); at != config.end();) {
        if (at->is_object()) *at = without_nulls(*at);
        at = at->is_null() ? config.erase(at) : std::next(at);
    }
    return config;
}

void merge_config(Json& config, const Json& overrides, const std::string& source) {
    if (!overrides.is_object())
        throw Error(fmt::format("{}: the configuration is not a JSON object", source));
    const Json whole = config;
    merge(config, overrides, "", whole, source);
}

void apply_setting(Json& config, const std::string& setting) {
    const size_t equals = setting.find('=');
    if (equals == std::string::npos || equals == 0)
        throw Error(fmt::format("--set {}: want KEY=VALUE, such as lr=1e-4", setting));
    const std::string key = setting.substr(0, equals);
    Json* at = &config;
    for (const std::string& part : split(key, '.')) {
        if (!at->is_object() || !at->contains(part)) unknown_key("--set", key, config);
        at = &(*at)[part];
    }
    if (at->is_object())
        throw Error(fmt::format("--set: '{}' is a group; set one of {}", key,
                                fmt::join(config_keys(*at), ", ")));
    *at = convert("--set", key, parse_text(setting.substr(equals + 1), *at), *at);
}

Json resolve_config(const std::vector<Preset>& presets, const std::string& preset,
                    const std::optional<std::filesystem::path>& file,
                    const std::vector<std::string>& settings, const Begun& begun) {
    const auto found = std::find_if(presets.begin(), presets.end(),
                                    [&](const Preset& p) { return p.name == preset; });
    if (found == presets.end()) {
        std::vector<std::string> names;
        for (const auto& p : presets) names.push_back(p.name);
        throw Error(fmt::format("no preset '{}'; there are: {}", preset, fmt::join(names, ", ")));
    }
    Json config = found->values;
    merge_config(config, known_to(config, begun.settings), begun.source);
    if (file) merge_config(config, read_json(*file), file->string());
    for (const auto& setting : settings) apply_setting(config, setting);
    check_ranges(config, found->values, "");
    return config;
}

}  // namespace mc::train
