#include "tools/common/paths.h"

#include <system_error>

namespace mc::tools {

std::filesystem::path default_bundle() {
    namespace fs = std::filesystem;
    std::error_code failed;
    fs::path folder = fs::read_symlink("/proc/self/exe", failed).parent_path();
    while (!failed && folder.has_relative_path()) {  // build/release/bin -> ... -> the tree
        if (fs::exists(folder / "pretrained" / "default" / "bundle.json"))
            return folder / "pretrained" / "default";
        folder = folder.parent_path();
    }
    return "pretrained/default";
}

}  // namespace mc::tools
