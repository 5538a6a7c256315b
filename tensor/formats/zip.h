// Zip archives as far as numeric file formats need them (npz; PyTorch's checkpoints): stored and
// deflated entries, Zip64, no encryption, no multi-volume archives. Format: PKWARE APPNOTE 6.3.
//
//     ZipReader zip("joints.npz");
//     for (const ZipEntry& e : zip.entries()) std::vector<std::byte> bytes = zip.read(e);
//
// Every offset and size in the file is checked before it is used, and every entry's CRC after it is
// read. All failures are mc::Error in one line: file, entry, what.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tensor/formats/atomic_file.h"

namespace mc {

struct ZipEntry {
    std::string name;
    uint16_t method = 0;  // 0 stored, 8 deflated
    uint32_t crc = 0;
    uint64_t compressed_size = 0;
    uint64_t size = 0;           // uncompressed, bytes
    uint64_t header_offset = 0;  // of the local header
};

class ZipReader {
  public:
    explicit ZipReader(std::filesystem::path path);

    const std::filesystem::path& path() const { return path_; }
    const std::vector<ZipEntry>& entries() const {
        return entries_;
    }                                                   // in the order of the directory
    const ZipEntry* find(std::string_view name) const;  // null if there is none

    // The entry's bytes, inflated if need be. Safe to call from several threads.
    std::vector<std::byte> read(const ZipEntry& entry) const;
    // Where the entry's (possibly compressed) bytes begin in the file: for mapping stored entries.
    uint64_t data_offset(const ZipEntry& entry) const;

  private:
    void read_at(uint64_t offset, void* to, size_t size, std::string_view what) const;

    std::filesystem::path path_;
    mutable std::ifstream file_;
    mutable std::mutex mutex_;
    uint64_t file_size_ = 0;
    std::vector<ZipEntry> entries_;
    std::unordered_map<std::string, size_t> index_;
};

class ZipWriter {
  public:
    explicit ZipWriter(std::filesystem::path path);

    // Error if the name is taken. Deflated entries are kept deflated only if that makes them
    // smaller.
    void add(const std::string& name, const void* data, size_t size, bool deflate = true);
    // Writes the directory and puts the file in its place (see AtomicFile).
    void commit();

  private:
    std::filesystem::path path_;
    AtomicFile file_;
    std::vector<ZipEntry> entries_;
};

}  // namespace mc
