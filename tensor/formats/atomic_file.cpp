#include "tensor/formats/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "kernels/error.h"

namespace mc {

AtomicFile::AtomicFile(std::filesystem::path path) : path_(std::move(path)), temporary_(path_) {
    temporary_ += ".tmp";
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (descriptor_ < 0)
        throw Error(fmt::format("{}: cannot write: {}", temporary_.string(), std::strerror(errno)));
}

AtomicFile::~AtomicFile() {
    if (descriptor_ < 0) return;
    ::close(descriptor_);
    ::unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, size_t size) {
    const char* at = static_cast<const char*>(data);
    size_ += size;
    while (size > 0) {
        const ssize_t done = ::write(descriptor_, at, size);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0)
            throw Error(
                fmt::format("{}: cannot write: {}", temporary_.string(), std::strerror(errno)));
        at += done;
        size -= static_cast<size_t>(done);
    }
}

void AtomicFile::commit() {
    if (::fsync(descriptor_) != 0)
        throw Error(fmt::format("{}: cannot flush: {}", temporary_.string(), std::strerror(errno)));
    const int closed = ::close(std::exchange(descriptor_, -1));
    if (closed != 0 || std::rename(temporary_.c_str(), path_.c_str()) != 0) {
        const std::string why = std::strerror(errno);
        ::unlink(temporary_.c_str());
        throw Error(fmt::format("{}: cannot write: {}", path_.string(), why));
    }
}

void write_text_file(const std::filesystem::path& path, std::string_view text) {
    AtomicFile file(path);
    file.write(text);
    file.commit();
}

}  // namespace mc
