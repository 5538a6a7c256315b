#include "tensor/formats/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <optional>
#include <utility>

#include "kernels/error.h"

namespace mc {
namespace {

const char* remedy(int error) {
    switch (error) {
        case ENOSPC:
        case EDQUOT:
            return "free some space or write to another disk";
        case EFBIG:
            return "raise the limit on a file's size (ulimit -f) or write to another disk";
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
        case ELOOP:
            return "its symbolic links lead nowhere; choose another name";
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

// The number in /proc/self/fd/NUMBER, what /dev/stdout and /dev/fd/NUMBER lead to. Such a link is
// no name of a file: it may read "pipe:[7]", and where it reads as a file's path, others write
// there.
std::optional<int> open_descriptor(const std::filesystem::path& link) {
    std::error_code failed;
    const std::filesystem::path folder = std::filesystem::canonical(link.parent_path(), failed);
    if (failed || folder != fmt::format("/proc/{}/fd", ::getpid())) return std::nullopt;
    const std::string name = link.filename().string();
    int number = -1;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (error != std::errc() || end != name.data() + name.size()) return std::nullopt;
    return number;
}

// A descriptor that writes to what is open already. What was printed before comes before.
int duplicate(int number, const std::filesystem::path& path) {
    if (number == STDOUT_FILENO) std::fflush(stdout);
    const int descriptor = ::fcntl(number, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (descriptor < 0) fail(path, errno);
    return descriptor;
}

constexpr int kMostLinks = 40;  // as the system's own limit

}  // namespace

AtomicFile::AtomicFile(std::filesystem::path path) : path_(std::move(path)), target_(path_) {
    for (int links = 0;; ++links) {
        std::error_code failed;
        const std::filesystem::path next = std::filesystem::read_symlink(target_, failed);
        if (failed) break;  // no link
        if (const auto number = open_descriptor(target_)) {
            descriptor_ = duplicate(*number, path_);
            return;
        }
        if (links == kMostLinks) fail(path_, ELOOP);
        target_ = target_.parent_path() / next;
    }
    struct stat is {};
    const bool there = ::stat(target_.c_str(), &is) == 0;
    if (there && !S_ISREG(is.st_mode)) {
        if (S_ISDIR(is.st_mode)) fail(path_, EISDIR);
        descriptor_ = ::open(target_.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY);
    } else {
        temporary_.emplace(target_);
        descriptor_ =
            ::open(temporary_->path().c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        // Who may read what was there may read what takes its place. Where that cannot be had
        // (another's file), it is as a new file is.
        if (there && descriptor_ >= 0) (void)!::fchmod(descriptor_, is.st_mode & 0777);
    }
    if (descriptor_ < 0) fail(path_, errno);
}

AtomicFile::~AtomicFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
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
    if (!temporary_) {  // a device or a pipe has nothing to rename and no disk to flush to
        if (::close(std::exchange(descriptor_, -1)) != 0) fail(path_, errno);
        return;
    }
    if (flush && ::fsync(descriptor_) != 0) fail(path_, errno);
    const int closed = ::close(std::exchange(descriptor_, -1));
    if (closed != 0 || std::rename(temporary_->path().c_str(), target_.c_str()) != 0)
        fail(path_, errno);
    temporary_->keep();
    if (flush) flush_folder(target_);
}

void write_text_file(const std::filesystem::path& path, std::string_view text, bool flush) {
    AtomicFile file(path);
    file.write(text);
    file.commit(flush);
}

}  // namespace mc
