// The text of the viewer's page and of its test of itself, for html_viewer.cpp alone.
#pragma once

namespace mc::motion {

// Complete but for the marks @TITLE@ (HTML text), @DATA@ (JSON without '<', '>' and '&') and
// @SELFTEST@.
extern const char* const kViewerPage;
// The function selftest() of the page's script (html_selftest.cpp).
extern const char* const kViewerSelftest;

}  // namespace mc::motion
