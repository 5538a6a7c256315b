// Where a program finds what belongs to it, wherever it is started from.
#pragma once

#include <filesystem>

namespace mc::tools {

// pretrained/default: of the source tree that the running program was built in, else of the current
// folder.
std::filesystem::path default_bundle();

}  // namespace mc::tools
