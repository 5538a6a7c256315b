// HTML character references, read as Python's html.unescape reads them, for CLIP's text cleaning.
#pragma once

#include <string>
#include <string_view>

namespace mc::clip {

// Replaces the references of the WHATWG HTML standard (13.2.5.72-80) once, left to right:
// - numbers, &#233; and &#xE9;, the semicolon optional; 0x80-0x9F are read as Windows-1252, a
// surrogate or a number
//   beyond U+10FFFF gives U+FFFD, and a control character or noncharacter gives nothing;
// - names, &eacute;, and for the 106 oldest also without the semicolon, then the longest prefix
// that is such a name:
//   "&notit" -> U+00AC "it".
// What is no reference stays as it is.
std::u32string unescape_html(std::u32string_view text);

// The narrower rule that ftfy applies before: only references that end in a semicolon, and also
// all-capital spellings of all-lower-case names (&EACUTE; -> U+00C9).
std::u32string unescape_html_strict(std::u32string_view text);

}  // namespace mc::clip
