// Where tests find things: the tree itself, the shared material beside it, a scratch folder.
#pragma once

#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace mc::testing {

inline std::filesystem::path source_dir() { return MOCLIP_SOURCE_DIR; }

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
        std::string pattern = (std::filesystem::temp_directory_path() / "moclip_test_XXXXXX").string();
        path = mkdtemp(pattern.data());
    }
    ScratchDir(const ScratchDir&) = delete;
    ScratchDir& operator=(const ScratchDir&) = delete;
    ~ScratchDir() {
        std::error_code ignored;
        std::filesystem::remove_all(path, ignored);
    }
};

}  // namespace mc::testing
