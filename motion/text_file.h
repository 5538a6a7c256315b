// Whole files in and out, as the motion readers and writers need them.
#pragma once

#include <string>
#include <string_view>

namespace mc::motion {

// The bytes of PATH. Throws Error if it cannot be read or is larger than max_bytes.
std::string read_whole_file(const std::string& path, size_t max_bytes = size_t{1} << 31);

// Writes PATH.tmp and renames it to PATH, so that PATH is either the old file or the whole new one.
// Throws Error (and removes PATH.tmp) if that fails.
void write_whole_file(const std::string& path, std::string_view bytes);

}  // namespace mc::motion
