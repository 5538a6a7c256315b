#include "train/reference_case.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

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
            number = 10 * number + (c - '0');
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

double ReferenceCase::config(const std::string& key) const {
    return nlohmann::json::parse(file_.metadata().at("config")).at(key).get<double>();
}

double ReferenceCase::info(const std::string& name, const std::string& key) const {
    const auto found = file_.metadata().find("info:" + name);
    if (found == file_.metadata().end()) return 0;
    return nlohmann::json::parse(found->second).value(key, 0.0);
}

Comparison ReferenceCase::compare(const std::string& name, const Tensor& ours,
                                  double factor) const {
    Comparison result;
    result.name = name;
    const std::string wide =
        name.starts_with("output.") ? "output64." + name.substr(7) : std::string();
    std::vector<double> want, got;
    if (!wide.empty() && has(wide)) {
        want = values(wide);
    } else if (has(name)) {
        want = values(name);
    } else {
        const auto found = file_.metadata().find("info:" + name);
        if (found == file_.metadata().end() || !has(name + ".slice"))
            throw Error(fmt::format("[reference] {} has no {}", file_.path().string(), name));
        const auto ranges = parse_slice(nlohmann::json::parse(found->second).value("slice", ""));
        if (static_cast<int>(ranges.size()) != ours.dims())
            throw Error("[reference] " + name + " is recorded with another rank than " +
                        ours.shape().str());
        want = values(name + ".slice");
        got = picked(ours, ranges);
    }
    if (got.empty()) got = ours.to(DType::f64).to_vector<double>();
    if (got.size() != want.size())
        throw Error(
            fmt::format("[reference] {} has {} values, ours {}", name, want.size(), got.size()));
    const double rounding = info(name, "maxabs") * std::ldexp(1.0, -23);
    result.allowed = factor * info(name, "maxabsdiff64") + 2 * rounding;
    for (size_t i = 0; i < got.size(); ++i) {
        const double gap = std::abs(got[i] - want[i]);
        if (std::isnan(gap)) {
            result.gap = gap;
            return result;
        }
        result.gap = std::max(result.gap, gap);
    }
    if (!has(name + ".stats") || !result.fits()) return result;
    const std::vector<double> stats = values(name + ".stats");
    double sum = 0, magnitude = 0, squares = 0;
    for (const double x : ours.to(DType::f64).to_vector<double>()) {
        sum += x;
        magnitude += std::abs(x);
        squares += x * x;
    }
    // A deviation of root mean square r moves a sum of n by at most n r, the norm by sqrt(n) r.
    const double n = static_cast<double>(ours.numel());
    const double r = factor * info(name, "rmsdiff64") + rounding;
    auto check = [&](const char* what, double gap, double allowed) {
        if (!result.fits() || gap <= allowed) return;
        result.worst = what;
        result.gap = gap;
        result.allowed = allowed;
    };
    check("sum", std::abs(sum - stats[0]), n * r);
    check("sum of magnitudes", std::abs(magnitude - stats[1]), n * r);
    check("L2 norm", std::abs(std::sqrt(squares) - stats[2]), std::sqrt(n) * r);
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
