// The text of the viewer's page, for html_viewer.cpp alone.
#pragma once

namespace mc::motion {

// Complete but for the marks @TITLE@ (HTML text) and @DATA@ (JSON without '<', '>' and '&').
extern const char* const kViewerPage;

}  // namespace mc::motion
