#include "models/clip/merge_file.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <system_error>

#include "kernels/error.h"
#include "tensor/formats/atomic_file.h"

namespace mc::clip {
namespace {

constexpr std::size_t kMostBytes = std::size_t{256} << 20;
constexpr int kGzip = 15 + 16;  // zlib: the largest window, gzip framing

struct Inflater {
    z_stream stream{};
    explicit Inflater(const std::string& name) {
        if (inflateInit2(&stream, kGzip) != Z_OK) throw Error("[" + name + "] zlib does not start");
    }
    Inflater(const Inflater&) = delete;
    Inflater& operator=(const Inflater&) = delete;
    ~Inflater() { inflateEnd(&stream); }
};

struct Deflater {
    z_stream stream{};
    explicit Deflater(const std::string& name) {
        if (deflateInit2(&stream, Z_BEST_COMPRESSION, Z_DEFLATED, kGzip, 9, Z_DEFAULT_STRATEGY) !=
            Z_OK)
            throw Error("[" + name + "] zlib does not start");
    }
    Deflater(const Deflater&) = delete;
    Deflater& operator=(const Deflater&) = delete;
    ~Deflater() { deflateEnd(&stream); }
};

Bytef* zlib_input(std::string_view bytes) {
    return reinterpret_cast<Bytef*>(
        const_cast<char*>(bytes.data()));  // zlib does not write to its input
}

std::string pack(std::string_view text, const std::string& name) {
    Deflater deflater(name);
    z_stream& z = deflater.stream;
    std::string out(deflateBound(&z, static_cast<uLong>(text.size())), '\0');
    z.next_in = zlib_input(text);
    z.avail_in = static_cast<uInt>(text.size());
    z.next_out = reinterpret_cast<Bytef*>(out.data());
    z.avail_out = static_cast<uInt>(out.size());
    if (deflate(&z, Z_FINISH) != Z_STREAM_END) throw Error("[" + name + "] cannot be packed");
    out.resize(z.total_out);
    return out;
}

}  // namespace

std::string unpack_maybe_gzip(std::string_view contents, const std::string& name) {
    if (!contents.starts_with("\x1f\x8b")) {
        if (contents.size() > kMostBytes)
            throw Error("[" + name + "] larger than 256 MiB: not a merge file");
        return std::string(contents);
    }
    if (contents.size() > kMostBytes)
        throw Error("[" + name + "] larger than 256 MiB: not a merge file");
    Inflater inflater(name);
    z_stream& z = inflater.stream;
    z.next_in = zlib_input(contents);
    z.avail_in = static_cast<uInt>(contents.size());
    std::string out;
    std::array<char, 1 << 16> block;
    while (true) {
        z.next_out = reinterpret_cast<Bytef*>(block.data());
        z.avail_out = static_cast<uInt>(block.size());
        const int status = inflate(&z, Z_NO_FLUSH);
        const std::size_t got = block.size() - z.avail_out;
        out.append(block.data(), got);
        if (out.size() > kMostBytes)
            throw Error("[" + name + "] unpacks to more than 256 MiB: not a merge file");
        if (status == Z_STREAM_END) {
            if (z.avail_in == 0) return out;
            inflateReset(&z);  // gzip files may be several members one after the other
            continue;
        }
        if (status == Z_BUF_ERROR || (status == Z_OK && z.avail_in == 0 && got == 0))
            throw Error("[" + name + "] gzip data end too early, after " +
                        std::to_string(out.size()) +
                        " unpacked bytes: the file is cut short, fetch it again");
        if (status != Z_OK)
            throw Error("[" + name + "] damaged gzip data after " + std::to_string(out.size()) +
                        " unpacked bytes (" + (z.msg != nullptr ? z.msg : "zlib error") +
                        "): fetch the file again");
    }
}

std::string read_maybe_gzip(const std::string& path) {
    std::error_code failure;
    if (std::filesystem::is_directory(path, failure))
        throw Error("[" + path + "] is a folder, not a file");
    std::ifstream in(path, std::ios::binary);
    if (!in) throw Error("[" + path + "] cannot be opened: " + std::strerror(errno));
    std::string contents;
    std::array<char, 1 << 16> block;
    while (in.read(block.data(), block.size()), in.gcount() > 0) {
        contents.append(block.data(), static_cast<std::size_t>(in.gcount()));
        if (contents.size() > kMostBytes)
            throw Error("[" + path + "] larger than 256 MiB: not a merge file");
    }
    if (in.bad()) throw Error("[" + path + "] cannot be read");
    return unpack_maybe_gzip(contents, path);
}

void write_maybe_gzip(const std::string& path, std::string_view text) {
    if (text.size() > kMostBytes) throw Error("[" + path + "] more than 256 MiB to write");
    const std::string packed = path.ends_with(".gz") ? pack(text, path) : std::string();
    const std::string_view bytes = path.ends_with(".gz") ? std::string_view(packed) : text;
    write_text_file(path, bytes);
}

}  // namespace mc::clip
