// Pickles put together by hand, and files made of them.
#pragma once

#include <cstring>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "tensor/formats/zip.h"

namespace mc::testing {

template <class T>
std::string raw_bytes(T value) {
    return {reinterpret_cast<const char*>(&value), sizeof value};
}

// The opcodes of values.
namespace py {

inline std::string text(const std::string& s) {
    return "X" + raw_bytes(static_cast<uint32_t>(s.size())) + s;
}
inline std::string integer(int32_t value) {
    return "J" + raw_bytes(value);
}
inline std::string integers(const std::vector<int32_t>& values) {
    std::string s = "(";
    for (int32_t v : values) s += integer(v);
    return s + "t";
}
inline std::string global(const std::string& module, const std::string& name) {
    return "c" + module + "\n" + name + "\n";
}
// A dict of keys and values that are opcodes already.
inline std::string dict(const std::vector<std::pair<std::string, std::string>>& items) {
    std::string s = "}(";
    for (const auto& [key, value] : items) s += key + value;
    return s + "u";
}
inline std::string storage(const std::string& type, const std::string& key, int32_t elements,
                           const std::string& view = "") {
    return "(" + text("storage") + global("torch", type) + text(key) + text("cpu") +
           integer(elements) + view + "tQ";
}
inline std::string tensor_of(const std::string& storage, int32_t offset,
                             const std::vector<int32_t>& shape,
                             const std::vector<int32_t>& strides) {
    return global("torch._utils", "_rebuild_tensor_v2") + "(" + storage + integer(offset) +
           integers(shape) + integers(strides) + "\x89" + global("collections", "OrderedDict") +
           ")RtR";
}
inline std::string pickle(const std::string& value) {
    return "\x80\x02" + value + ".";
}

}  // namespace py

using Members = std::vector<std::pair<std::string, std::string>>;

inline void write_zip(const std::filesystem::path& path, const Members& members,
                      bool deflate = false) {
    ZipWriter zip(path);
    for (const auto& [name, bytes] : members)
        zip.add(name, bytes.data(), bytes.size(), deflate, 64);
    zip.commit();
}

// A PyTorch zip with this value, and the bytes of storages "0", "1", ...
inline void write_torch_zip(const std::filesystem::path& path, const std::string& value,
                            const std::vector<std::string>& storages, Members more = {}) {
    Members members = {{"x/data.pkl", py::pickle(value)}, {"x/version", "3\n"}};
    for (size_t i = 0; i < storages.size(); ++i)
        members.emplace_back("x/data/" + std::to_string(i), storages[i]);
    members.insert(members.end(), more.begin(), more.end());
    write_zip(path, members);
}

inline std::string legacy_head(bool little_endian = true) {
    return py::pickle(std::string("\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 12)) +
           py::pickle(py::integer(1001)) +
           py::pickle(py::dict({{py::text("protocol_version"), py::integer(1001)},
                                {py::text("little_endian"), little_endian ? "\x88" : "\x89"}}));
}

// A legacy PyTorch file: storages as (key, count of elements, bytes).
struct LegacyStorage {
    std::string key;
    int64_t elements;
    std::string bytes;
};
inline std::string legacy_file(const std::string& value,
                               const std::vector<LegacyStorage>& storages) {
    std::string keys = "](", data;
    for (const LegacyStorage& s : storages) {
        keys += py::text(s.key);
        data += raw_bytes(s.elements) + s.bytes;
    }
    return legacy_head() + py::pickle(value) + py::pickle(keys + "e") + data;
}

inline std::string floats(const std::vector<float>& values) {
    return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

}  // namespace mc::testing
