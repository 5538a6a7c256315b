#include "tools/common/paths.h"

#include <system_error>

#include "kernels/error.h"

namespace mc::tools {
namespace {

namespace fs = std::filesystem;

constexpr const char* kClipVocabulary = "build/clip/bpe_simple_vocab_16e6.txt.gz";

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

fs::path find_clip_vocabulary() {
    const fs::path tree = folder_with(kClipVocabulary);
    return tree.empty() ? tree : tree / kClipVocabulary;
}

fs::path clip_vocabulary() {
    const fs::path found = find_clip_vocabulary();
    if (found.empty())
        throw Error(std::string(kClipVocabulary) +
                    ": CLIP's vocabulary is not there; run tools/clip_vocabulary.sh, or name the "
                    "file with --vocab");
    return found;
}

void make_parent(const fs::path& file, const std::string& option) {
    std::error_code failed;
    if (!file.has_filename() || fs::is_directory(file, failed))
        throw Error(file.string() + ": is a folder; name a file with " + option);
    if (!file.has_parent_path()) return;
    fs::create_directories(file.parent_path(), failed);
    if (failed)
        throw Error(file.parent_path().string() + ": cannot be made: " + failed.message() +
                    "; name another file with " + option);
}

void check_not_read(const fs::path& out, const fs::path& in) {
    std::error_code failed;
    if (fs::equivalent(out, in, failed))
        throw Error(out.string() + ": is what is read, and would be lost; write another file");
}

}  // namespace mc::tools
