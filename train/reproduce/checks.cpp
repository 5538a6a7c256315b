#include "train/reproduce/checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <regex>
#include <set>

#include "tensor/argmax.h"

namespace mc::train {
namespace {

// "output.x.slice", "output64.x", "output.x.stats" -> "output.x"
std::string base_name(std::string name) {
    for (const char* suffix : {".slice", ".stats"})
        if (name.ends_with(suffix)) name.resize(name.size() - std::strlen(suffix));
    return name.starts_with("output64.") ? "output." + name.substr(9) : name;
}

struct Fill {
    std::string key;
    bool integer = false;
    double scale = 1;        // of s, for floats
    int64_t n = 1, low = 0;  // floor(u n) + low, for integers
};

// A fill line that says everything; nothing for one that goes on in words.
std::optional<Fill> parse_fill(const std::string& line) {
    static const std::regex floats(R"(hash:(\S+);s\*([0-9.eE+-]+))");
    static const std::regex integers(R"(hash:(\S+);floor\(u\*([0-9]{1,15})\)\+(-?[0-9]{1,15}))");
    std::smatch match;
    if (std::regex_match(line, match, floats)) {
        char* end = nullptr;
        const std::string number = match[2];
        const double scale = std::strtod(number.c_str(), &end);
        if (*end != 0) return {};
        return Fill{match[1], false, scale, 1, 0};
    }
    if (std::regex_match(line, match, integers))
        return Fill{match[1], true, 1, std::stoll(match[2]), std::stoll(match[3])};
    return {};
}

Tensor filled(const Fill& fill, const Shape& shape) {
    return fill.integer ? hash_ids(fill.key, shape, fill.n, fill.low)
                        : hash_tensor(fill.key, shape, fill.scale);
}

}  // namespace

Tensor turned(const Tensor& x) {
    return x.transpose(1, 2);
}

std::vector<int64_t> likeliest(const Tensor& logits) {
    return argmax(logits).to_vector<int64_t>();
}

std::vector<int64_t> flags(const Tensor& mask) {
    const std::vector<bool> values = mask.to_vector<bool>();
    return {values.begin(), values.end()};
}

std::vector<int64_t> attended(const Tensor& hidden) {
    std::vector<int64_t> ones = flags(hidden);
    for (int64_t& flag : ones) flag = 1 - flag;
    return ones;
}

void Checks::fill(nn::Module& model, const std::string& prefix) const {
    fill_from_names(model, prefix);
    model.to(device_);
}

Tensor Checks::input(const std::string& name, const Shape& shape) const {
    if (recorded_.has(name)) return recorded_.get(name);
    const std::string line = recorded_.metadata("fill:" + name);
    const auto fill = parse_fill(line);
    if (!fill)
        throw Error(fmt::format("[reference] {} neither has {} nor says how to fill it",
                                recorded_.file().path().string(), name));
    return filled(*fill, shape);
}

std::vector<int64_t> Checks::lengths(const std::string& name) const {
    const std::vector<int64_t> lengths = recorded_.integers(name);
    for (const int64_t length : lengths)
        if (length < 1 || length > 1'000'000)
            throw Error(fmt::format("[reference] {}: {} holds a length of {}",
                                    recorded_.file().path().string(), name, length));
    if (lengths.empty())
        throw Error(
            fmt::format("[reference] {}: {} is empty", recorded_.file().path().string(), name));
    return lengths;
}

// NOTE [ Prefixes of draws ]
// The README: uniform u of the key that is the draw's listed name, "with the prefix named in the
// config's note". The note says it as "prefix 'P'", or by the name it gives to a draw, "hash
// Pnoise.step{k}"; the metrics' case says it of its choices.
std::string Checks::prefix() const {
    const std::string note = recorded_.text("note") + " " + recorded_.metadata("choice");
    static const std::regex named(R"([Pp]refix\s*['"]([^'"]*)['"])");
    static const std::regex by_use(R"(hash[\s(]+(?:u\()?([^\s()\[\]{}]*?)(noise|randn|draw)\.)");
    std::smatch match;
    if (std::regex_search(note, match, named)) return match[1];
    if (std::regex_search(note, match, by_use)) return match[1];
    return {};
}

HashUniforms Checks::draws(std::function<std::string(const std::string&)> key) const {
    const std::string first = prefix();
    if (first.empty() && !key) return HashUniforms();
    return HashUniforms([first, key = std::move(key)](
                            const std::string& name) { return first + (key ? key(name) : name); },
                        first + "randn.");
}

std::vector<std::string> Checks::modes(const std::string& last) const {
    std::vector<std::string> names;
    for (const SafetensorsEntry& entry : recorded_.file().entries())
        if (entry.name.starts_with("output.") && entry.name.ends_with("." + last) &&
            entry.name.size() > 8 + last.size())
            names.push_back(entry.name.substr(7, entry.name.size() - 8 - last.size()));
    return names;
}

double Checks::noted(const std::string& key, double otherwise) const {
    const std::string note = recorded_.text("note");
    const size_t at = note.find(key);
    return at == std::string::npos ? otherwise
                                   : std::strtod(note.c_str() + at + key.size(), nullptr);
}

CheckRow& Checks::add(const std::string& name) {
    compared_.push_back(base_name(name));
    rows_.emplace_back();
    rows_.back().tensor = name;
    return rows_.back();
}

void Checks::fail(const std::string& name, const std::string& why) {
    CheckRow& row = add(name);
    row.verdict = Verdict::failed;
    row.note = why;
}

void Checks::skip(const std::string& name, const std::string& why) {
    if (!wants(name)) return;
    CheckRow& row = add(name);
    row.verdict = Verdict::skipped;
    row.note = why;
}

void Checks::compare(const std::string& name, const Tensor& ours, double factor) {
    if (!wants(name)) return;
    CheckRow& row = add(name);
    try {
        const Comparison c = recorded_.compare(name, ours.cpu(), factor);
        row.worst = c.worst;
        row.absolute = c.gap;
        row.relative = c.relative;
        row.reference = c.reference;
        row.factor = factor;
        row.allowed = c.allowed;
        row.count = ours.numel();
        if (!c.fits()) {
            row.verdict = Verdict::failed;
            row.note = fmt::format("{} off by {:.3g}, allowed {:.3g}", c.worst, c.gap, c.allowed);
        }
    } catch (const Error& error) {
        row.verdict = Verdict::failed;
        row.note = error.what();
    }
}

void Checks::compare(const std::string& name, double ours) {
    compare(name, Tensor::full({}, ours, DType::f64));
}

void Checks::compare_values(const std::string& label, const std::vector<std::string>& names,
                            const std::vector<double>& ours, const std::vector<double>& want,
                            double reference, double factor) {
    CheckRow& row = add(label);
    for (const std::string& name : names) compared_.push_back(base_name(name));
    row.reference = reference;
    row.factor = factor;
    row.count = static_cast<int64_t>(want.size());
    if (ours.size() != want.size()) {
        row.verdict = Verdict::failed;
        row.note = fmt::format("{} values recorded, ours {}", want.size(), ours.size());
        return;
    }
    double largest = 0;
    for (size_t i = 0; i < want.size(); ++i) {
        largest = std::max(largest, std::abs(want[i]));
        const double gap = std::abs(ours[i] - want[i]);
        if (!(gap <= row.absolute)) row.absolute = gap;  // a NaN stays
        if (std::isnan(gap)) break;
    }
    row.relative = largest > 0 ? row.absolute / largest : row.absolute;
    row.allowed = factor * reference + 2 * largest * std::ldexp(1.0, -23);
    if (row.absolute <= row.allowed) return;
    row.verdict = Verdict::failed;
    row.note = fmt::format("off by {:.3g}, allowed {:.3g}", row.absolute, row.allowed);
}

void Checks::compare_columns(const std::string& name, const std::vector<std::string>& columns,
                             const std::vector<double>& ours) {
    if (!wants(name)) return;
    const std::string wide = wide_name(name);
    const std::vector<double> narrow = recorded_.values(name),
                              want = recorded_.has(wide) ? recorded_.values(wide) : narrow;
    if (want.size() != ours.size() || narrow.size() != want.size() ||
        want.size() % columns.size() != 0)
        return fail(name, fmt::format("{} values recorded, ours {}", want.size(), ours.size()));
    for (size_t c = 0; c < columns.size(); ++c) {
        std::vector<double> got_column, want_column;
        double reference = 0;
        for (size_t i = c; i < want.size(); i += columns.size()) {
            got_column.push_back(ours[i]);
            want_column.push_back(want[i]);
            reference = std::max(reference, std::abs(narrow[i] - want[i]));
        }
        compare_values(name + "[" + columns[c] + "]", {name}, got_column, want_column, reference);
    }
}

void Checks::gradients(const std::string& prefix, nn::Module& model, double scale) {
    for (auto& [name, parameter] : model.parameters()) {
        const std::string key = prefix + name;
        if (!wants(key)) continue;
        Tensor grad = parameter->grad().defined()
                          ? parameter->grad()
                          : Tensor::zeros(parameter->shape(), parameter->dtype());
        if (scale != 1) grad = mc::scale(Var(grad), scale).value();
        compare(key, grad);
    }
}

void Checks::same(const std::string& name, const std::vector<int64_t>& ours,
                  const std::vector<bool>& where) {
    if (!wants(name)) return;
    CheckRow& row = add(name);
    row.exact = true;
    try {
        const std::vector<int64_t> want = recorded_.integers(name);
        if (want.size() != ours.size() || (!where.empty() && where.size() != want.size()))
            throw Error(fmt::format("{} ids recorded, ours {}", want.size(), ours.size()));
        for (size_t i = 0; i < want.size(); ++i) {
            if (!where.empty() && !where[i]) continue;
            ++row.count;
            if (want[i] == ours[i]) continue;
            if (row.different++ == 0)
                row.note =
                    fmt::format("the first at {}: {} recorded, ours {}", i, want[i], ours[i]);
        }
        if (row.different > 0) row.verdict = Verdict::failed;
    } catch (const Error& error) {
        row.verdict = Verdict::failed;
        row.note = error.what();
    }
}

void Checks::same(const std::string& name, const Tensor& ours, const std::vector<bool>& where) {
    same(name, ours.to_vector<int64_t>(), where);
}

void Checks::same_bits(const std::string& name, const std::vector<float>& ours) {
    if (!wants(name)) return;
    CheckRow& row = add(name);
    row.exact = true;
    const std::vector<float> want = recorded_.floats(name);
    row.count = static_cast<int64_t>(want.size());
    if (want.size() != ours.size()) {
        row.verdict = Verdict::failed;
        row.note = fmt::format("{} values recorded, ours {}", want.size(), ours.size());
        return;
    }
    for (size_t i = 0; i < want.size(); ++i) row.different += want[i] != ours[i];
    if (row.different > 0) row.verdict = Verdict::failed;
}

void Checks::check_fills() {
    for (const auto& [key, line] : recorded_.file().metadata()) {
        if (!key.starts_with("fill:")) continue;
        const std::string name = key.substr(5);
        const SafetensorsEntry* entry = recorded_.file().find(name);
        const auto fill = parse_fill(line);
        if (!entry || !fill) continue;
        // A remark on the tensor says how it goes on from the hash: the stored one counts.
        if (!recorded_.metadata("note:" + name).empty()) continue;
        Shape shape;
        for (const int64_t size : entry->shape) shape.push_back(size);
        const Tensor made = filled(*fill, shape);
        if (fill->integer)
            same(name, made);
        else
            same_bits(name, made.to_vector<float>());
    }
}

void Checks::finish() {
    const std::set<std::string> done(compared_.begin(), compared_.end());
    std::set<std::string> listed;
    for (const SafetensorsEntry& entry : recorded_.file().entries()) {
        const std::string name = base_name(entry.name);
        if (!name.starts_with("output.") && !name.starts_with("grad.")) continue;
        if (done.count(name) || !listed.insert(name).second) continue;
        CheckRow& row = add(name);
        row.verdict = Verdict::skipped;
        row.note = "recorded, but nothing here is compared with it";
    }
}

}  // namespace mc::train
