// Just enough of Unicode for file formats: UTF-8 and Latin-1, strictly.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace mc {

// Shortest forms alone; surrogates pass, since Python writes them.
bool is_utf8(std::string_view text);

std::string utf8_of_latin1(std::string_view bytes);
// Nothing if a character is beyond U+00FF. `text` must be UTF-8.
std::optional<std::string> latin1_of_utf8(std::string_view text);

// For error lines: control characters and what is not ASCII become \xNN, long text is cut.
std::string printable(std::string_view text, size_t limit = 100);

}  // namespace mc
