#include "tensor/formats/zip.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <cstring>

#include "kernels/error.h"
#include "tensor/formats/utf8.h"

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

void ZipReader::fail(const std::string& what) const {
    throw Error(fmt::format("{}: not a usable zip archive: {}", path().string(), what));
}

ZipReader::ZipReader(const std::filesystem::path& path) : file_(MappedFile::open(path)) {
    const Directory where = find_directory();
    const auto directory = file_->bytes().subspan(where.offset, where.size);
    entries_.reserve(where.count);
    size_t at = 0;
    for (uint64_t i = 0; i < where.count; ++i) {
        ZipEntry entry = parse_entry(directory, i, at);
        if (!index_.emplace(entry.name, entries_.size()).second)
            fail(fmt::format("entry '{}' is there twice", printable(entry.name)));
        entries_.push_back(std::move(entry));
    }
    check_overlaps(where.offset);
}

// The end record is the last thing in the file but for a comment of at most 65535 bytes, which
// reaches to the end exactly.
ZipReader::Directory ZipReader::find_directory() const {
    const auto bytes = file_->bytes();
    if (bytes.size() < kEndSize) fail("too short; it may be truncated");
    const size_t first = bytes.size() - std::min<size_t>(bytes.size(), kEndSize + 65535);
    size_t at = bytes.size() - kEndSize;
    const auto is_end = [&](size_t i) {
        return little<uint32_t>(&bytes[i]) == kEndMagic &&
               i + kEndSize + little<uint16_t>(&bytes[i + 20]) == bytes.size();
    };
    while (!is_end(at)) {
        if (at == first) fail("no end record; it may be truncated");
        --at;
    }
    if (little<uint16_t>(&bytes[at + 4]) != 0 || little<uint16_t>(&bytes[at + 6]) != 0)
        fail("it is one of several volumes");
    Directory where{little<uint32_t>(&bytes[at + 16]), little<uint32_t>(&bytes[at + 12]),
                    little<uint16_t>(&bytes[at + 10])};
    if (at >= kLocatorSize && little<uint32_t>(&bytes[at - kLocatorSize]) == kEnd64LocatorMagic) {
        const uint64_t end64 = little<uint64_t>(&bytes[at - kLocatorSize + 8]);
        if (end64 > bytes.size() || bytes.size() - end64 < kEnd64Size) fail("bad Zip64 locator");
        const std::byte* record = &bytes[end64];
        if (little<uint32_t>(record) != kEnd64Magic) fail("bad Zip64 end record");
        if (little<uint32_t>(record + 16) != 0 || little<uint32_t>(record + 20) != 0)
            fail("it is one of several volumes");
        where = {little<uint64_t>(record + 48), little<uint64_t>(record + 40),
                 little<uint64_t>(record + 32)};
    }
    if (where.offset > at || where.size > at - where.offset)
        fail("its directory lies outside the file");
    if (where.count > kMaxEntries || where.count * kCentralSize > where.size)
        fail(fmt::format("its directory of {} bytes cannot hold {} entries", where.size,
                         where.count));
    return where;
}

ZipEntry ZipReader::parse_entry(std::span<const std::byte> directory, uint64_t number,
                                size_t& at) const {
    const uint64_t file_size = file_->bytes().size();
    if (directory.size() - at < kCentralSize || little<uint32_t>(&directory[at]) != kCentralMagic)
        fail(fmt::format("bad directory entry {}", number));
    const std::byte* d = &directory[at];
    ZipEntry entry;
    const uint16_t flags = little<uint16_t>(d + 8);
    entry.method = little<uint16_t>(d + 10);
    entry.crc = little<uint32_t>(d + 16);
    entry.compressed_size = little<uint32_t>(d + 20);
    entry.size = little<uint32_t>(d + 24);
    const size_t name_size = little<uint16_t>(d + 28), extra_size = little<uint16_t>(d + 30);
    const size_t comment_size = little<uint16_t>(d + 32);
    entry.header_offset = little<uint32_t>(d + 42);
    if (directory.size() - at - kCentralSize < name_size + extra_size + comment_size)
        fail(fmt::format("directory entry {} runs out of the directory", number));
    entry.name.assign(reinterpret_cast<const char*>(d + kCentralSize), name_size);
    check_name(entry.name);
    const std::string name = printable(entry.name);
    // Zip64 extra field: 64-bit values for those of the three that read 0xffffffff, in this order.
    const std::byte* extra = d + kCentralSize + name_size;
    for (size_t e = 0; e + 4 <= extra_size;) {
        const size_t id = little<uint16_t>(extra + e), size = little<uint16_t>(extra + e + 2);
        if (size > extra_size - e - 4) fail(fmt::format("entry '{}': bad extra field", name));
        if (id == 1) {
            size_t q = e + 4;
            const size_t stop = q + size;
            for (uint64_t* value : {&entry.size, &entry.compressed_size, &entry.header_offset})
                if (*value == 0xffffffffu) {
                    if (stop - q < 8) fail(fmt::format("entry '{}': bad Zip64 field", name));
                    *value = little<uint64_t>(extra + q);
                    q += 8;
                }
        }
        e += 4 + size;
    }
    if (flags & 1) fail(fmt::format("entry '{}' is encrypted", name));
    if (entry.method != 0 && entry.method != 8)
        fail(
            fmt::format("entry '{}': compression method {} is not supported (stored and deflated "
                        "are)",
                        name, entry.method));
    if (entry.header_offset > file_size || entry.compressed_size > file_size ||
        file_size - entry.header_offset < kLocalSize + entry.compressed_size)
        fail(fmt::format("entry '{}' lies outside the file", name));
    if (entry.method == 0 && entry.size != entry.compressed_size)
        fail(fmt::format("stored entry '{}' has two sizes, {} and {}", name, entry.compressed_size,
                         entry.size));
    if (entry.method == 8 && entry.size / kMaxExpansion > entry.compressed_size)
        fail(fmt::format("entry '{}': {} bytes cannot inflate to {}", name, entry.compressed_size,
                         entry.size));
    at += kCentralSize + name_size + extra_size + comment_size;
    return entry;
}

// We never unpack, but whoever does would write where such a name points.
void ZipReader::check_name(const std::string& name) const {
    bool bad = name.empty() || name[0] == '/' || name.find('\0') != name.npos ||
               name.find('\\') != name.npos;
    for (size_t from = 0; from <= name.size();) {
        const size_t to = std::min(name.find('/', from), name.size());
        bad |= name.compare(from, to - from, "..") == 0;
        from = to + 1;
    }
    if (bad) fail(fmt::format("an entry is called '{}'", printable(name)));
}

// Between two entries lies what belongs to the first: header, bytes, and perhaps their sizes again.
void ZipReader::check_overlaps(uint64_t directory_offset) {
    std::vector<ZipEntry*> order;
    for (ZipEntry& entry : entries_) order.push_back(&entry);
    std::sort(order.begin(), order.end(),
              [](auto* a, auto* b) { return a->header_offset < b->header_offset; });
    for (size_t i = 0; i < order.size(); ++i) {
        ZipEntry& entry = *order[i];
        entry.limit = i + 1 < order.size() ? order[i + 1]->header_offset : directory_offset;
        if (entry.limit < entry.header_offset ||
            entry.limit - entry.header_offset <
                kLocalSize + entry.name.size() + entry.compressed_size)
            fail(fmt::format("entry '{}' overlaps what follows it", printable(entry.name)));
    }
}

const ZipEntry* ZipReader::find(std::string_view name) const {
    const auto it = index_.find(std::string(name));
    return it == index_.end() ? nullptr : &entries_[it->second];
}

uint64_t ZipReader::data_offset(const ZipEntry& entry) const {
    const auto bad = [&](const char* what) {
        throw Error(
            fmt::format("{}: entry '{}': {}", path().string(), printable(entry.name), what));
    };
    const std::byte* local = &file_->bytes()[entry.header_offset];  // there is room for it
    if (little<uint32_t>(local) != kLocalMagic) bad("bad local header");
    const size_t name_size = little<uint16_t>(local + 26),
                 extra_size = little<uint16_t>(local + 28);
    const uint64_t room = entry.limit - entry.header_offset;
    if (room < kLocalSize + name_size + extra_size + entry.compressed_size)
        bad("runs into what follows it; the file may be truncated");
    if (std::string_view(reinterpret_cast<const char*>(local) + kLocalSize, name_size) !=
        entry.name)
        bad("its local header has another name");
    return entry.header_offset + kLocalSize + name_size + extra_size;
}

std::span<const std::byte> ZipReader::stored(const ZipEntry& entry) const {
    return file_->bytes().subspan(data_offset(entry), entry.compressed_size);
}

void ZipReader::check_crc(const ZipEntry& entry, std::span<const std::byte> bytes) const {
    if (crc_of(bytes.data(), bytes.size()) != entry.crc)
        throw Error(
            fmt::format("{}: entry '{}': checksum differs, the data are damaged; fetch the "
                        "file again",
                        path().string(), printable(entry.name)));
}

std::vector<std::byte> ZipReader::inflate_entry(const ZipEntry& entry,
                                                std::span<const std::byte> packed) const {
    std::vector<std::byte> inflated(entry.size);
    z_stream stream{};
    if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) throw Error("[zip] zlib cannot start");
    uint64_t in = 0, out = 0;
    int status = Z_OK;
    std::byte spare{};  // inflate wants a non-null output even for an empty entry
    while (status == Z_OK) {
        const auto in_part = static_cast<uInt>(std::min<uint64_t>(packed.size() - in, 1u << 30));
        const auto out_part =
            static_cast<uInt>(std::min<uint64_t>(inflated.size() - out, 1u << 30));
        stream.next_in =
            reinterpret_cast<Bytef*>(const_cast<std::byte*>(packed.data() + in));  // zlib reads it
        stream.avail_in = in_part;
        stream.next_out = reinterpret_cast<Bytef*>(out_part ? inflated.data() + out : &spare);
        stream.avail_out = out_part;
        status = inflate(&stream, Z_NO_FLUSH);
        in += in_part - stream.avail_in;
        out += out_part - stream.avail_out;
    }
    inflateEnd(&stream);
    if (status != Z_STREAM_END || out != entry.size)
        throw Error(fmt::format("{}: entry '{}': damaged compressed data", path().string(),
                                printable(entry.name)));
    return inflated;
}

std::vector<std::byte> ZipReader::read(const ZipEntry& entry) const {
    const auto raw = stored(entry);
    std::vector<std::byte> bytes = entry.method == 8
                                       ? inflate_entry(entry, raw)
                                       : std::vector<std::byte>(raw.begin(), raw.end());
    check_crc(entry, bytes);
    return bytes;
}

ZipWriter::ZipWriter(std::filesystem::path path) : path_(path), file_(std::move(path)) {}

void ZipWriter::add(const std::string& name, const void* data, size_t size, bool deflate,
                    size_t alignment) {
    if (!names_.insert(name).second)
        throw Error(fmt::format("{}: entry '{}' is there already", path_.string(), name));
    if (name.size() > 0xffff) throw Error(fmt::format("{}: entry name too long", path_.string()));
    ZipEntry entry{name, 0, crc_of(data, size), size, size, file_.size(), 0};
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
    std::string extra;
    if (big) {
        append<uint16_t>(extra, 1);
        append<uint16_t>(extra, 16);
        append<uint64_t>(extra, entry.size);
        append<uint64_t>(extra, entry.compressed_size);
    }
    // Padding is an extra field of its own, as PyTorch has it.
    const size_t before = file_.size() + kLocalSize + name.size() + extra.size();
    if (before % alignment != 0) {
        const size_t padding = (alignment - (before + 4) % alignment) % alignment;
        extra += "FB";
        append<uint16_t>(extra, static_cast<uint16_t>(padding));
        extra.append(padding, 'Z');
    }
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
    append<uint16_t>(header, static_cast<uint16_t>(extra.size()));
    header += name;
    header += extra;
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
