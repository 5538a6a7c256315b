#include "tensor/formats/npy.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "kernels/error.h"
#include "tensor/formats/utf8.h"

namespace mc {

static_assert(std::endian::native == std::endian::little,
              "descr and swapping assume little-endian");

namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr size_t kMaxHeader = 1 << 20;
constexpr size_t kMaxDims = 32;

// The header is a Python dict literal with three known keys. This reads just that much Python.
class HeaderParser {
  public:
    HeaderParser(std::string_view text, const std::string& source) : text_(text), source_(source) {}

    void parse(NpyArray& array) {
        bool descr = false, order = false, shape = false;
        want('{');
        while (!accept('}')) {
            const std::string key = quoted();
            want(':');
            if (key == "descr" && !descr) {
                skip();
                if (at_ < text_.size() && text_[at_] == '[')
                    fail(
                        "structured arrays are not supported; save its fields as arrays of their "
                        "own");
                array.descr = quoted();
                descr = true;
            } else if (key == "fortran_order" && !order) {
                array.fortran_order = boolean();
                order = true;
            } else if (key == "shape" && !shape) {
                array.shape = tuple();
                shape = true;
            } else {
                fail(fmt::format("bad header: unexpected key '{}'", printable(key)));
            }
            if (!accept(',')) {
                want('}');
                break;
            }
        }
        skip();
        if (at_ != text_.size()) fail("bad header: text after the dictionary");
        if (!descr || !order || !shape) fail("bad header: want descr, fortran_order and shape");
    }

    [[noreturn]] void fail(const std::string& what) const {
        throw Error(fmt::format("{}: {}", source_, what));
    }

  private:
    void skip() {
        while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
    }
    bool accept(char c) {
        skip();
        if (at_ >= text_.size() || text_[at_] != c) return false;
        ++at_;
        return true;
    }
    void want(char c) {
        if (!accept(c)) fail(fmt::format("bad header: want '{}' at character {}", c, at_));
    }
    std::string quoted() {
        skip();
        if (at_ >= text_.size() || (text_[at_] != '\'' && text_[at_] != '"'))
            fail(fmt::format("bad header: want a string at character {}", at_));
        const size_t end = text_.find(text_[at_], at_ + 1);
        if (end == std::string_view::npos) fail("bad header: a string does not end");
        std::string result(text_.substr(at_ + 1, end - at_ - 1));
        at_ = end + 1;
        return result;
    }
    bool boolean() {
        skip();
        for (bool value : {true, false}) {
            const std::string_view word = value ? "True" : "False";
            if (text_.substr(at_, word.size()) == word) {
                at_ += word.size();
                return value;
            }
        }
        fail("bad header: fortran_order is neither True nor False");
    }
    std::vector<int64_t> tuple() {
        std::vector<int64_t> result;
        want('(');
        while (!accept(')')) {
            skip();
            int64_t value = 0;
            const size_t start = at_;
            while (at_ < text_.size() && std::isdigit(static_cast<unsigned char>(text_[at_]))) {
                if (__builtin_mul_overflow(value, int64_t{10}, &value) ||
                    __builtin_add_overflow(value, int64_t{text_[at_] - '0'}, &value))
                    fail("bad header: a dimension overflows");
                ++at_;
            }
            if (at_ == start) fail("bad header: want a non-negative dimension");
            if (at_ < text_.size() && text_[at_] == 'L') ++at_;  // Python 2 wrote 3L
            result.push_back(value);
            if (result.size() > kMaxDims) fail("bad header: more than 32 dimensions");
            if (!accept(',')) {
                want(')');
                break;
            }
        }
        return result;
    }

    std::string_view text_;
    const std::string& source_;
    size_t at_ = 0;
};

float half_to_float(uint16_t h) {
    const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
    const uint32_t exponent = (h >> 10) & 31u, mantissa = h & 1023u;
    if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
    if (exponent == 0) {
        const float value = static_cast<float>(mantissa) * 0x1p-24f;
        return sign ? -value : value;
    }
    return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

template <typename To, typename From>
std::vector<To> convert(const NpyArray& a, To (*element)(From)) {
    const auto count = static_cast<size_t>(a.size());
    std::vector<To> result(count);
    auto value = [&](size_t index) {
        From from;
        std::memcpy(&from, a.data.data() + index * sizeof(From), sizeof(From));
        return element(from);
    };
    if (!a.fortran_order || a.shape.size() < 2) {
        for (size_t i = 0; i < count; ++i) result[i] = value(i);
        return result;
    }
    // Walk the C order with an odometer; the Fortran offset moves along.
    const size_t dims = a.shape.size();
    std::vector<int64_t> index(dims, 0), stride(dims, 1);
    for (size_t d = 1; d < dims; ++d) stride[d] = stride[d - 1] * a.shape[d - 1];
    int64_t offset = 0;
    for (size_t i = 0; i < count; ++i) {
        result[i] = value(static_cast<size_t>(offset));
        for (size_t d = dims; d-- > 0;) {
            offset += stride[d];
            if (++index[d] < a.shape[d]) break;
            offset -= stride[d] * a.shape[d];
            index[d] = 0;
        }
    }
    return result;
}

template <typename To>
std::vector<To> convert_any(const NpyArray& a) {
    const std::string_view type = std::string_view(a.descr).substr(1);
#define MC_CASE(NAME, FROM) \
    if (type == NAME) return convert<To, FROM>(a, [](FROM v) { return static_cast<To>(v); })
    MC_CASE("f4", float);
    MC_CASE("f8", double);
    MC_CASE("i1", int8_t);
    MC_CASE("i2", int16_t);
    MC_CASE("i4", int32_t);
    MC_CASE("i8", int64_t);
    MC_CASE("u1", uint8_t);
    MC_CASE("u2", uint16_t);
    MC_CASE("u4", uint32_t);
    MC_CASE("u8", uint64_t);
#undef MC_CASE
    if (type == "b1")
        return convert<To, uint8_t>(a, [](uint8_t v) { return static_cast<To>(v != 0); });
    if (type == "f2")
        return convert<To, uint16_t>(a,
                                     [](uint16_t v) { return static_cast<To>(half_to_float(v)); });
    throw Error(fmt::format("{}: type '{}' is not supported", a.source, a.descr));
}

std::string header_of(const std::string& descr, const std::vector<int64_t>& shape,
                      bool fortran = false) {
    std::string tuple;
    for (int64_t d : shape) tuple += fmt::format("{}, ", d);
    if (shape.size() > 1) tuple.resize(tuple.size() - 2);
    if (shape.size() == 1) tuple.pop_back();
    std::string dict = fmt::format("{{'descr': '{}', 'fortran_order': {}, 'shape': ({}), }}", descr,
                                   fortran ? "True" : "False", tuple);
    const size_t unpadded = 10 + dict.size() + 1;
    dict.append((64 - unpadded % 64) % 64, ' ');
    dict += '\n';
    std::string header(kMagic);
    header += '\x01';
    header += '\x00';
    header += static_cast<char>(dict.size() & 0xff);
    header += static_cast<char>(dict.size() >> 8);
    return header + dict;
}

size_t count_of(const std::vector<int64_t>& shape) {
    size_t count = 1;
    for (int64_t d : shape) count *= static_cast<size_t>(d);
    return count;
}

void write_array(const std::filesystem::path& path, const std::string& descr,
                 const std::vector<int64_t>& shape, const void* data, size_t item, bool flush) {
    AtomicFile file(path);
    file.write(header_of(descr, shape));
    file.write(data, count_of(shape) * item);
    file.commit(flush);
}

void add_array(ZipWriter& zip, const std::string& name, const std::string& header, const void* data,
               size_t size) {
    std::string bytes = header;
    bytes.append(static_cast<const char*>(data), size);
    zip.add(name + ".npy", bytes.data(), bytes.size());
}

}  // namespace

int64_t NpyArray::size() const {
    return static_cast<int64_t>(count_of(shape));
}

size_t NpyArray::item_size() const {
    return static_cast<size_t>(descr[2] - '0');
}

std::vector<float> NpyArray::as_f32() const {
    return convert_any<float>(*this);
}
std::vector<double> NpyArray::as_f64() const {
    return convert_any<double>(*this);
}
std::vector<int64_t> NpyArray::as_i64() const {
    if (kind() == 'f')
        throw Error(fmt::format("{}: got '{}' elements, want integers", source, descr));
    return convert_any<int64_t>(*this);
}

NpyArray parse_npy(std::span<const std::byte> bytes, const std::string& source) {
    auto byte = [&](size_t i) { return std::to_integer<uint8_t>(bytes[i]); };
    if (bytes.size() < 10 || std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0)
        throw Error(fmt::format("{}: not an npy file (it does not begin with \\x93NUMPY)", source));
    const int major = byte(6);
    if (major < 1 || major > 3)
        throw Error(fmt::format("{}: npy version {} is not supported (1 to 3 are)", source, major));
    size_t start = 10, header_size = byte(8) | byte(9) << 8;
    if (major > 1) {
        if (bytes.size() < 12) throw Error(fmt::format("{}: truncated in the header", source));
        header_size |= static_cast<size_t>(byte(10)) << 16 | static_cast<size_t>(byte(11)) << 24;
        start = 12;
    }
    if (header_size > kMaxHeader || header_size > bytes.size() - start)
        throw Error(
            fmt::format("{}: truncated in the header (it claims {} bytes)", source, header_size));

    NpyArray array;
    array.source = source;
    HeaderParser parser({reinterpret_cast<const char*>(bytes.data()) + start, header_size}, source);
    parser.parse(array);

    static constexpr std::string_view kKnown[] = {"b1", "i1", "i2", "i4", "i8", "u1",
                                                  "u2", "u4", "u8", "f2", "f4", "f8"};
    const std::string_view type =
        array.descr.empty() ? std::string_view{} : std::string_view(array.descr).substr(1);
    if (type.starts_with("O"))
        parser.fail(
            "object arrays hold pickled Python, which is never executed; save plain numbers "
            "instead");
    if (std::find(std::begin(kKnown), std::end(kKnown), type) == std::end(kKnown) ||
        std::string_view("<>|=").find(array.descr[0]) == std::string_view::npos)
        parser.fail(fmt::format("type '{}' is not supported (b1, i1..i8, u1..u8, f2, f4, f8 are)",
                                printable(array.descr)));
    int64_t want = static_cast<int64_t>(array.item_size());
    bool empty = false;
    for (int64_t d : array.shape) empty |= d == 0;
    for (int64_t d : array.shape)
        if (!empty && __builtin_mul_overflow(want, d, &want))
            parser.fail("bad header: the shape overflows");
    if (empty) want = 0;
    const size_t have = bytes.size() - start - header_size;
    if (have < static_cast<size_t>(want))
        parser.fail(fmt::format("truncated: {} bytes of data, the header claims {}", have, want));
    if (have > static_cast<size_t>(want))
        parser.fail(fmt::format("{} bytes of data, the header claims only {}", have, want));
    array.data.assign(bytes.begin() + static_cast<std::ptrdiff_t>(start + header_size),
                      bytes.end());
    const size_t item = array.item_size();
    if (array.descr[0] == '>' && item > 1)
        for (size_t i = 0; i < array.data.size(); i += item)
            std::reverse(array.data.begin() + static_cast<std::ptrdiff_t>(i),
                         array.data.begin() + static_cast<std::ptrdiff_t>(i + item));
    array.descr[0] = item > 1 ? '<' : '|';
    return array;
}

NpyArray read_npy(const std::filesystem::path& path) {
    errno = 0;
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    if (!file)
        throw Error(fmt::format("{}: cannot open: {}; check the path", path.string(),
                                std::strerror(errno ? errno : EIO)));
    if (std::filesystem::is_directory(path))
        throw Error(fmt::format("{}: cannot open: it is a folder; name a file", path.string()));
    std::vector<std::byte> bytes(static_cast<size_t>(file.tellg()));
    file.seekg(0);
    file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    if (!file) throw Error(fmt::format("{}: cannot read", path.string()));
    return parse_npy(bytes, path.string());
}

std::string encode_npy(const std::vector<int64_t>& shape, const float* data) {
    std::string bytes = header_of("<f4", shape);
    return bytes.append(reinterpret_cast<const char*>(data), count_of(shape) * sizeof *data);
}

void write_npy(const std::filesystem::path& path, const std::vector<int64_t>& shape,
               const float* data, bool flush) {
    write_array(path, "<f4", shape, data, sizeof *data, flush);
}
void write_npy(const std::filesystem::path& path, const std::vector<int64_t>& shape,
               const double* data, bool flush) {
    write_array(path, "<f8", shape, data, sizeof *data, flush);
}
void write_npy(const std::filesystem::path& path, const std::vector<int64_t>& shape,
               const int64_t* data, bool flush) {
    write_array(path, "<i8", shape, data, sizeof *data, flush);
}

std::vector<std::string> NpzFile::names() const {
    std::vector<std::string> result;
    for (const ZipEntry& e : zip_.entries())
        if (e.name.ends_with(".npy")) result.push_back(e.name.substr(0, e.name.size() - 4));
    return result;
}

bool NpzFile::contains(std::string_view name) const {
    return zip_.find(std::string(name) + ".npy") != nullptr;
}

NpyArray NpzFile::read(std::string_view name) const {
    const ZipEntry* entry = zip_.find(std::string(name) + ".npy");
    if (!entry)
        throw Error(fmt::format("{}: no array '{}' among its {}", zip_.path().string(), name,
                                zip_.entries().size()));
    return parse_npy(zip_.read(*entry), fmt::format("{}:{}", zip_.path().string(), name));
}

std::map<std::string, NpyArray> read_npz(const std::filesystem::path& path) {
    const NpzFile file(path);
    std::map<std::string, NpyArray> result;
    for (const std::string& name : file.names()) result.emplace(name, file.read(name));
    return result;
}

void NpzWriter::add(const std::string& name, const std::vector<int64_t>& shape, const float* data) {
    add_array(zip_, name, header_of("<f4", shape), data, count_of(shape) * sizeof *data);
}
void NpzWriter::add(const std::string& name, const std::vector<int64_t>& shape,
                    const double* data) {
    add_array(zip_, name, header_of("<f8", shape), data, count_of(shape) * sizeof *data);
}
void NpzWriter::add(const std::string& name, const std::vector<int64_t>& shape,
                    const int64_t* data) {
    add_array(zip_, name, header_of("<i8", shape), data, count_of(shape) * sizeof *data);
}

void write_npz(const std::filesystem::path& path, const std::map<std::string, NpyArray>& members) {
    ZipWriter zip(path);
    for (const auto& [name, array] : members)
        add_array(zip, name, header_of(array.descr, array.shape, array.fortran_order),
                  array.data.data(), array.data.size());
    zip.commit();
}

}  // namespace mc
