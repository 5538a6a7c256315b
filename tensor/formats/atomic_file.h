// A file that appears whole or not at all: bytes go to PATH.tmpPID, which is flushed to the disk
// and renamed onto PATH by commit(). Without commit() (an exception on the way) the destructor
// removes the temporary file. A process killed at any moment leaves the old file or the new one
// under PATH, never a half; what it may leave is PATH.tmpPID (temporary.h).
//
// A symbolic link is followed: what it leads to is replaced, the link stays. What is there and is
// no regular file, a device or a pipe (/dev/null, /dev/stdout), cannot be replaced as a whole and
// is written directly.
//
//     AtomicFile file("out/mean.npy");
//     file.write(data, size);
//     file.commit();
//
// Every failure is one Error line: file, what the system said, remedy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>

#include "tensor/formats/temporary.h"

namespace mc {

class AtomicFile {
  public:
    // Error if the temporary file cannot be made (no such folder, no permission), or if `path` is a
    // folder.
    explicit AtomicFile(std::filesystem::path path);
    ~AtomicFile();
    AtomicFile(const AtomicFile&) = delete;
    AtomicFile& operator=(const AtomicFile&) = delete;

    // Error if the disk does not take all bytes.
    void write(const void* data, size_t size);
    void write(std::string_view text) { write(text.data(), text.size()); }
    uint64_t size() const { return size_; }  // bytes written so far

    // Flushes (fsync), renames, and flushes the folder, so that the new name survives a power cut.
    // Nothing may be written afterwards. Without `flush` the file still appears whole or not at all
    // to other programs, but may be lost if the machine stops: for thousands of small files that
    // can be made again.
    void commit(bool flush = true);

  private:
    std::filesystem::path path_;          // as the caller names it
    std::filesystem::path target_;        // where its links lead
    std::optional<Temporary> temporary_;  // none: the target is written directly
    int descriptor_ = -1;
    uint64_t size_ = 0;
};

// The whole text as a file, atomically.
void write_text_file(const std::filesystem::path& path, std::string_view text, bool flush = true);

}  // namespace mc
