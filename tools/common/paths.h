// Where a program finds what belongs to it, wherever it is started from.
#pragma once

#include <filesystem>

namespace mc::tools {

// pretrained/default: of the source tree that the running program was built in, else of the current
// folder.
std::filesystem::path default_bundle();

// CLIP's vocabulary as tools/clip_vocabulary.sh puts it into the build folder. If it is not there:
// empty, or an error that says how to get it.
std::filesystem::path find_clip_vocabulary();
std::filesystem::path clip_vocabulary();

}  // namespace mc::tools
