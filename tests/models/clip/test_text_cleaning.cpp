#include "models/clip/text_cleaning.h"

#include <doctest/doctest.h>

#include <string>
#include <utility>
#include <vector>

#include "models/clip/html_entities.h"

using mc::clip::clean_text;
using mc::clip::decode_utf8;
using mc::clip::encode_utf8;
using mc::clip::split_words;
using mc::clip::validate_utf8;

TEST_CASE("has_letter knows every script, and that white space and digits are none") {
    using mc::clip::has_letter;
    for (const char* words : {"a", "40 x", "\u00fc", "\u4eba"}) CHECK(has_letter(words));
    for (const char* none : {"", " \t", "40:80", "...", "\u3000", "\u2026"})
        CHECK_FALSE(has_letter(none));
}

TEST_CASE("is_latin asks for half of the letters, and takes accents, quotes and emoji") {
    using mc::clip::is_latin;
    for (const char* words : {"a person jumps", "", "1 2", "caf\u00e9 \u00fcber \u00df",
                              "\u1ebf\u1ed9", "\u201cjump\u201d \u2014 it\u2019s",
                              "\U0001F3C3\U0001F3C3\U0001F3C3\U0001F3C3\U0001F3C3 run",
                              "\uff4a\uff55\uff4d\uff50", "pose of \u592a\u6781", "e\u0301"}) {
        CAPTURE(words);
        CHECK(is_latin(words));
    }
    for (const char* words :
         {"\u0447\u0435\u043b\u043e\u0432\u0435\u043a", "\u4eba\u8df3", "\u4eba\u8df3 m",
          "\u05d0\u05d3\u05dd", "\u03ac\u03bd\u03b8", "a \u0447\u0435\u043b\u043e"}) {
        CAPTURE(words);
        CHECK_FALSE(is_latin(words));
    }
}

TEST_CASE("validate_utf8 names the first broken byte") {
    CHECK(!validate_utf8(""));
    CHECK(!validate_utf8("a\u00E9\u4F60\U0001F600"));
    CHECK(validate_utf8("ab\xFF").value() == 2);
    CHECK(validate_utf8("a\xC3").value() == 1);
    CHECK(validate_utf8("\xC0\x80").value() == 0);          // overlong
    CHECK(validate_utf8("\xE0\x80\x80").value() == 0);      // overlong
    CHECK(validate_utf8("xx\xED\xA0\x80").value() == 2);    // surrogate
    CHECK(validate_utf8("\xF4\x90\x80\x80").value() == 0);  // beyond U+10FFFF
    CHECK(validate_utf8("\xF5").value() == 0);
}

TEST_CASE("decode_utf8 replaces each maximal broken part") {
    CHECK(decode_utf8("a\xF0\x9F\x98z") == U"a\uFFFDz");
    CHECK(decode_utf8("\xE4\xBD") == U"\uFFFD");
    CHECK(decode_utf8("\xED\xA0\x80") == U"\uFFFD\uFFFD\uFFFD");
    CHECK(decode_utf8("\xC0\xAF") == U"\uFFFD\uFFFD");
    CHECK(encode_utf8(std::u32string{0xD800, 0x110000, U'a'}) == "\uFFFD\uFFFDa");
}

TEST_CASE("clean_text repairs, unescapes, squeezes and lower-cases") {
    const std::vector<std::pair<std::string, std::string>> pairs = {
        {"", ""},
        {" \t\r\n", ""},
        {"A Person  walks\tFORWARD!!", "a person walks forward!!"},
        {"a\x1Fx\x1C", "ax"},
        {"x\x1By", "xy"},
        {"&amp;amp;amp;amp; &lt;", "& <"},
        {"<&amp;amp;amp;", "<&amp;"},  // with a '<' only the two rounds of html.unescape are left
        {"&EACUTE; &Eacute; &eacute", "\u00E9 \u00E9 \u00E9"},
        {"it\u2019s \u201Cso\u201D", "it's \"so\""},
        {"\uFB01ne o\uFB03ce \u0149", "fine office 'n"},
        {"\uFF26\uFF55\uFF4C\uFF4C\u3000\uFF01", "full !"},
        {"\uFF76\uFF9E", "\u30AC"},  // half-width katakana and its mark
        {"e\u0301", "\u00E9"},
        {"\x1B[31mred\x1B[0m", "red"},
        {"\u0391\u03A3 \u03A3\u0391\u03A3.", "\u03B1\u03C2 \u03C3\u03B1\u03C2."},
        {"\u03A3", "\u03C3"},
        {"A\u03A3:B A\u03A3: B",
         "a\u03C3:b a\u03C2: b"},  // the colon is passed over, the space isn't
        {"\u0130", "i\u0307"},
        {"\u00A0x\u2003\u2028y\u3000", "x y"},
        {"a\u0085b", "a\u2026b"},  // a C1 control is Windows-1252 that was read as Latin-1
    };
    for (const auto& [text, want] : pairs) {
        CAPTURE(text);
        CHECK(clean_text(text) == want);
    }
    CHECK(clean_text("it\u2019s e\u0301 &amp;amp;amp;", {.fix_text = false}) ==
          "it\u2019s e\u0301 &amp;");
}

TEST_CASE("nested references end in bounded time") {
    std::string nested = "&";
    for (int i = 0; i < 20000; ++i) nested += "amp;";
    CHECK(clean_text(nested).size() > 60000);
}

TEST_CASE("unescape_html follows HTML's rules") {
    using mc::clip::unescape_html;
    const std::vector<std::pair<std::u32string, std::u32string>> pairs = {
        {U"&lt;b&gt", U"<b>"},
        {U"&notit; &notin; &not", U"\u00ACit; \u2209 \u00AC"},
        {U"&#233;&#xE9;&#XE9", U"\u00E9\u00E9\u00E9"},
        {U"&#128;&#x9D;&#0;&#13;", std::u32string(U"\u20AC\u009D\uFFFD") + U"\r"},
        {U"&#xD800;&#99999999999999999999;", U"\uFFFD\uFFFD"},
        {U"&#1;&#xFDD0;&#x1FFFF;", U""},
        {U"&#; &#xZZ; &; & &unknown;", U"&#; &#xZZ; &; & &unknown;"},
        {U"&NotEqualTilde;", U"\u2242\u0338"},
        {U"&CounterClockwiseContourIntegral;", U"\u2233"},
        {U"&eacut", U"&eacut"},
    };
    for (const auto& [text, want] : pairs) {
        CAPTURE(encode_utf8(text));
        const bool same = unescape_html(text) == want;
        CHECK(same);
    }
    const bool strict =
        mc::clip::unescape_html_strict(U"&lt &lt; &LT; &HELLIP; &#38;") == U"&lt < < \u2026 &";
    CHECK(strict);
}

TEST_CASE("split_words cuts letters, numbers and the rest") {
    using Pieces = std::vector<std::string_view>;
    CHECK(split_words("").empty());
    CHECK(split_words("he's 20!?") == Pieces{"he", "'s", "2", "0", "!?"});
    CHECK(split_words("o'clock 'll'd") == Pieces{"o", "'", "clock", "'ll", "'d"});
    CHECK(split_words("!'s") == Pieces{"!'", "s"});
    CHECK(split_words("don'\u017F") == Pieces{"don", "'\u017F"});
    CHECK(split_words("a<|endoftext|>b") == Pieces{"a", "<|endoftext|>", "b"});
    CHECK(split_words("a<|endoftext|>b", true) == Pieces{"a", "<|", "endoftext", "|>", "b"});
    CHECK(split_words("\u00BD\u0661x") == Pieces{"\u00BD", "\u0661", "x"});
    CHECK(split_words("e\u0301") == Pieces{"e", "\u0301"});
}
