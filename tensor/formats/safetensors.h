// Safetensors: named tensors and a string map in one file, nothing executable. Format: 8 bytes
// little-endian header length, a JSON header, the bytes of the tensors without gaps
// (github.com/huggingface/safetensors, "Format").
//
//     SafetensorsFile file("model.safetensors");
//     Tensor w = file.get("proj.weight");             // borrows the mapped file
//     write_safetensors("out.safetensors", {{"proj.weight", w}}, {{"licence", "MIT"}});
//
// Read: F32 F64 F16 BF16 I64 I32 BOOL, and small integers widened (element_type.h). Files with
// other element types open, and only `get` of such a tensor is an error. The whole header is
// checked before anything is used: lengths, JSON, duplicate names, dtypes, shapes, offsets,
// overlaps, gaps, overflow. All failures are Error in one line: file, tensor, what, remedy.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tensor/formats/mapped_file.h"
#include "tensor/tensor.h"

namespace mc {

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;
using StringMap = std::map<std::string, std::string>;

struct SafetensorsEntry {
    std::string name;
    std::string dtype;  // as the file spells it: "F32", "U8", ...
    std::vector<int64_t> shape;
    uint64_t begin = 0, end = 0;  // bytes, from the start of the data section
};

class SafetensorsFile {
  public:
    explicit SafetensorsFile(const std::filesystem::path& path);

    const std::filesystem::path& path() const { return file_->path(); }
    const StringMap& metadata() const { return metadata_; }
    const std::vector<SafetensorsEntry>& entries() const { return entries_; }  // by offset
    const SafetensorsEntry* find(std::string_view name) const;  // null if there is none

    // The tensor, borrowing the mapped file, which lives as long as the tensor does; copied if its
    // bytes are misaligned. Error if there is none of that name, its element type is not ours, or a
    // BOOL is neither 0 nor 1.
    Tensor get(std::string_view name) const;
    NamedTensors all() const;  // by offset

  private:
    Tensor load(const SafetensorsEntry& entry) const;
    void parse_header(std::string_view json);
    void add_entry(std::string name, const nlohmann::json& value);
    void check_layout() const;
    [[noreturn]] void fail(const std::string& what) const;

    std::shared_ptr<const MappedFile> file_;
    std::span<const std::byte> data_;  // the data section
    StringMap metadata_;
    std::vector<SafetensorsEntry> entries_;
    std::unordered_map<std::string, size_t> index_;
};

// Writes atomically (AtomicFile): on a full disk, or killed midway, the old file stays. Wide types
// come first, then the order given, so that every tensor is aligned in the mapped file. Error for a
// name that stands twice, an undefined tensor, text that is not UTF-8.
void write_safetensors(const std::filesystem::path& path, const NamedTensors& tensors,
                       const StringMap& metadata = {});

}  // namespace mc
