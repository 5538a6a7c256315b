#include "tensor/formats/zip.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <cstring>

#include "kernels/error.h"

namespace mc {

namespace {

constexpr uint32_t kLocalMagic = 0x04034b50, kCentralMagic = 0x02014b50, kEndMagic = 0x06054b50;
constexpr uint32_t kEnd64Magic = 0x06064b50, kEnd64LocatorMagic = 0x07064b50;
constexpr size_t kLocalSize = 30, kCentralSize = 46, kEndSize = 22, kEnd64Size = 56,
                 kLocatorSize = 20;
constexpr uint64_t kMaxEntries = 10'000'000;
// Deflate cannot expand by more than 1032:1, so a larger claim is a lie and must not cost memory.
constexpr uint64_t kMaxExpansion = 1032;

template <typename T>
T little(const std::byte* at) {
    T value = 0;
    for (size_t i = 0; i < sizeof(T); ++i)
        value |= static_cast<T>(static_cast<T>(std::to_integer<uint8_t>(at[i])) << (8 * i));
    return value;
}

template <typename T>
void append(std::string& to, T value) {
    for (size_t i = 0; i < sizeof(T); ++i)
        to.push_back(static_cast<char>((value >> (8 * i)) & 0xff));
}

uint32_t crc_of(const void* data, uint64_t size) {
    const auto* at = static_cast<const Bytef*>(data);
    uLong crc = crc32(0, nullptr, 0);
    while (size > 0) {
        const auto part = static_cast<uInt>(std::min<uint64_t>(size, 1u << 30));
        crc = crc32(crc, at, part);
        at += part;
        size -= part;
    }
    return static_cast<uint32_t>(crc);
}

}  // namespace

ZipReader::ZipReader(std::filesystem::path path) : path_(std::move(path)) {
    file_.open(path_, std::ios::binary);
    if (!file_) throw Error(fmt::format("{}: cannot open", path_.string()));
    file_.seekg(0, std::ios::end);
    const auto end_position = file_.tellg();
    if (end_position < 0) throw Error(fmt::format("{}: cannot read", path_.string()));
    file_size_ = static_cast<uint64_t>(end_position);
    auto fail = [&](const std::string& what) -> Error {
        return Error(fmt::format("{}: not a usable zip archive: {}", path_.string(), what));
    };
    if (file_size_ < kEndSize) throw fail("too short; it may be truncated");

    // The end record is the last thing in the file but for a comment of at most 65535 bytes.
    const uint64_t tail_size = std::min<uint64_t>(file_size_, kEndSize + 65535 + kLocatorSize);
    std::vector<std::byte> tail(tail_size);
    read_at(file_size_ - tail_size, tail.data(), tail_size, "end record");
    size_t at = tail_size - kEndSize + 1;
    bool found = false;
    while (at-- > 0) {
        if (little<uint32_t>(&tail[at]) != kEndMagic) continue;
        if (at + kEndSize + little<uint16_t>(&tail[at + 20]) > tail_size) continue;
        found = true;
        break;
    }
    if (!found) throw fail("no end record; it may be truncated");
    if (little<uint16_t>(&tail[at + 4]) != 0 || little<uint16_t>(&tail[at + 6]) != 0)
        throw fail("it is one of several volumes");
    uint64_t count = little<uint16_t>(&tail[at + 10]);
    uint64_t directory_size = little<uint32_t>(&tail[at + 12]);
    uint64_t directory_offset = little<uint32_t>(&tail[at + 16]);
    const uint64_t end_offset = file_size_ - tail_size + at;
    if (at >= kLocatorSize && little<uint32_t>(&tail[at - kLocatorSize]) == kEnd64LocatorMagic) {
        const uint64_t end64 = little<uint64_t>(&tail[at - kLocatorSize + 8]);
        if (end64 > file_size_ || file_size_ - end64 < kEnd64Size) throw fail("bad Zip64 locator");
        std::byte record[kEnd64Size];
        read_at(end64, record, kEnd64Size, "Zip64 end record");
        if (little<uint32_t>(record) != kEnd64Magic) throw fail("bad Zip64 end record");
        count = little<uint64_t>(record + 32);
        directory_size = little<uint64_t>(record + 40);
        directory_offset = little<uint64_t>(record + 48);
    }
    if (directory_offset > end_offset || directory_size > end_offset - directory_offset)
        throw fail("its directory lies outside the file");
    if (count > kMaxEntries || count * kCentralSize > directory_size)
        throw fail(
            fmt::format("its directory of {} bytes cannot hold {} entries", directory_size, count));

    std::vector<std::byte> directory(directory_size);
    read_at(directory_offset, directory.data(), directory_size, "directory");
    size_t p = 0;
    entries_.reserve(count);
    for (uint64_t i = 0; i < count; ++i) {
        if (directory_size - p < kCentralSize || little<uint32_t>(&directory[p]) != kCentralMagic)
            throw fail(fmt::format("bad directory entry {}", i));
        const std::byte* d = &directory[p];
        ZipEntry entry;
        const uint16_t flags = little<uint16_t>(d + 8);
        entry.method = little<uint16_t>(d + 10);
        entry.crc = little<uint32_t>(d + 16);
        entry.compressed_size = little<uint32_t>(d + 20);
        entry.size = little<uint32_t>(d + 24);
        const size_t name_size = little<uint16_t>(d + 28), extra_size = little<uint16_t>(d + 30);
        const size_t comment_size = little<uint16_t>(d + 32);
        entry.header_offset = little<uint32_t>(d + 42);
        if (directory_size - p - kCentralSize < name_size + extra_size + comment_size)
            throw fail(fmt::format("directory entry {} runs out of the directory", i));
        entry.name.assign(reinterpret_cast<const char*>(d + kCentralSize), name_size);
        // Zip64 extra field: 64-bit values for those of the three that read 0xffffffff, in this
        // order.
        const std::byte* extra = d + kCentralSize + name_size;
        for (size_t e = 0; e + 4 <= extra_size;) {
            const size_t id = little<uint16_t>(extra + e), size = little<uint16_t>(extra + e + 2);
            if (size > extra_size - e - 4) break;
            if (id == 1) {
                size_t q = e + 4;
                const size_t stop = q + size;
                for (uint64_t* value : {&entry.size, &entry.compressed_size, &entry.header_offset})
                    if (*value == 0xffffffffu) {
                        if (stop - q < 8)
                            throw fail(fmt::format("entry '{}': bad Zip64 field", entry.name));
                        *value = little<uint64_t>(extra + q);
                        q += 8;
                    }
            }
            e += 4 + size;
        }
        if (flags & 1) throw fail(fmt::format("entry '{}' is encrypted", entry.name));
        if (entry.method != 0 && entry.method != 8)
            throw fail(fmt::format(
                "entry '{}': compression method {} is not supported (stored and deflated are)",
                entry.name, entry.method));
        if (entry.header_offset > file_size_ || entry.compressed_size > file_size_ ||
            file_size_ - entry.header_offset < kLocalSize + entry.compressed_size)
            throw fail(fmt::format("entry '{}' lies outside the file", entry.name));
        if (entry.method == 0 && entry.size != entry.compressed_size)
            throw fail(fmt::format("stored entry '{}' has two sizes, {} and {}", entry.name,
                                   entry.compressed_size, entry.size));
        if (entry.method == 8 && entry.size / kMaxExpansion > entry.compressed_size)
            throw fail(fmt::format("entry '{}': {} bytes cannot inflate to {}", entry.name,
                                   entry.compressed_size, entry.size));
        if (!index_.emplace(entry.name, entries_.size()).second)
            throw fail(fmt::format("entry '{}' is there twice", entry.name));
        entries_.push_back(std::move(entry));
        p += kCentralSize + name_size + extra_size + comment_size;
    }
}

const ZipEntry* ZipReader::find(std::string_view name) const {
    const auto it = index_.find(std::string(name));
    return it == index_.end() ? nullptr : &entries_[it->second];
}

void ZipReader::read_at(uint64_t offset, void* to, size_t size, std::string_view what) const {
    const std::lock_guard lock(mutex_);
    file_.clear();
    file_.seekg(static_cast<std::streamoff>(offset));
    file_.read(static_cast<char*>(to), static_cast<std::streamsize>(size));
    if (!file_ || static_cast<size_t>(file_.gcount()) != size)
        throw Error(
            fmt::format("{}: {}: cannot read {} bytes at offset {}; the file may be truncated",
                        path_.string(), what, size, offset));
}

uint64_t ZipReader::data_offset(const ZipEntry& entry) const {
    std::byte local[kLocalSize];
    read_at(entry.header_offset, local, kLocalSize, entry.name);
    if (little<uint32_t>(local) != kLocalMagic)
        throw Error(fmt::format("{}: entry '{}': bad local header", path_.string(), entry.name));
    const uint64_t offset = entry.header_offset + kLocalSize + little<uint16_t>(local + 26) +
                            little<uint16_t>(local + 28);
    if (offset > file_size_ || entry.compressed_size > file_size_ - offset)
        throw Error(fmt::format("{}: entry '{}' runs out of the file; it may be truncated",
                                path_.string(), entry.name));
    return offset;
}

std::vector<std::byte> ZipReader::read(const ZipEntry& entry) const {
    const uint64_t offset = data_offset(entry);
    std::vector<std::byte> bytes(entry.compressed_size);
    read_at(offset, bytes.data(), bytes.size(), entry.name);
    if (entry.method == 8) {
        std::vector<std::byte> inflated(entry.size);
        z_stream stream{};
        if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) throw Error("[zip] zlib cannot start");
        uint64_t in = 0, out = 0;
        int status = Z_OK;
        std::byte spare{};  // inflate wants a non-null output even for an empty entry
        while (status == Z_OK) {
            const auto in_part = static_cast<uInt>(std::min<uint64_t>(bytes.size() - in, 1u << 30));
            const auto out_part =
                static_cast<uInt>(std::min<uint64_t>(inflated.size() - out, 1u << 30));
            stream.next_in = reinterpret_cast<Bytef*>(bytes.data() + in);
            stream.avail_in = in_part;
            stream.next_out = reinterpret_cast<Bytef*>(out_part ? inflated.data() + out : &spare);
            stream.avail_out = out_part;
            status = inflate(&stream, Z_NO_FLUSH);
            in += in_part - stream.avail_in;
            out += out_part - stream.avail_out;
        }
        inflateEnd(&stream);
        if (status != Z_STREAM_END || out != entry.size)
            throw Error(
                fmt::format("{}: entry '{}': damaged compressed data", path_.string(), entry.name));
        bytes = std::move(inflated);
    }
    if (crc_of(bytes.data(), bytes.size()) != entry.crc)
        throw Error(fmt::format("{}: entry '{}': checksum differs, the data are damaged",
                                path_.string(), entry.name));
    return bytes;
}

ZipWriter::ZipWriter(std::filesystem::path path) : path_(path), file_(std::move(path)) {}

void ZipWriter::add(const std::string& name, const void* data, size_t size, bool deflate) {
    for (const ZipEntry& other : entries_)
        if (other.name == name)
            throw Error(fmt::format("{}: entry '{}' is there already", path_.string(), name));
    if (name.size() > 0xffff) throw Error(fmt::format("{}: entry name too long", path_.string()));
    ZipEntry entry{name, 0, crc_of(data, size), size, size, file_.size()};
    std::vector<std::byte> packed;
    if (deflate && size > 0 && size < (1u << 30)) {
        z_stream stream{};
        if (deflateInit2(&stream, 6, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK)
            throw Error("[zip] zlib cannot start");
        packed.resize(deflateBound(&stream, size));
        stream.next_in = static_cast<Bytef*>(const_cast<void*>(data));
        stream.avail_in = static_cast<uInt>(size);
        stream.next_out = reinterpret_cast<Bytef*>(packed.data());
        stream.avail_out = static_cast<uInt>(packed.size());
        const int status = ::deflate(&stream, Z_FINISH);
        packed.resize(stream.total_out);
        deflateEnd(&stream);
        if (status == Z_STREAM_END && packed.size() < size) {
            entry.method = 8;
            entry.compressed_size = packed.size();
        }
    }
    const bool big = entry.size >= 0xffffffffu;
    std::string header;
    append<uint32_t>(header, kLocalMagic);
    append<uint16_t>(header, big ? 45 : 20);
    append<uint16_t>(header, 0);
    append<uint16_t>(header, entry.method);
    append<uint16_t>(header, 0);       // time
    append<uint16_t>(header, 0x0021);  // 1 January 1980: the same input gives the same bytes
    append<uint32_t>(header, entry.crc);
    append<uint32_t>(header, big ? 0xffffffffu : static_cast<uint32_t>(entry.compressed_size));
    append<uint32_t>(header, big ? 0xffffffffu : static_cast<uint32_t>(entry.size));
    append<uint16_t>(header, static_cast<uint16_t>(name.size()));
    append<uint16_t>(header, big ? 20 : 0);
    header += name;
    if (big) {
        append<uint16_t>(header, 1);
        append<uint16_t>(header, 16);
        append<uint64_t>(header, entry.size);
        append<uint64_t>(header, entry.compressed_size);
    }
    file_.write(header);
    file_.write(entry.method ? packed.data() : data, entry.compressed_size);
    entries_.push_back(std::move(entry));
}

void ZipWriter::commit() {
    const uint64_t start = file_.size();
    std::string directory;
    for (const ZipEntry& e : entries_) {
        // Values that do not fit 32 bits go to a Zip64 field, in the order size, compressed size,
        // offset.
        std::string extra;
        auto field = [&](uint64_t value) -> uint32_t {
            if (value < 0xffffffffu) return static_cast<uint32_t>(value);
            append<uint64_t>(extra, value);
            return 0xffffffffu;
        };
        const uint32_t size = field(e.size), compressed = field(e.compressed_size);
        const uint32_t offset = field(e.header_offset);
        append<uint32_t>(directory, kCentralMagic);
        append<uint16_t>(directory, 45);
        append<uint16_t>(directory, extra.empty() ? 20 : 45);
        append<uint16_t>(directory, 0);
        append<uint16_t>(directory, e.method);
        append<uint16_t>(directory, 0);
        append<uint16_t>(directory, 0x0021);
        append<uint32_t>(directory, e.crc);
        append<uint32_t>(directory, compressed);
        append<uint32_t>(directory, size);
        append<uint16_t>(directory, static_cast<uint16_t>(e.name.size()));
        append<uint16_t>(directory, static_cast<uint16_t>(extra.empty() ? 0 : extra.size() + 4));
        append<uint16_t>(directory, 0);  // comment
        append<uint16_t>(directory, 0);  // volume
        append<uint16_t>(directory, 0);  // internal attributes
        append<uint32_t>(directory, 0);  // external attributes
        append<uint32_t>(directory, offset);
        directory += e.name;
        if (!extra.empty()) {
            append<uint16_t>(directory, 1);
            append<uint16_t>(directory, static_cast<uint16_t>(extra.size()));
            directory += extra;
        }
    }
    const uint64_t size = directory.size(), count = entries_.size();
    if (count >= 0xffff || size >= 0xffffffffu || start >= 0xffffffffu) {
        const uint64_t end64 = start + size;
        append<uint32_t>(directory, kEnd64Magic);
        append<uint64_t>(directory, kEnd64Size - 12);
        append<uint16_t>(directory, 45);
        append<uint16_t>(directory, 45);
        append<uint32_t>(directory, 0);
        append<uint32_t>(directory, 0);
        append<uint64_t>(directory, count);
        append<uint64_t>(directory, count);
        append<uint64_t>(directory, size);
        append<uint64_t>(directory, start);
        append<uint32_t>(directory, kEnd64LocatorMagic);
        append<uint32_t>(directory, 0);
        append<uint64_t>(directory, end64);
        append<uint32_t>(directory, 1);
    }
    append<uint32_t>(directory, kEndMagic);
    append<uint16_t>(directory, 0);
    append<uint16_t>(directory, 0);
    append<uint16_t>(directory, static_cast<uint16_t>(std::min<uint64_t>(count, 0xffff)));
    append<uint16_t>(directory, static_cast<uint16_t>(std::min<uint64_t>(count, 0xffff)));
    append<uint32_t>(directory, static_cast<uint32_t>(std::min<uint64_t>(size, 0xffffffffu)));
    append<uint32_t>(directory, static_cast<uint32_t>(std::min<uint64_t>(start, 0xffffffffu)));
    append<uint16_t>(directory, 0);
    file_.write(directory);
    file_.commit();
}

}  // namespace mc
