// Zip archives as far as numeric file formats need them (npz; PyTorch's checkpoints): stored and
// deflated entries, Zip64, no encryption, no multi-volume archives. Format: PKWARE APPNOTE 6.3.
//
//     ZipReader zip("joints.npz");
//     for (const ZipEntry& e : zip.entries()) std::vector<std::byte> bytes = zip.read(e);
//
// The file is mapped, and stored entries can be used where they lie. Every offset and size in the
// file is checked before it is used, and every entry's CRC after it is read. Refused: entries that
// overlap, names that stand twice or leave the folder that one would unpack to, and sizes that no
// deflated data can have. All failures are mc::Error in one line: file, entry, what.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "tensor/formats/atomic_file.h"
#include "tensor/formats/mapped_file.h"

namespace mc {

struct ZipEntry {
    std::string name;
    uint16_t method = 0;  // 0 stored, 8 deflated
    uint32_t crc = 0;
    uint64_t compressed_size = 0;
    uint64_t size = 0;           // uncompressed, bytes
    uint64_t header_offset = 0;  // of the local header
    uint64_t limit = 0;          // where the next entry, or the directory, begins
};

class ZipReader {
  public:
    explicit ZipReader(const std::filesystem::path& path);

    const std::filesystem::path& path() const { return file_->path(); }
    const std::shared_ptr<const MappedFile>& file() const { return file_; }
    // In the order of the directory.
    const std::vector<ZipEntry>& entries() const { return entries_; }
    const ZipEntry* find(std::string_view name) const;  // null if there is none

    // The entry's bytes, inflated if need be. Safe to call from several threads.
    std::vector<std::byte> read(const ZipEntry& entry) const;
    // The entry's bytes as they lie in the mapped file: compressed ones if its method is not 0.
    // They live as long as file() does. The checksum is not looked at.
    std::span<const std::byte> stored(const ZipEntry& entry) const;
    // Error if the bytes of this entry have another checksum than the directory says.
    void check_crc(const ZipEntry& entry, std::span<const std::byte> bytes) const;
    // Where the entry's (possibly compressed) bytes begin in the file.
    uint64_t data_offset(const ZipEntry& entry) const;

  private:
    struct Directory {
        uint64_t offset, size, count;
    };
    Directory find_directory() const;
    ZipEntry parse_entry(std::span<const std::byte> directory, uint64_t number, size_t& at) const;
    void check_name(const std::string& name) const;
    void check_overlaps(uint64_t directory_offset);
    std::vector<std::byte> inflate_entry(const ZipEntry& entry,
                                         std::span<const std::byte> packed) const;
    [[noreturn]] void fail(const std::string& what) const;

    std::shared_ptr<const MappedFile> file_;
    std::vector<ZipEntry> entries_;
    std::unordered_map<std::string, size_t> index_;
};

class ZipWriter {
  public:
    explicit ZipWriter(std::filesystem::path path);

    // Error if the name is taken. Deflated entries are kept deflated only if that makes them
    // smaller. `alignment`: the entry's bytes begin at a multiple of it in the file.
    void add(const std::string& name, const void* data, size_t size, bool deflate = true,
             size_t alignment = 1);
    // Writes the directory and puts the file in its place (see AtomicFile).
    void commit();

  private:
    std::filesystem::path path_;
    AtomicFile file_;
    std::vector<ZipEntry> entries_;
    std::unordered_set<std::string> names_;
};

}  // namespace mc
