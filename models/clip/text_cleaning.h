// What CLIP does to a prompt before it splits and encodes it: repair, unescape, squeeze white
// space, lower-case.
//
//     clean_text("A Person  walks\tFORWARD!!")   ->  "a person walks forward!!"
//     split_words("he's 20")                      ->  "he" "'s" "2" "0"
//
// Source: clip/simple_tokenizer.py of OpenAI's CLIP (basic_clean, whitespace_clean, lower,
// pattern). The Unicode tables are utf8proc's. Known difference: ftfy's repair of mojibake ("cafÃ©"
// -> "café") is left out, for it guesses.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mc::clip {

struct CleaningOptions {
    // Apply the subset of ftfy's fix_text: references, C1 controls, ligatures, full-width forms,
    // curly quotes, line breaks, terminal escapes, control characters, NFC. False reproduces a CLIP
    // that is installed without ftfy.
    bool fix_text = true;
};

// The byte position of the first byte that is not UTF-8 (overlong forms and surrogates are not);
// nothing if all is.
std::optional<std::size_t> validate_utf8(std::string_view text);

// Whether there is a letter, of any script.
bool has_letter(std::string_view text);

// Whether at least half of the letters are of the Latin script (accents and all, full-width forms
// too), as those of English are. Of a text without letters, too.
bool is_latin(std::string_view text);

// The code points of UTF-8 text; each maximal broken part becomes U+FFFD (Unicode 15, table 3-7,
// and Python's errors="replace").
std::u32string decode_utf8(std::string_view text);

// The inverse; a surrogate or a number beyond U+10FFFF becomes U+FFFD.
std::string encode_utf8(std::u32string_view text);

// The cleaned prompt: UTF-8, lower case, single spaces, none at the ends. Any bytes are accepted.
std::string clean_text(std::string_view text, const CleaningOptions& options = {});

// The pieces that are encoded one by one, views into `cleaned` (valid UTF-8, as clean_text gives
// it): the two special literals (unless `strict`), one of 's 't 're 've 'm 'll 'd, a run of
// letters, one number character, or a run of anything else that is not white space. With `strict`,
// <|startoftext|> and <|endoftext|> in a prompt are punctuation and letters like any other, so that
// a prompt cannot end itself early.
std::vector<std::string_view> split_words(std::string_view cleaned, bool strict = false);

}  // namespace mc::clip
