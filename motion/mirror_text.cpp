#include "motion/mirror_text.h"

#include <array>
#include <cstddef>

namespace mc::motion {
namespace {

bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// Letters, digits, the underscore and every byte beyond ASCII continue a word.
bool continues_word(char c) {
    return is_letter(c) || (c >= '0' && c <= '9') || c == '_' ||
           static_cast<unsigned char>(c) >= 0x80;
}

// Note that U+2019 (a curly apostrophe, bytes E2 80 99) ends a word although its bytes are beyond
// ASCII.
bool ends_word(std::string_view text, std::size_t at) {
    if (at >= text.size() || !continues_word(text[at])) return true;
    const std::string_view rest = text.substr(at);
    return rest.starts_with("\xE2\x80\x98") || rest.starts_with("\xE2\x80\x99") ||
           rest.starts_with("\xE2\x80\x9C") || rest.starts_with("\xE2\x80\x9D") ||
           rest.starts_with("\xE2\x80\x93") || rest.starts_with("\xE2\x80\x94") ||
           rest.starts_with("\xE2\x80\xA6");
}

bool starts_word(std::string_view text, std::size_t at) {
    if (at == 0 || !continues_word(text[at - 1])) return true;
    return at >= 3 && ends_word(text, at - 3) && static_cast<unsigned char>(text[at - 3]) == 0xE2;
}

char to_lower(char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}
char to_upper(char c) {
    return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
}

std::string lower(std::string_view word) {
    std::string out(word);
    for (char& c : out) c = to_lower(c);
    return out;
}

// `to` in the capitals of `like`: LIKE -> TO, Like -> To, like -> to.
std::string in_capitals_of(std::string_view like, std::string_view to) {
    std::string out(to);
    const bool first = like[0] != to_lower(like[0]);
    const bool second = like.size() > 1 && like[1] != to_lower(like[1]);
    if (first) out[0] = to_upper(out[0]);
    if (first && second)
        for (char& c : out) c = to_upper(c);
    return out;
}

constexpr std::array kSideEndings = {"",       "s",       "ward",   "wards",    "most",
                                     "hander", "handers", "handed", "handedly", "footed",
                                     "ies",    "ist",     "ists",   "y",        "wardly"};
constexpr std::array kTurnEndings = {"", "s"};

template <class Endings>
bool is_ending(const Endings& endings, std::string_view rest) {
    for (const std::string_view ending : endings)
        if (rest == ending) return true;
    return false;
}

}  // namespace

std::string mirror_caption(std::string_view caption) {
    // The word that "clockwise" becomes follows the writer's own: anticlockwise, counter-clockwise
    // or counterclockwise.
    const std::string whole = lower(caption);
    std::string against = "counterclockwise";
    for (const char* word :
         {"anti-clockwise", "anticlockwise", "counter-clockwise", "counterclockwise"})
        if (whole.find(word) != std::string::npos) against = word;

    std::string out;
    out.reserve(caption.size() + 16);
    std::size_t at = 0;
    while (at < caption.size()) {
        if (!is_letter(caption[at]) || !starts_word(caption, at)) {
            out += caption[at++];
            continue;
        }
        // "counter-clockwise" is one word here; every other hyphen separates.
        std::size_t end = at;
        while (end < caption.size() && is_letter(caption[end])) ++end;
        std::string word = lower(caption.substr(at, end - at));
        if ((word == "counter" || word == "anti") && end < caption.size() && caption[end] == '-' &&
            std::string_view(whole).substr(end + 1).starts_with("clockwise")) {
            ++end;
            while (end < caption.size() && is_letter(caption[end])) ++end;
            word = whole.substr(at, end - at);
        }
        const std::string_view source = caption.substr(at, end - at);
        at = end;
        if (!ends_word(caption, end)) {
            out += source;
            continue;
        }
        const std::string_view w = word;
        auto swap_head = [&](std::size_t head, std::string_view with) {
            out += in_capitals_of(source.substr(0, head), with);
            out += source.substr(head);
        };
        if (w.starts_with("left") && is_ending(kSideEndings, w.substr(4))) {
            swap_head(4, "right");
        } else if (w.starts_with("right") && is_ending(kSideEndings, w.substr(5))) {
            swap_head(5, "left");
        } else if (w.starts_with("clockwise") && is_ending(kTurnEndings, w.substr(9))) {
            swap_head(9, against);
        } else {
            bool done = false;
            for (const std::string_view head :
                 {"counterclockwise", "counter-clockwise", "anticlockwise", "anti-clockwise"}) {
                if (!done && w.starts_with(head) &&
                    is_ending(kTurnEndings, w.substr(head.size()))) {
                    swap_head(head.size(), "clockwise");
                    done = true;
                }
            }
            if (!done) out += source;
        }
    }
    return out;
}

}  // namespace mc::motion
