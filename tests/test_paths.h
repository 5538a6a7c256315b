// Where tests find things: the tree itself, the shared material beside it, a scratch folder.
#pragma once

#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace mc::testing {

inline std::filesystem::path source_dir() {
    return MOCLIP_SOURCE_DIR;
}

// The shared folder (reference cases, data) lies beside the checkout; MOCLIP_SHARED names another.
inline std::filesystem::path shared_dir() {
    if (const char* named = std::getenv("MOCLIP_SHARED")) return named;
    return source_dir().parent_path() / "shared";
}

// True if shared/PATH is there; otherwise says loudly that the test is skipped.
inline bool have_shared(const std::string& path) {
    if (std::filesystem::exists(shared_dir() / path)) return true;
    MESSAGE("SKIPPED: no " << (shared_dir() / path).string());
    return false;
}

// A fresh folder that vanishes with the object.
struct ScratchDir {
    std::filesystem::path path;
    ScratchDir() {
        std::string pattern =
            (std::filesystem::temp_directory_path() / "moclip_test_XXXXXX").string();
        path = mkdtemp(pattern.data());
    }
    ScratchDir(const ScratchDir&) = delete;
    ScratchDir& operator=(const ScratchDir&) = delete;
    ~ScratchDir() {
        std::error_code ignored;
        std::filesystem::remove_all(path, ignored);
    }
};

// Whether an unfinished file or folder is left in it (tensor/formats/temporary.h).
inline bool has_temporaries(const std::filesystem::path& folder) {
    for (const auto& entry : std::filesystem::directory_iterator(folder))
        if (entry.path().filename().string().find(".tmp") != std::string::npos) return true;
    return false;
}

inline std::string file_bytes(const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

// In a fresh file: ext4 writes one that was cut to nothing and filled again to the disk at once,
// which for thousands of damaged files takes longer than reading them.
inline void write_file_bytes(const std::filesystem::path& path, const std::string& bytes) {
    std::filesystem::remove(path);
    std::ofstream(path, std::ios::binary) << bytes;
}

}  // namespace mc::testing
