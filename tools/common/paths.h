// Where a program finds what belongs to it, wherever it is started from.
#pragma once

#include <filesystem>

namespace mc::tools {

// pretrained/default: of the source tree that the running program was built in, else of the current
// folder.
std::filesystem::path default_bundle();

// CLIP's vocabulary as tools/clip_vocabulary.sh puts it into the build folder. Error that says how
// to get it if it is not there.
std::filesystem::path clip_vocabulary();

}  // namespace mc::tools
