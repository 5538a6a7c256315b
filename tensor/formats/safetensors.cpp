#include "tensor/formats/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_set>

#include "tensor/formats/atomic_file.h"
#include "tensor/formats/element_type.h"
#include "tensor/formats/utf8.h"

namespace mc {
namespace {

static_assert(std::endian::native == std::endian::little, "tensors are stored little-endian");

using Json = nlohmann::json;

constexpr uint64_t kMaxHeader = 100'000'000;  // bytes; the reference implementation's limit
constexpr const char* kMetadata = "__metadata__";
constexpr const char* kDamaged = "the file is damaged or not safetensors; fetch or save it again";

struct TypeName {
    ElementType type;
    const char* name;
};
constexpr TypeName kTypes[] = {
    {ElementType::f32, "F32"},      {ElementType::f64, "F64"}, {ElementType::f16, "F16"},
    {ElementType::i64, "I64"},      {ElementType::i32, "I32"}, {ElementType::bf16, "BF16"},
    {ElementType::i16, "I16"},      {ElementType::i8, "I8"},   {ElementType::u8, "U8"},
    {ElementType::u16, "U16"},      {ElementType::u32, "U32"}, {ElementType::u64, "U64"},
    {ElementType::boolean, "BOOL"},
};

std::optional<ElementType> element_of_name(std::string_view name) {
    for (const auto& t : kTypes)
        if (name == t.name) return t.type;
    return std::nullopt;
}

const char* safetensors_name(DType dtype) {
    for (const auto& t : kTypes)
        if (element_of(dtype) == t.type) return t.name;
    return "?";
}

// Bytes an element of every type of whole bytes that the format knows; 0 for others.
uint64_t item_size(std::string_view name) {
    if (const auto known = element_of_name(name)) return size_of(*known);
    if (name.starts_with("F8_")) return 1;
    if (name == "C64") return 8;
    return 0;
}

bool is_count(const Json& j) {
    return j.is_number_unsigned() && j.get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX);
}

std::string shape_text(const std::vector<int64_t>& shape) {
    return fmt::format("({})", fmt::join(shape, ", "));
}

// The header as JSON. Refuses names that stand twice, which the parser alone would let pass, and
// nesting that no header has.
Json parse_json(std::string_view text) {
    std::unordered_set<std::string> names;
    const auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
        if (depth > 4) throw Error("too deeply nested");
        if (event == Json::parse_event_t::key && depth == 1 &&
            !names.insert(value.get<std::string>()).second)
            throw Error(fmt::format("'{}' stands twice", printable(value.get<std::string>())));
        return true;
    };
    try {
        return Json::parse(text.begin(), text.end(), watch);
    } catch (const Json::parse_error& e) {
        throw Error(fmt::format("not JSON at byte {}", e.byte));
    } catch (const Json::exception&) {  // of its kinds the parser throws one more
        throw Error("a number is too large");
    }
}

}  // namespace

void SafetensorsFile::fail(const std::string& what) const {
    throw Error(fmt::format("{}: {}; {}", path().string(), what, kDamaged));
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : file_(MappedFile::open(path)) {
    const auto bytes = file_->bytes();
    if (bytes.size() < 8) fail(fmt::format("{} bytes are too few for a header", bytes.size()));
    uint64_t length = 0;
    std::memcpy(&length, bytes.data(), 8);
    if (length > kMaxHeader || length > bytes.size() - 8)
        fail(fmt::format("the header claims {} bytes, the file has {}", length, bytes.size()));
    data_ = bytes.subspan(8 + length);
    parse_header({reinterpret_cast<const char*>(bytes.data()) + 8, length});
    std::stable_sort(entries_.begin(), entries_.end(), [](const auto& a, const auto& b) {
        return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
    });
    check_layout();
    for (size_t i = 0; i < entries_.size(); ++i) index_[entries_[i].name] = i;
}

void SafetensorsFile::parse_header(std::string_view text) {
    Json header;
    try {
        header = parse_json(text);
    } catch (const Error& e) {
        fail(fmt::format("header: {}", e.what()));
    }
    if (!header.is_object()) fail("header: not an object");
    for (const auto& [name, value] : header.items()) {
        if (name != kMetadata) {
            add_entry(name, value);
            continue;
        }
        if (!value.is_object()) fail("__metadata__: not an object");
        for (const auto& [key, text_value] : value.items()) {
            if (!text_value.is_string())
                fail(fmt::format("__metadata__ '{}': not a string", printable(key)));
            metadata_[key] = text_value.get<std::string>();
        }
    }
}

void SafetensorsFile::add_entry(std::string name, const Json& value) {
    const auto bad = [&](const std::string& what) {
        fail(fmt::format("tensor '{}': {}", printable(name), what));
    };
    if (!value.is_object()) bad("not an object");
    const auto dtype = value.find("dtype"), shape = value.find("shape"),
               offsets = value.find("data_offsets");
    if (dtype == value.end() || !dtype->is_string()) bad("no dtype");
    if (shape == value.end() || !shape->is_array()) bad("no shape");
    if (offsets == value.end() || !offsets->is_array() || offsets->size() != 2 ||
        !is_count((*offsets)[0]) || !is_count((*offsets)[1]))
        bad("no data_offsets");

    SafetensorsEntry entry;
    entry.dtype = dtype->get<std::string>();
    entry.begin = (*offsets)[0].get<uint64_t>();
    entry.end = (*offsets)[1].get<uint64_t>();
    uint64_t bytes = item_size(entry.dtype);
    for (const Json& size : *shape) {
        if (!is_count(size)) bad("a size in its shape is not a count");
        entry.shape.push_back(size.get<int64_t>());
        if (__builtin_mul_overflow(bytes, size.get<uint64_t>(), &bytes) || bytes > INT64_MAX)
            bad("its shape overflows");
    }
    if (entry.begin > entry.end || entry.end > data_.size())
        bad(fmt::format("data_offsets [{}, {}] in {} bytes of data", entry.begin, entry.end,
                        data_.size()));
    if (item_size(entry.dtype) != 0 && bytes != entry.end - entry.begin)
        bad(fmt::format("{} {} needs {} bytes, its data_offsets span {}", entry.dtype,
                        shape_text(entry.shape), bytes, entry.end - entry.begin));
    entry.name = std::move(name);
    entries_.push_back(std::move(entry));
}

void SafetensorsFile::check_layout() const {
    uint64_t at = 0;
    for (const auto& entry : entries_) {
        if (entry.begin != at)
            fail(fmt::format("tensor '{}' begins at byte {} of the data, {} byte {}",
                             printable(entry.name), entry.begin,
                             entry.begin < at ? "overlapping what ends at" : "after a gap from",
                             at));
        at = entry.end;
    }
    if (at != data_.size())
        fail(fmt::format("{} bytes of data, the header names {}", data_.size(), at));
}

const SafetensorsEntry* SafetensorsFile::find(std::string_view name) const {
    const auto found = index_.find(std::string(name));
    return found == index_.end() ? nullptr : &entries_[found->second];
}

Tensor SafetensorsFile::get(std::string_view name) const {
    const SafetensorsEntry* entry = find(name);
    if (!entry)
        throw Error(
            fmt::format("{}: has no tensor '{}'; is it the right file?", path().string(), name));
    return load(*entry);
}

Tensor SafetensorsFile::load(const SafetensorsEntry& entry) const {
    const auto error = [&](const std::string& what) {
        return Error(
            fmt::format("{}: tensor '{}': {}", path().string(), printable(entry.name), what));
    };
    const auto type = element_of_name(entry.dtype);
    if (!type)
        throw error(fmt::format(
            "element type {} is not supported; convert to F32 F64 F16 BF16 I64 I32 or BOOL",
            printable(entry.dtype)));
    try {
        return load_elements(data_.subspan(entry.begin, entry.end - entry.begin), *type,
                             ElementLayout::contiguous(entry.shape), false, file_);
    } catch (const Error& e) {
        throw error(e.what());
    }
}

NamedTensors SafetensorsFile::all() const {
    NamedTensors out;
    for (const auto& entry : entries_) out.emplace_back(entry.name, load(entry));
    return out;
}

void write_safetensors(const std::filesystem::path& path, const NamedTensors& tensors,
                       const StringMap& metadata) {
    const auto bad = [&](const std::string& what) {
        throw Error(fmt::format("{}: cannot write: {}", path.string(), what));
    };
    std::vector<const NamedTensors::value_type*> order;
    for (const auto& named : tensors) {
        if (!named.second.defined()) bad(fmt::format("tensor '{}' is undefined", named.first));
        if (named.first == kMetadata) bad("a tensor may not be called __metadata__");
        order.push_back(&named);
    }
    std::stable_sort(order.begin(), order.end(), [](auto* a, auto* b) {
        return size_of(a->second.dtype()) > size_of(b->second.dtype());
    });

    nlohmann::ordered_json header = nlohmann::ordered_json::object();
    std::unordered_set<std::string> names;
    if (!metadata.empty()) header[kMetadata] = metadata;
    uint64_t at = 0;
    for (const auto* named : order) {
        const Tensor& t = named->second;
        if (!names.insert(named->first).second)
            bad(fmt::format("the name '{}' stands twice", named->first));
        const uint64_t bytes = static_cast<uint64_t>(t.numel()) * size_of(t.dtype());
        // Appended without the look-up for the name, which is linear in an ordered object.
        header.get_ref<nlohmann::ordered_json::object_t&>().emplace_back(
            named->first, nlohmann::ordered_json{
                              {"dtype", safetensors_name(t.dtype())},
                              {"shape", std::vector<int64_t>(t.shape().begin(), t.shape().end())},
                              {"data_offsets", {at, at + bytes}}});
        at += bytes;
    }
    std::string text;
    try {
        text = header.dump();
    } catch (const nlohmann::json::type_error&) {
        bad("a name or a metadata text is not UTF-8");
    }
    text.append((8 - text.size() % 8) % 8, ' ');
    if (text.size() > kMaxHeader) bad("the header is longer than 100 MB");

    AtomicFile file(path);
    const uint64_t length = text.size();
    file.write(&length, 8);
    file.write(text);
    for (const auto* named : order) {
        const Tensor t = named->second.cpu().contiguous();
        file.write(t.raw(), static_cast<size_t>(t.numel()) * size_of(t.dtype()));
    }
    file.commit();
}

}  // namespace mc
