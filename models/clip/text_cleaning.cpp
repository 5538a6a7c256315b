#include "models/clip/text_cleaning.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "kernels/error.h"
#include "models/clip/html_entities.h"

namespace mc::clip {
namespace {

// One code point from the front of `text` (not empty).
struct Decoded {
    char32_t code;
    std::size_t length;  // bytes taken; of a broken sequence its maximal valid part, at least 1
    bool valid;
};

Decoded decode_front(std::string_view text) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned char lead = byte(0);
    if (lead < 0x80) return {lead, 1, true};
    std::size_t length = 0;
    char32_t code = 0;
    unsigned char low = 0x80, high = 0xBF;  // bounds of the second byte
    if (lead >= 0xC2 && lead <= 0xDF) {
        length = 2;
        code = lead & 0x1F;
    } else if (lead >= 0xE0 && lead <= 0xEF) {
        length = 3;
        code = lead & 0x0F;
        if (lead == 0xE0) low = 0xA0;
        if (lead == 0xED) high = 0x9F;
    } else if (lead >= 0xF0 && lead <= 0xF4) {
        length = 4;
        code = lead & 0x07;
        if (lead == 0xF0) low = 0x90;
        if (lead == 0xF4) high = 0x8F;
    } else {
        return {U'\uFFFD', 1, false};
    }
    for (std::size_t i = 1; i < length; ++i) {
        if (i >= text.size() || byte(i) < low || byte(i) > high) return {U'\uFFFD', i, false};
        code = (code << 6) | (byte(i) & 0x3F);
        low = 0x80;
        high = 0xBF;
    }
    return {code, length, true};
}

void append_utf8(std::string& out, char32_t code) {
    std::array<utf8proc_uint8_t, 4> bytes{};
    if (code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) code = U'\uFFFD';
    const auto count = utf8proc_encode_char(static_cast<utf8proc_int32_t>(code), bytes.data());
    out.append(bytes.begin(), bytes.begin() + count);
}

utf8proc_category_t category(char32_t c) {
    return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

bool is_letter(char32_t c) {
    if (c < 0x80) return (c >= U'a' && c <= U'z') || (c >= U'A' && c <= U'Z');
    const auto kind = category(c);
    return kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_LO;
}

bool is_number(char32_t c) {
    if (c < 0x80) return c >= U'0' && c <= U'9';
    const auto kind = category(c);
    return kind >= UTF8PROC_CATEGORY_ND && kind <= UTF8PROC_CATEGORY_NO;
}

// The property White_Space, which the splitting pattern's \s means.
bool is_space(char32_t c) {
    return (c >= 0x9 && c <= 0xD) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
           c == 0x205F || c == 0x3000;
}

// Python's str.strip() takes the four separators too.
bool is_stripped(char32_t c) {
    return is_space(c) || (c >= 0x1C && c <= 0x1F);
}

std::u32string_view strip(std::u32string_view text) {
    while (!text.empty() && is_stripped(text.front())) text.remove_prefix(1);
    while (!text.empty() && is_stripped(text.back())) text.remove_suffix(1);
    return text;
}

std::u32string squeeze_space(std::u32string_view text) {
    std::u32string out;
    out.reserve(text.size());
    for (const char32_t c : text) {
        if (!is_space(c))
            out += c;
        else if (out.empty() || out.back() != U' ')
            out += U' ';
    }
    return out;
}

// --- ftfy's fix_text
// -------------------------------------------------------------------------------------------------

std::u32string map_unicode(std::u32string_view text, unsigned options) {
    const std::string bytes = encode_utf8(text);
    utf8proc_uint8_t* mapped = nullptr;
    const utf8proc_ssize_t size =
        utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(bytes.data()),
                     static_cast<utf8proc_ssize_t>(bytes.size()), &mapped,
                     static_cast<utf8proc_option_t>(options));
    const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(mapped, &std::free);
    if (size < 0)
        throw Error(std::string("[clean_text] Unicode normalisation failed: ") +
                    utf8proc_errmsg(size));
    return decode_utf8({reinterpret_cast<const char*>(mapped), static_cast<std::size_t>(size)});
}

std::u32string to_nfc(std::u32string_view text) {
    return map_unicode(text, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
}

// Windows-1252 for U+0080-009F: text that was read as Latin-1. The five holes stay.
constexpr std::array<char32_t, 32> kWindows1252 = {
    0x20AC, 0x81,   0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160,
    0x2039, 0x0152, 0x8D,   0x017D, 0x8F,   0x90,   0x2018, 0x2019, 0x201C, 0x201D, 0x2022,
    0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0x9D,   0x017E, 0x0178};

struct Ligature {
    char32_t code;
    std::u32string_view letters;
};
constexpr std::array kLigatures = {
    Ligature{0x0132, U"IJ"},      Ligature{0x0133, U"ij"},      Ligature{0x0149, U"\u02BCn"},
    Ligature{0x01C4, U"D\u017D"}, Ligature{0x01C5, U"D\u017E"}, Ligature{0x01C6, U"d\u017E"},
    Ligature{0x01C7, U"LJ"},      Ligature{0x01C8, U"Lj"},      Ligature{0x01C9, U"lj"},
    Ligature{0x01CA, U"NJ"},      Ligature{0x01CB, U"Nj"},      Ligature{0x01CC, U"nj"},
    Ligature{0x01F1, U"DZ"},      Ligature{0x01F2, U"Dz"},      Ligature{0x01F3, U"dz"},
    Ligature{0xFB00, U"ff"},      Ligature{0xFB01, U"fi"},      Ligature{0xFB02, U"fl"},
    Ligature{0xFB03, U"ffi"},     Ligature{0xFB04, U"ffl"},     Ligature{0xFB05, U"\u017Ft"},
    Ligature{0xFB06, U"st"}};

bool is_dropped_control(char32_t c) {
    return c <= 0x8 || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0xFEFF ||
           (c >= 0x206A && c <= 0x206F) || (c >= 0xFFF9 && c <= 0xFFFC);
}

// The length of a terminal escape ESC [ digits and semicolons, letter, at the front of `text`; 0 if
// there is none.
std::size_t escape_length(std::u32string_view text) {
    if (text.size() < 3 || text[0] != 0x1B || text[1] != U'[') return 0;
    std::size_t at = 2;
    while (at < text.size() && ((text[at] >= U'0' && text[at] <= U'9') || text[at] == U';')) ++at;
    return at < text.size() && text[at] < 0x80 && is_letter(text[at]) ? at + 1 : 0;
}

// A character after ftfy's fixes of single characters, in its order: C1 controls, ligatures, width,
// quotes, breaks.
void append_fixed(std::u32string& out, char32_t c) {
    if (c >= 0x80 && c <= 0x9F) c = kWindows1252[c - 0x80];
    for (const Ligature& ligature : kLigatures) {
        if (c < ligature.code) break;
        if (c != ligature.code) continue;
        for (const char32_t letter : ligature.letters) append_fixed(out, letter);
        return;
    }
    if (c == 0x3000) c = U' ';
    if (c >= 0xFF01 && c <= 0xFFEF) {
        const std::u32string narrow = map_unicode(
            std::u32string_view(&c, 1), UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT);
        out += narrow;
        return;
    }
    if ((c >= 0x2018 && c <= 0x201B) || c == 0x02BC) c = U'\'';
    if (c >= 0x201C && c <= 0x201F) c = U'"';
    if (c == 0x2028 || c == 0x2029 || c == 0x85) c = U'\n';
    out += c;
}

std::u32string fix_line_once(std::u32string_view line, bool unescape) {
    const std::u32string text = unescape ? unescape_html_strict(line) : std::u32string(line);
    std::u32string fixed;
    fixed.reserve(text.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == U'\r') {
            if (i + 1 < text.size() && text[i + 1] == U'\n') ++i;
            fixed += U'\n';
        } else {
            append_fixed(fixed, text[i]);
        }
    }
    std::u32string kept;
    kept.reserve(fixed.size());
    for (std::size_t i = 0; i < fixed.size(); ++i) {
        if (const std::size_t skip = escape_length(std::u32string_view(fixed).substr(i)); skip != 0)
            i += skip - 1;
        else if (!is_dropped_control(fixed[i]))
            kept += fixed[i];
    }
    return to_nfc(kept);
}

// References can be nested without end (&amp;amp;amp;...), and every round takes one level.
constexpr int kMaxRounds = 64;

std::u32string fix_text(std::u32string_view text) {
    std::u32string out;
    bool unescape =
        true;  // as in ftfy, from the first line with a '<' on this is HTML and stays escaped
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t end = std::min(text.find(U'\n', at), text.size() - 1) + 1;
        std::u32string line(text.substr(at, end - at));
        at = end;
        if (line.find(U'<') != std::u32string::npos) unescape = false;
        for (int round = 0; round < kMaxRounds; ++round) {
            std::u32string fixed = fix_line_once(line, unescape);
            const bool stable = fixed == line;
            line = std::move(fixed);
            if (stable) break;
        }
        out += line;
    }
    return out;
}

// True if fix_text and unescape_html cannot change the text.
bool is_plain_ascii(std::string_view text) {
    return std::all_of(text.begin(), text.end(), [](char c) {
        return (c >= 0x20 && c < 0x7F && c != '&') || c == '\t' || c == '\n' || c == '\r';
    });
}

// --- lower case
// ------------------------------------------------------------------------------------------------------

// The property Cased, as far as it isn't also Case_Ignorable (those are passed over before they are
// asked).
bool is_cased(char32_t c) {
    const auto kind = category(c);
    return kind == UTF8PROC_CATEGORY_LU || kind == UTF8PROC_CATEGORY_LL ||
           kind == UTF8PROC_CATEGORY_LT || c == 0xAA || c == 0xBA || (c >= 0x2160 && c <= 0x217F) ||
           (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
           (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
}

// The property Case_Ignorable: Mn, Me, Cf, Lm, Sk and the word-break classes MidLetter, MidNumLet,
// Single_Quote.
bool is_case_ignorable(char32_t c) {
    switch (category(c)) {
        case UTF8PROC_CATEGORY_MN:
        case UTF8PROC_CATEGORY_ME:
        case UTF8PROC_CATEGORY_CF:
        case UTF8PROC_CATEGORY_LM:
        case UTF8PROC_CATEGORY_SK:
            return true;
        default:
            break;
    }
    constexpr std::array<char32_t, 15> kInWord = {0x27,   0x2E,   0x3A,   0xB7,   0x387,
                                                  0x55F,  0x5F4,  0x2018, 0x2019, 0x2024,
                                                  0x2027, 0xFE13, 0xFE52, 0xFE55, 0xFF07};
    return std::find(kInWord.begin(), kInWord.end(), c) != kInWord.end() || c == 0xFF0E ||
           c == 0xFF1A;
}

// Unicode 15, table 3-17: a capital sigma is final if a cased letter is before it and none follows.
bool is_final_sigma(std::u32string_view text, std::size_t at) {
    std::size_t before = at;
    while (before > 0 && is_case_ignorable(text[before - 1])) --before;
    if (before == 0 || !is_cased(text[before - 1])) return false;
    std::size_t after = at + 1;
    while (after < text.size() && is_case_ignorable(text[after])) ++after;
    return after == text.size() || !is_cased(text[after]);
}

std::u32string to_lower(std::u32string_view text) {
    std::u32string out;
    out.reserve(text.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char32_t c = text[i];
        if (c < 0x80) {
            out += c >= U'A' && c <= U'Z' ? c - U'A' + U'a' : c;
        } else if (c == 0x130) {  // the one unconditional entry of SpecialCasing.txt for lower case
            out += U"i\u0307";
        } else if (c == 0x3A3) {
            out += is_final_sigma(text, i) ? U'\u03C2' : U'\u03C3';
        } else {
            out += static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c)));
        }
    }
    return out;
}

// --- splitting
// -------------------------------------------------------------------------------------------------------

// The length in bytes of `literal` (lower-case ASCII) at the front of `text`, ignoring case; 0 if
// it isn't there. The one character beyond ASCII that folds to a letter of the literals and is its
// own lower case is the long s.
std::size_t match_literal(std::string_view text, std::string_view literal) {
    std::size_t at = 0;
    for (const char want : literal) {
        if (at >= text.size()) return 0;
        const char got = text[at];
        if (got == want || (want >= 'a' && want <= 'z' && got == want - 'a' + 'A'))
            at += 1;
        else if (want == 's' && text.substr(at).starts_with("\xC5\xBF"))
            at += 2;
        else
            return 0;
    }
    return at;
}

constexpr std::array<std::string_view, 2> kSpecials = {"<|startoftext|>", "<|endoftext|>"};
constexpr std::array<std::string_view, 7> kContractions = {"'s", "'t",  "'re", "'ve",
                                                           "'m", "'ll", "'d"};

template <class Literals>
std::size_t match_any(std::string_view text, const Literals& literals) {
    for (const std::string_view literal : literals)
        if (const std::size_t length = match_literal(text, literal); length != 0) return length;
    return 0;
}

}  // namespace

std::optional<std::size_t> validate_utf8(std::string_view text) {
    for (std::size_t at = 0; at < text.size();) {
        const Decoded front = decode_front(text.substr(at));
        if (!front.valid) return at;
        at += front.length;
    }
    return std::nullopt;
}

bool has_letter(std::string_view text) {
    return std::ranges::any_of(decode_utf8(text), is_letter);
}

bool is_latin(std::string_view text) {
    int64_t latin = 0, other = 0;
    for (const char32_t c : decode_utf8(clean_text(text))) {
        if (!is_letter(c)) continue;
        // From Basic Latin to Latin Extended-B, and Latin Extended Additional.
        const bool is = c < 0x250 || (c >= 0x1E00 && c < 0x1F00);
        (is ? latin : other) += 1;
    }
    return latin >= other;
}

std::u32string decode_utf8(std::string_view text) {
    std::u32string out;
    out.reserve(text.size());
    while (!text.empty()) {
        const Decoded front = decode_front(text);
        out += front.code;
        text.remove_prefix(front.length);
    }
    return out;
}

std::string encode_utf8(std::u32string_view text) {
    std::string out;
    out.reserve(text.size());
    for (const char32_t c : text) append_utf8(out, c);
    return out;
}

std::string clean_text(std::string_view text, const CleaningOptions& options) {
    std::u32string work = decode_utf8(text);
    if (!is_plain_ascii(text)) {
        if (options.fix_text) work = fix_text(work);
        work = unescape_html(unescape_html(work));
    }
    const std::u32string squeezed = squeeze_space(strip(work));
    return encode_utf8(to_lower(strip(squeezed)));
}

std::vector<std::string_view> split_words(std::string_view cleaned, bool strict) {
    std::vector<std::string_view> pieces;
    const auto is_other = [](char32_t c) { return !is_space(c) && !is_letter(c) && !is_number(c); };
    const auto run_length = [&](std::string_view text, const auto& belongs) {
        std::size_t length = 0;
        while (length < text.size()) {
            const Decoded front = decode_front(text.substr(length));
            if (!belongs(front.code)) break;
            length += front.length;
        }
        return length;
    };
    while (!cleaned.empty()) {
        const Decoded front = decode_front(cleaned);
        std::size_t length = strict ? 0 : match_any(cleaned, kSpecials);
        if (length == 0) length = match_any(cleaned, kContractions);
        if (length == 0) length = run_length(cleaned, is_letter);
        if (length == 0 && is_number(front.code)) length = front.length;
        if (length == 0) length = run_length(cleaned, is_other);
        if (length != 0) pieces.push_back(cleaned.substr(0, length));
        cleaned.remove_prefix(length != 0 ? length : front.length);
    }
    return pieces;
}

}  // namespace mc::clip
