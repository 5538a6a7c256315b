// A file that is only memory, for readers that take a path.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>

namespace mc::fuzz {

class MemoryFile {
  public:
    explicit MemoryFile(std::span<const std::byte> bytes)
        : descriptor_(::memfd_create("fuzz", MFD_CLOEXEC)) {
        if (descriptor_ < 0) throw std::runtime_error("memfd_create failed");
        for (size_t at = 0; at < bytes.size();) {
            const ssize_t n = ::write(descriptor_, bytes.data() + at, bytes.size() - at);
            if (n <= 0) throw std::runtime_error("cannot write to a memory file");
            at += static_cast<size_t>(n);
        }
    }
    ~MemoryFile() { ::close(descriptor_); }
    MemoryFile(const MemoryFile&) = delete;
    MemoryFile& operator=(const MemoryFile&) = delete;

    std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

  private:
    int descriptor_;
};

}  // namespace mc::fuzz
