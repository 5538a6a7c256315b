// inspect: what is in a file of tensors. `inspect --help` shows examples.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "kernels/error.h"
#include "tensor/formats/load_tensors.h"
#include "tensor/formats/npy.h"
#include "tensor/formats/utf8.h"
#include "tools/common/cli.h"

namespace mc::tools {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr size_t kShownValues = 20;

struct Options {
    std::vector<std::string> files;
    std::string below;
    bool json = false, values = false, stats = false, keep_unknown = false;
};

struct Stats {
    double min = 0, max = 0, mean = 0;
    int64_t not_finite = 0;
};

struct Row {
    std::string name, type;  // the type as the file spells it
    std::vector<int64_t> shape;
    uint64_t elements = 0, bytes = 0;
    std::optional<Stats> stats;
};

struct Listing {
    std::string format;
    std::vector<Row> rows;
    StringMap metadata;
    PyValue values;  // of PyTorch files
    std::vector<std::string> skipped;
};

Stats stats_of(const Tensor& tensor) {
    Stats stats{std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity(),
                0, 0};
    const Tensor wide = tensor.to(DType::f64).contiguous();
    const double* values = wide.data<double>();
    int64_t finite = 0;
    for (int64_t i = 0; i < wide.numel(); ++i) {
        if (!std::isfinite(values[i])) {
            ++stats.not_finite;
            continue;
        }
        stats.min = std::min(stats.min, values[i]);
        stats.max = std::max(stats.max, values[i]);
        stats.mean += (values[i] - stats.mean) / static_cast<double>(++finite);
    }
    if (finite == 0) stats.min = stats.max = 0;
    return stats;
}

uint64_t count_of(const std::vector<int64_t>& shape) {
    uint64_t count = 1;
    for (int64_t size : shape) count *= static_cast<uint64_t>(size);
    return count;
}

// The name after `below` and a dot; nothing if it does not begin so.
std::optional<std::string> name_below(const std::string& name, const std::string& below) {
    if (below.empty()) return name;
    if (name.starts_with(below + '.')) return name.substr(below.size() + 1);
    return std::nullopt;
}

void list_safetensors(Listing& listing, const fs::path& path, const Options& options) {
    const SafetensorsFile file(path);
    listing.metadata = file.metadata();
    for (const SafetensorsEntry& entry : file.entries()) {
        const auto name = name_below(entry.name, options.below);
        if (!name) continue;
        Row row{*name, entry.dtype, entry.shape, count_of(entry.shape), entry.end - entry.begin,
                {}};
        if (options.stats) row.stats = stats_of(file.get(entry.name));
        listing.rows.push_back(std::move(row));
    }
}

void list_array(Listing& listing, const std::string& full_name, const NpyArray& array,
                const Options& options) {
    const auto name = name_below(full_name, options.below);
    if (!name) return;
    Row row{*name, array.descr, array.shape, count_of(array.shape), array.data.size(), {}};
    if (array.fortran_order) row.type += " Fortran";
    if (options.stats) row.stats = stats_of(tensor_of(array));
    listing.rows.push_back(std::move(row));
}

void list_pytorch(Listing& listing, const fs::path& path, const Options& options) {
    PyTorchOptions reading;
    reading.keep_unknown = options.keep_unknown;
    const PyTorchFile file(path, reading);
    listing.values = find_below(file.root(), options.below);
    for (const auto& [name, value] : file.tensors(listing.values, &listing.skipped)) {
        const PyTorchTensor& info = file.info(value);
        const uint64_t count = count_of(info.layout.shape);
        Row row{name,  torch_name(info.type),      info.layout.shape,
                count, count * size_of(info.type), {}};
        if (options.stats) row.stats = stats_of(file.tensor(value));
        listing.rows.push_back(std::move(row));
    }
}

Listing list(const fs::path& path, const Options& options) {
    Listing listing;
    const TensorFormat format = recognise_tensors(path);
    listing.format = name_of(format);
    if (format == TensorFormat::safetensors) {
        list_safetensors(listing, path, options);
    } else if (format == TensorFormat::npy) {
        list_array(listing, path.stem().string(), read_npy(path), options);
    } else if (format == TensorFormat::npz) {
        const NpzFile file(path);
        for (const std::string& name : file.names())
            list_array(listing, name, file.read(name), options);
    } else {
        list_pytorch(listing, path, options);
    }
    if (listing.rows.empty() && !options.below.empty() && !listing.values.defined())
        throw Error(fmt::format("{}: no tensor is called '{}.*'; see its names without --below",
                                path.string(), printable(options.below)));
    return listing;
}

// What is no tensor, as JSON. Depth is bounded by the reader, width by the budget.
Json json_of(const PyValue& value, PyWalkBudget& budget) {
    budget.visit();
    switch (value.kind()) {
        case PyKind::none:
            return nullptr;
        case PyKind::boolean:
            return value.as_bool();
        case PyKind::integer:
            return value.as_int();
        case PyKind::real:
            return value.as_real();
        case PyKind::text:
            return value.as_text();
        case PyKind::list:
        case PyKind::tuple:
        case PyKind::set: {
            Json all = Json::array();
            for (size_t i = 0; i < value.size(); ++i) all.push_back(json_of(value.item(i), budget));
            return all;
        }
        default:
            break;
    }
    if (value.size() == 0 && !value.is(PyKind::dict))
        return value.is(PyKind::tensor) ? "<tensor>" : value.repr(200);
    Json all = Json::object();
    auto& items = all.get_ref<Json::object_t&>();  // without its linear look-up of every key
    for (size_t i = 0; i < value.size(); ++i) {
        const PyValue key = value.key(i);
        items.emplace_back(key.is(PyKind::text) ? key.as_text() : key.repr(200),
                           json_of(value.item(i), budget));
    }
    return all;
}

Json json_of(const fs::path& path, const Listing& listing) {
    Json tensors = Json::array();
    uint64_t elements = 0, bytes = 0;
    for (const Row& row : listing.rows) {
        Json one = {
            {"name", row.name}, {"dtype", row.type}, {"shape", row.shape}, {"bytes", row.bytes}};
        if (row.stats) {
            one["min"] = row.stats->min;
            one["max"] = row.stats->max;
            one["mean"] = row.stats->mean;
            one["not_finite"] = row.stats->not_finite;
        }
        tensors.push_back(std::move(one));
        elements += row.elements;
        bytes += row.bytes;
    }
    Json all = {{"file", path.string()},        {"format", listing.format},
                {"bytes", fs::file_size(path)}, {"elements", elements},
                {"tensor_bytes", bytes},        {"tensors", std::move(tensors)}};
    if (!listing.metadata.empty()) all["metadata"] = listing.metadata;
    if (listing.values.defined()) {
        PyWalkBudget budget(path.string());
        all["values"] = json_of(listing.values, budget);
    }
    return all;
}

// "name = value" of everything that is no tensor, in the file's order.
void collect_values(const PyValue& value, const std::string& name, PyWalkBudget& budget,
                    std::vector<std::string>& lines) {
    budget.visit(1 + name.size() / 64);
    if (value.is(PyKind::tensor)) return;
    const bool container = value.is(PyKind::dict) || value.is(PyKind::object);
    if (!container || value.size() == 0) {
        const std::string text = value.repr(100);
        if (text.find("<tensor>") == text.npos)
            lines.push_back(fmt::format("{} = {}", name.empty() ? "(root)" : name, text));
        else
            for (size_t i = 0; i < value.size(); ++i)
                collect_values(value.item(i), fmt::format("{}.{}", name, i), budget, lines);
        return;
    }
    for (size_t i = 0; i < value.size(); ++i) {
        const PyValue key = value.key(i);
        const std::string part = key.is(PyKind::text) ? key.as_text() : key.repr(100);
        collect_values(value.item(i), name.empty() ? part : name + "." + part, budget, lines);
    }
}

// Names and texts come from the file: nothing in them may move the terminal's cursor, nor turn the
// order of letters: control characters (of one byte, and U+0080 to U+009F in UTF-8), U+200E,
// U+200F, U+202A to U+202E and U+2066 to U+2069 are shown by their bytes.
std::string safe(const std::string& text) {
    const auto byte = [&](size_t i) {
        return i < text.size() ? static_cast<uint8_t>(text[i]) : uint8_t{0};
    };
    std::string out;
    for (size_t i = 0; i < text.size();) {
        const uint8_t a = byte(i), b = byte(i + 1), c = byte(i + 2);
        const bool direction =
            a == 0xe2 && ((b == 0x80 && (c == 0x8e || c == 0x8f || (c >= 0xaa && c <= 0xae))) ||
                          (b == 0x81 && c >= 0xa6 && c <= 0xa9));
        const size_t hidden = a < 0x20 || a == 0x7f                 ? 1
                              : a == 0xc2 && b >= 0x80 && b <= 0x9f ? 2
                              : direction                           ? 3
                                                                    : 0;
        for (size_t k = 0; k < hidden; ++k) out += fmt::format("\\x{:02x}", byte(i + k));
        if (hidden == 0) out += text[i];
        i += hidden > 0 ? hidden : 1;
    }
    return out;
}

std::string shape_text(const std::vector<int64_t>& shape) {
    return fmt::format("({})", fmt::join(shape, ", "));
}

void print_text(const fs::path& path, const Listing& listing, const Options& options) {
    fmt::print("{}: {}, {} bytes\n", safe(path.string()), listing.format, fs::file_size(path));
    std::vector<std::string> lines;
    for (const auto& [key, text] : listing.metadata)
        lines.push_back(fmt::format(
            "{} = {}", key, text.size() > 100 && !options.values ? printable(text, 100) : text));
    if (listing.values.defined()) {
        PyWalkBudget budget(path.string());
        collect_values(listing.values, "", budget, lines);
    }
    const size_t shown = options.values ? lines.size() : std::min(lines.size(), kShownValues);
    for (size_t i = 0; i < shown; ++i) fmt::print("  {}\n", safe(lines[i]));
    if (shown < lines.size())
        fmt::print("  ... {} more values; --values shows all\n", lines.size() - shown);
    for (const std::string& key : listing.skipped)
        fmt::print("  {}: passed over, such a key cannot be part of a name\n", safe(key));

    size_t name_width = 4, shape_width = 5;
    for (const Row& row : listing.rows) {
        name_width = std::max(name_width, std::min<size_t>(row.name.size(), 70));
        shape_width = std::max(shape_width, std::min<size_t>(shape_text(row.shape).size(), 24));
    }
    if (!listing.rows.empty())
        fmt::print("  {:<{}}  {:<8}  {:<{}}  {:>12}{}\n", "name", name_width, "type", "shape",
                   shape_width, "bytes",
                   options.stats ? "         min         max        mean" : "");
    uint64_t elements = 0, bytes = 0;
    for (const Row& row : listing.rows) {
        fmt::print("  {:<{}}  {:<8}  {:<{}}  {:>12}", safe(row.name), name_width, safe(row.type),
                   shape_text(row.shape), shape_width, row.bytes);
        if (row.stats) {
            fmt::print("  {:>10.4g}  {:>10.4g}  {:>10.4g}", row.stats->min, row.stats->max,
                       row.stats->mean);
            if (row.stats->not_finite > 0) fmt::print("  {} not finite", row.stats->not_finite);
        }
        fmt::print("\n");
        elements += row.elements;
        bytes += row.bytes;
    }
    fmt::print("  {} tensor{}, {} elements, {} bytes\n", listing.rows.size(),
               listing.rows.size() == 1 ? "" : "s", elements, bytes);
}

int inspect(const Options& options) {
    int status = 0;
    for (const std::string& file : options.files) {
        try {
            const Listing listing = list(file, options);
            if (options.json)
                fmt::print(
                    "{}\n",
                    json_of(file, listing).dump(-1, ' ', false, Json::error_handler_t::replace));
            else
                print_text(file, listing, options);
        } catch (const Error& e) {  // the other files are shown all the same
            std::fflush(stdout);
            notice("inspect: {}\n", e.what());
            status = 1;
        }
    }
    return status;
}

constexpr const char* kDescription =
    "Shows what is in files of tensors: safetensors, NumPy's npy and npz, PyTorch's checkpoints "
    "(zip\n"
    "and legacy, whatever they are called) and TorchScript archives. The format is recognised by\n"
    "content. Nothing in a file is executed.";
constexpr const char* kExamples =
    "examples:\n"
    "  inspect model.safetensors                   names, types, shapes, sizes, metadata\n"
    "  inspect net_best_fid.tar --below vq_model   a part of a checkpoint\n"
    "  inspect --stats ViT-B-32.pt                 with the range of every tensor; reads all data\n"
    "  inspect --json *.pt | jq .format            one JSON object a line, one line a file\n";

}  // namespace
}  // namespace mc::tools

int main(int argc, char** argv) {
    using namespace mc::tools;
    CLI::App app(kDescription, "inspect");
    app.footer(kExamples);
    Options options;
    app.add_option("files", options.files, "what to look at")->required();
    app.add_option("--below", options.below, "only what is under this key, keys joined with dots");
    app.add_flag("--json", options.json, "one JSON object a file, one a line");
    app.add_flag("--values", options.values, "all values that are no tensors, not the first 20");
    app.add_flag("--stats", options.stats, "minimum, maximum and mean of every tensor");
    app.add_flag("--keep-unknown", options.keep_unknown,
                 "show PyTorch files with unknown Python objects in them too, as inert values");
    return run_program(app, argc, argv, [&] { return inspect(options); });
}
