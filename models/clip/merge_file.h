// The bytes of merge files, plain or gzip, read and written. Internal to the tokenizer and the
// learner.
#pragma once

#include <string>
#include <string_view>

namespace mc::clip {

// The first line of the files that we write; readers ask for "#version" in it.
inline constexpr std::string_view kMergeFileHeader = "\"moclip_bpe.txt#version: 0.2";

// The contents of a file, unpacked if it is gzip. Throws Error naming `path` if it cannot be
// opened, is damaged or cut short, or unpacks to more than 256 MiB.
std::string read_maybe_gzip(const std::string& path);

// The same from memory; contents that do not begin with gzip's magic are returned as they are.
std::string unpack_maybe_gzip(std::string_view contents, const std::string& name);

// Writes beside `path` and renames; gzip (no name, no time: the same text gives the same bytes) if
// `path` ends in .gz.
void write_maybe_gzip(const std::string& path, std::string_view text);

}  // namespace mc::clip
