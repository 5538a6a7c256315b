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
namespace {

const char* remedy(int error) {
    switch (error) {
        case ENOSPC:
        case EDQUOT:
        case EFBIG:
            return "free some space or write to another disk";
        case ENOENT:
        case ENOTDIR:
            return "make the folder first";
        case EACCES:
        case EPERM:
        case EROFS:
            return "write to a folder that you may write to";
        case EISDIR:
        case ENOTEMPTY:
        case EEXIST:
            return "a folder has that name; choose another";
        default:
            return "check the disk and the path";
    }
}

[[noreturn]] void fail(const std::filesystem::path& path, int error) {
    throw Error(fmt::format("{}: cannot write: {}; {}", path.string(), std::strerror(error),
                            remedy(error)));
}

// Makes a rename last. Some file systems cannot flush a folder; the file itself is safe by then.
void flush_folder(const std::filesystem::path& file) {
    const std::filesystem::path folder = file.has_parent_path() ? file.parent_path() : ".";
    const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) return;
    ::fsync(descriptor);
    ::close(descriptor);
}

}  // namespace

AtomicFile::AtomicFile(std::filesystem::path path) : path_(std::move(path)), temporary_(path_) {
    temporary_ += ".tmp";
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (descriptor_ < 0) fail(path_, errno);
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
        if (done < 0) fail(path_, errno);
        at += done;
        size -= static_cast<size_t>(done);
    }
}

void AtomicFile::commit(bool flush) {
    if (flush && ::fsync(descriptor_) != 0) fail(path_, errno);
    const int closed = ::close(std::exchange(descriptor_, -1));
    if (closed != 0 || std::rename(temporary_.c_str(), path_.c_str()) != 0) {
        const int error = errno;
        ::unlink(temporary_.c_str());
        fail(path_, error);
    }
    if (flush) flush_folder(path_);
}

void write_text_file(const std::filesystem::path& path, std::string_view text, bool flush) {
    AtomicFile file(path);
    file.write(text);
    file.commit(flush);
}

}  // namespace mc
