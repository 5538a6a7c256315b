#include "tools/common/paths.h"

#include <system_error>

#include "kernels/error.h"

namespace mc::tools {
namespace {

namespace fs = std::filesystem;

// The innermost folder around the running program that has `member`; empty if there is none.
fs::path folder_with(const fs::path& member) {
    std::error_code failed;
    fs::path folder = fs::read_symlink("/proc/self/exe", failed).parent_path();
    while (!failed && folder.has_relative_path()) {  // build/release/bin -> ... -> the tree
        if (fs::exists(folder / member)) return folder;
        folder = folder.parent_path();
    }
    return {};
}

}  // namespace

fs::path default_bundle() {
    const fs::path tree = folder_with("pretrained/default/bundle.json");
    return tree.empty() ? "pretrained/default" : tree / "pretrained/default";
}

fs::path clip_vocabulary() {
    const fs::path file = "build/clip/bpe_simple_vocab_16e6.txt.gz", tree = folder_with(file);
    if (tree.empty())
        throw Error(file.string() +
                    ": CLIP's vocabulary is not there; run tools/clip_vocabulary.sh, or name the "
                    "file with --vocab");
    return tree / file;
}

}  // namespace mc::tools
