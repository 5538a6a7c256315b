// Where a program finds what belongs to it, wherever it is started from.
#pragma once

#include <filesystem>
#include <string>

namespace mc::tools {

// pretrained/default: of the source tree that the running program was built in, else of the current
// folder.
std::filesystem::path default_bundle();

// CLIP's vocabulary as tools/clip_vocabulary.sh puts it into the build folder. If it is not there:
// empty, or an error that says how to get it.
std::filesystem::path find_clip_vocabulary();
std::filesystem::path clip_vocabulary();

// Makes the folder that a file is to be written to: before the work, not after it. Error, naming
// the option, if that fails or the file is a folder.
void make_parent(const std::filesystem::path& file, const std::string& option);

// Error if what is to be written is a file that is read: it would be lost.
void check_not_read(const std::filesystem::path& out, const std::filesystem::path& in);

}  // namespace mc::tools
