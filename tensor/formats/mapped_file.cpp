#include "tensor/formats/mapped_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "kernels/error.h"

namespace mc {

MappedFile::MappedFile(std::filesystem::path path, const std::byte* data, size_t size)
    : path_(std::move(path)), data_(data), size_(size) {}

MappedFile::~MappedFile() {
    if (size_ > 0) ::munmap(const_cast<std::byte*>(data_), size_);
}

std::string MappedFile::checksum() const {
    return fmt::format("{:08x}", crc32_z(0, reinterpret_cast<const Bytef*>(data_), size_));
}

std::shared_ptr<const MappedFile> MappedFile::open(const std::filesystem::path& path) {
    const auto fail = [&](const char* why) {
        throw Error(fmt::format("{}: cannot read: {}; check the path", path.string(), why));
    };
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) fail(std::strerror(errno));
    struct stat status {};
    if (::fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
        ::close(descriptor);
        fail(S_ISDIR(status.st_mode) ? "it is a folder" : "it is not a regular file");
    }
    const size_t size = static_cast<size_t>(status.st_size);
    void* data = nullptr;
    if (size > 0) data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    const int error = errno;
    ::close(descriptor);
    if (data == MAP_FAILED) fail(std::strerror(error));
    return std::shared_ptr<const MappedFile>(
        new MappedFile(path, static_cast<const std::byte*>(data), size));
}

}  // namespace mc
