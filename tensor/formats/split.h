// Texts that are lists: "bvh,npy", "40:80", "model.width".
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mc {

// The pieces between separators, one more than there are separators. Empty ones count ("a," has
// two), so that whoever reads the pieces sees the comma too many.
inline std::vector<std::string> split(std::string_view text, char separator) {
    std::vector<std::string> pieces(1);
    for (const char c : text) {
        if (c == separator)
            pieces.emplace_back();
        else
            pieces.back() += c;
    }
    return pieces;
}

// Without the white space at its ends.
inline std::string trimmed(std::string_view text) {
    constexpr std::string_view kBlank = " \t\r";
    const size_t begin = text.find_first_not_of(kBlank);
    if (begin == std::string_view::npos) return "";
    return std::string(text.substr(begin, text.find_last_not_of(kBlank) - begin + 1));
}

}  // namespace mc
