#include "tensor/formats/utf8.h"

#include <fmt/format.h>

namespace mc {

bool is_utf8(std::string_view text) {
    const auto continues = [&](size_t i) {
        return i < text.size() && (static_cast<uint8_t>(text[i]) & 0xc0) == 0x80;
    };
    for (size_t i = 0; i < text.size();) {
        const auto lead = static_cast<uint8_t>(text[i]);
        size_t length = 1;
        uint32_t code = lead, least = 0;
        if (lead >= 0x80) {
            if (lead >= 0xc2 && lead < 0xe0)
                length = 2, code = lead & 0x1fu, least = 0x80;
            else if (lead >= 0xe0 && lead < 0xf0)
                length = 3, code = lead & 0x0fu, least = 0x800;
            else if (lead >= 0xf0 && lead < 0xf5)
                length = 4, code = lead & 0x07u, least = 0x10000;
            else
                return false;
            for (size_t k = 1; k < length; ++k) {
                if (!continues(i + k)) return false;
                code = code << 6 | (static_cast<uint8_t>(text[i + k]) & 0x3fu);
            }
            if (code < least || code > 0x10ffff) return false;
        }
        i += length;
    }
    return true;
}

std::string utf8_of_latin1(std::string_view bytes) {
    std::string text;
    text.reserve(bytes.size());
    for (char c : bytes) {
        const auto code = static_cast<uint8_t>(c);
        if (code < 0x80) {
            text += c;
        } else {
            text += static_cast<char>(0xc0 | code >> 6);
            text += static_cast<char>(0x80 | (code & 0x3f));
        }
    }
    return text;
}

std::optional<std::string> latin1_of_utf8(std::string_view text) {
    std::string bytes;
    bytes.reserve(text.size());
    for (size_t i = 0; i < text.size(); ++i) {
        const auto lead = static_cast<uint8_t>(text[i]);
        if (lead < 0x80) {
            bytes += text[i];
        } else {
            if (lead > 0xc3 || i + 1 >= text.size()) return std::nullopt;
            bytes += static_cast<char>(lead << 6 | (static_cast<uint8_t>(text[++i]) & 0x3f));
        }
    }
    return bytes;
}

std::string printable(std::string_view text, size_t limit) {
    std::string out;
    for (char c : text) {
        if (out.size() >= limit) return out + "...";
        const auto code = static_cast<uint8_t>(c);
        if (code >= 0x20 && code < 0x7f)
            out += c;
        else
            out += fmt::format("\\x{:02x}", code);
    }
    return out;
}

}  // namespace mc
