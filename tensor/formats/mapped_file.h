// A file's bytes, mapped read-only: pages come from the disk when they are touched, and several
// processes share them. Tensors borrow from it (Tensor::borrow) and keep it alive.
//
//     std::shared_ptr<const MappedFile> file = MappedFile::open("model.safetensors");
//     std::span<const std::byte> bytes = file->bytes();
//
// Replacing the file by rename (AtomicFile) leaves a mapping intact; shortening it in place does
// not, so nobody here writes in place.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

namespace mc {

class MappedFile {
  public:
    // Error if there is no such regular file or it cannot be mapped. An empty file maps to no
    // bytes.
    static std::shared_ptr<const MappedFile> open(const std::filesystem::path& path);
    ~MappedFile();
    MappedFile(const MappedFile&) = delete;
    MappedFile& operator=(const MappedFile&) = delete;

    std::span<const std::byte> bytes() const { return {data_, size_}; }
    const std::filesystem::path& path() const { return path_; }
    // CRC-32 (zlib's) of the bytes, eight hexadecimal digits: 11 ms for 29 MB.
    std::string checksum() const;

  private:
    MappedFile(std::filesystem::path path, const std::byte* data, size_t size);

    std::filesystem::path path_;
    const std::byte* data_;
    size_t size_;
};

}  // namespace mc
