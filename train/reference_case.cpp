#include "train/reference_case.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "tensor/formats/json_limit.h"

namespace mc::train {
namespace {

// "[0:2:1,0:512:3]" -> {{0, 2, 1}, {0, 512, 3}}
std::vector<std::array<int64_t, 3>> parse_slice(const std::string& text) {
    std::vector<std::array<int64_t, 3>> ranges;
    std::array<int64_t, 3> range{};
    size_t part = 0;
    int64_t number = 0;
    for (const char c : text) {
        if (c >= '0' && c <= '9') {
            number = std::min<int64_t>(10 * number + (c - '0'), int64_t{1} << 50);
        } else if (c == ':' || c == ',' || c == ']') {
            if (part > 2) throw Error("[reference] slice " + text + " is not [a:b:c,...]");
            range[part++] = number;
            number = 0;
            if (c == ':') continue;
            if (part != 3 || range[2] < 1)
                throw Error("[reference] slice " + text + " is not [a:b:c,...]");
            ranges.push_back(range);
            part = 0;
        }
    }
    return ranges;
}

std::vector<double> picked(const Tensor& x, const std::vector<std::array<int64_t, 3>>& ranges) {
    const std::vector<double> all = x.to(DType::f64).to_vector<double>();
    std::vector<int64_t> offsets{0};
    for (size_t d = 0; d < ranges.size(); ++d) {
        const int64_t size = x.size(static_cast<int>(d));
        std::vector<int64_t> next;
        for (const int64_t base : offsets)
            for (int64_t i = ranges[d][0]; i < std::min(ranges[d][1], size); i += ranges[d][2])
                next.push_back(base * size + i);
        offsets = std::move(next);
    }
    std::vector<double> out;
    out.reserve(offsets.size());
    for (const int64_t at : offsets) out.push_back(all[static_cast<size_t>(at)]);
    return out;
}

}  // namespace

std::string Comparison::text() const {
    return fmt::format("{}: {} off by {:.3g}, allowed {:.3g}", name, worst, gap, allowed);
}

std::string wide_name(const std::string& name) {
    return name.starts_with("output.") ? "output64." + name.substr(7) : std::string();
}

std::string ReferenceCase::metadata(const std::string& key) const {
    const auto found = file_.metadata().find(key);
    return found == file_.metadata().end() ? std::string() : found->second;
}

std::string ReferenceCase::name() const {
    const std::string name = metadata("case");
    if (name.empty())
        throw Error("[reference] " + file_.path().string() +
                    ": its metadata names no case; is it a recorded reference case?");
    return name;
}

bool ReferenceCase::recorded(const std::string& name) const {
    const std::string wide = wide_name(name);
    return has(name) || has(name + ".slice") || (!wide.empty() && has(wide));
}

std::vector<double> ReferenceCase::values(const std::string& name) const {
    const Tensor t = get(name);
    if (t.dtype() == DType::i64 || t.dtype() == DType::i32) {
        const std::vector<int64_t> ids = integers(name);
        return {ids.begin(), ids.end()};
    }
    return t.to(DType::f64).to_vector<double>();
}

std::vector<float> ReferenceCase::floats(const std::string& name) const {
    const std::vector<double> all = values(name);
    return {all.begin(), all.end()};
}

std::vector<int64_t> ReferenceCase::integers(const std::string& name) const {
    const Tensor t = get(name);
    if (t.dtype() == DType::i64) return t.to_vector<int64_t>();
    const std::vector<int32_t> narrow = t.to_vector<int32_t>();
    return {narrow.begin(), narrow.end()};
}

namespace {

// A value of the settings by key or pointer; null if there is none.
nlohmann::json setting(const SafetensorsFile& file, const std::string& key) {
    const auto text = file.metadata().find("config");
    const auto settings = text == file.metadata().end()
                              ? nlohmann::json()
                              : nlohmann::json::parse(text->second, json_depth_limit(), false);
    if (!settings.is_object())
        throw Error("[reference] " + file.path().string() + ": its metadata has no usable config");
    if (!key.starts_with("/")) return settings.value(key, nlohmann::json());
    const nlohmann::json::json_pointer pointer(key);
    return settings.contains(pointer) ? settings.at(pointer) : nlohmann::json();
}

nlohmann::json info_of(const SafetensorsFile& file, const std::string& name) {
    const auto found = file.metadata().find("info:" + name);
    if (found == file.metadata().end()) return nlohmann::json::object();
    const auto info = nlohmann::json::parse(found->second, json_depth_limit(), false);
    if (!info.is_object())
        throw Error("[reference] " + file.path().string() + ": info:" + name + " is not an object");
    return info;
}

}  // namespace

double ReferenceCase::config(const std::string& key) const {
    const nlohmann::json value = setting(file_, key);
    if (!value.is_number())
        throw Error("[reference] " + file_.path().string() + ": its config has no number " + key);
    return value.get<double>();
}

double ReferenceCase::config(const std::string& key, double otherwise) const {
    const nlohmann::json value = setting(file_, key);
    return value.is_number() ? value.get<double>() : otherwise;
}

int64_t ReferenceCase::size(const std::string& key) const {
    const double value = config(key);
    if (!(value >= 1 && value <= 1e6) || value != std::floor(value))
        throw Error(fmt::format("[reference] {}: its config has {} {}, want a size of 1 to 1000000",
                                file_.path().string(), key, value));
    return static_cast<int64_t>(value);
}

std::string ReferenceCase::text(const std::string& key) const {
    const nlohmann::json value = setting(file_, key);
    return value.is_string() ? value.get<std::string>() : std::string();
}

double ReferenceCase::info(const std::string& name, const std::string& key) const {
    const nlohmann::json info = info_of(file_, name);
    const auto found = info.find(key);
    return found != info.end() && found->is_number() ? found->get<double>() : 0.0;
}

std::vector<int64_t> ReferenceCase::shape(const std::string& name) const {
    const nlohmann::json info = info_of(file_, name);
    if (info.contains("shape") && info["shape"].is_array()) {
        std::vector<int64_t> sizes;
        for (const auto& size : info["shape"])
            sizes.push_back(size.is_number_integer() ? size.get<int64_t>() : -1);
        return sizes;
    }
    for (const std::string& form : {name, wide_name(name)})
        if (const SafetensorsEntry* entry = file_.find(form)) return entry->shape;
    throw Error("[reference] " + file_.path().string() + " does not say the shape of " + name);
}

double ReferenceCase::own_error(const std::string& name) const {
    const std::string wide = wide_name(name);
    if (info_of(file_, name).contains("maxabsdiff64") || wide.empty() || !has(wide) || !has(name))
        return info(name, "maxabsdiff64");
    const std::vector<double> narrow = values(name), exact = values(wide);
    double error = 0;
    for (size_t i = 0; i < std::min(narrow.size(), exact.size()); ++i)
        error = std::max(error, std::abs(narrow[i] - exact[i]));
    return error;
}

std::vector<double> ReferenceCase::sliced(const std::string& name, const Tensor& whole) const {
    if (!has(name + ".slice")) return whole.to(DType::f64).to_vector<double>();
    const nlohmann::json info = info_of(file_, name);
    if (!info.contains("slice") || !info["slice"].is_string())
        throw Error(fmt::format("[reference] {} does not say which slice of {} it has",
                                file_.path().string(), name));
    const auto ranges = parse_slice(info["slice"].get<std::string>());
    if (static_cast<int>(ranges.size()) != whole.dims())
        throw Error("[reference] " + name + " is recorded with another rank than " +
                    whole.shape().str());
    return picked(whole, ranges);
}

Comparison ReferenceCase::compare(const std::string& name, const Tensor& ours,
                                  double factor) const {
    Comparison result;
    result.name = name;
    result.factor = factor;
    const std::string wide = wide_name(name);
    std::vector<double> want, got;
    if (!wide.empty() && has(wide)) {
        want = values(wide);
        got = ours.to(DType::f64).to_vector<double>();
    } else if (has(name)) {
        want = values(name);
        got = ours.to(DType::f64).to_vector<double>();
    } else if (has(name + ".slice")) {
        want = values(name + ".slice");
        got = sliced(name, ours);
    } else {
        throw Error(fmt::format("[reference] {} has no {}", file_.path().string(), name));
    }
    if (got.size() != want.size())
        throw Error(
            fmt::format("[reference] {} has {} values, ours {}", name, want.size(), got.size()));
    double largest = info(name, "maxabs");
    for (const double x : want) largest = std::max(largest, std::abs(x));
    const double rounding = largest * std::ldexp(1.0, -23);
    result.reference = own_error(name);
    result.allowed = factor * result.reference + 2 * rounding;
    for (size_t i = 0; i < got.size(); ++i) {
        const double gap = std::abs(got[i] - want[i]);
        if (std::isnan(gap)) {
            result.gap = result.relative = gap;
            return result;
        }
        result.gap = std::max(result.gap, gap);
    }
    result.relative = largest > 0 ? result.gap / largest : result.gap;
    if (!has(name + ".stats") || !result.fits()) return result;
    const std::vector<double> stats = values(name + ".stats");
    if (stats.size() != 3)
        throw Error("[reference] " + name +
                    ".stats has not the three numbers sum, magnitude, norm");
    double sum = 0, magnitude = 0, squares = 0;
    for (const double x : ours.to(DType::f64).to_vector<double>()) {
        sum += x;
        magnitude += std::abs(x);
        squares += x * x;
    }
    // A deviation of root mean square r moves a sum of n by at most n r, the norm by sqrt(n) r.
    const double n = static_cast<double>(ours.numel());
    const double r = factor * info(name, "rmsdiff64") + rounding;
    auto check = [&](const char* what, double gap, double count, double recorded) {
        const double allowed = count * r;
        if (!result.fits() || gap <= allowed) return;
        result.worst = what;
        result.gap = gap;
        result.relative = std::abs(recorded) > 0 ? gap / std::abs(recorded) : gap;
        result.reference = count * info(name, "rmsdiff64");
        result.allowed = allowed;
    };
    check("sum", std::abs(sum - stats[0]), n, stats[0]);
    check("sum of magnitudes", std::abs(magnitude - stats[1]), n, stats[1]);
    check("L2 norm", std::abs(std::sqrt(squares) - stats[2]), std::sqrt(n), stats[2]);
    return result;
}

int64_t ReferenceCase::different(const std::string& name, const Tensor& ours) const {
    const std::vector<int64_t> want = integers(name), got = ours.to_vector<int64_t>();
    if (want.size() != got.size())
        throw Error(
            fmt::format("[reference] {} has {} ids, ours {}", name, want.size(), got.size()));
    int64_t count = 0;
    for (size_t i = 0; i < want.size(); ++i) count += want[i] != got[i];
    return count;
}

}  // namespace mc::train
