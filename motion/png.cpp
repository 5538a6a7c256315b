#include "motion/png.h"

#include <fmt/format.h>
#include <zlib.h>

#include <cstdlib>
#include <string_view>

#include "kernels/error.h"
#include "tensor/formats/atomic_file.h"

namespace mc::motion {
namespace {

void append_u32(std::string& out, uint32_t x) {
    for (int shift : {24, 16, 8, 0}) out += static_cast<char>(x >> shift & 255);
}

void append_chunk(std::string& out, const char* type, std::string_view data) {
    append_u32(out, static_cast<uint32_t>(data.size()));
    const size_t begin = out.size();
    out += type;
    out += data;
    const auto* bytes = reinterpret_cast<const Bytef*>(out.data() + begin);
    append_u32(out, static_cast<uint32_t>(crc32(0, bytes, static_cast<uInt>(out.size() - begin))));
}

uint8_t paeth(int left, int up, int corner) {
    const int guess = left + up - corner;
    const int dl = std::abs(guess - left);
    const int du = std::abs(guess - up);
    const int dc = std::abs(guess - corner);
    return static_cast<uint8_t>(dl <= du && dl <= dc ? left : du <= dc ? up : corner);
}

// Rows with their filter bytes, as they are compressed.
std::string filtered_rows(const Image& image) {
    const size_t width = static_cast<size_t>(image.width) * 3;
    const std::vector<uint8_t> nothing(width, 0);
    std::string out;
    out.reserve((width + 1) * static_cast<size_t>(image.height));
    std::vector<uint8_t> tried(width);
    std::vector<uint8_t> best(width);
    for (int y = 0; y < image.height; ++y) {
        const uint8_t* row = image.at(0, y);
        const uint8_t* above = y > 0 ? image.at(0, y - 1) : nothing.data();
        int best_filter = 0;
        int64_t best_sum = INT64_MAX;
        for (int filter = 0; filter < 5; ++filter) {
            int64_t sum = 0;
            for (size_t i = 0; i < width; ++i) {
                const int left = i >= 3 ? row[i - 3] : 0;
                const int up = above[i];
                const int corner = i >= 3 ? above[i - 3] : 0;
                int guess = 0;
                if (filter == 1) guess = left;
                if (filter == 2) guess = up;
                if (filter == 3) guess = (left + up) / 2;
                if (filter == 4) guess = paeth(left, up, corner);
                tried[i] = static_cast<uint8_t>(row[i] - guess);
                sum += std::abs(static_cast<int>(static_cast<int8_t>(tried[i])));
            }
            if (sum < best_sum) {
                best_sum = sum;
                best_filter = filter;
                best.swap(tried);
            }
        }
        out += static_cast<char>(best_filter);
        out.append(reinterpret_cast<const char*>(best.data()), width);
    }
    return out;
}

}  // namespace

std::string encode_png(const Image& image) {
    if (image.width < 1 || image.height < 1 || image.width > 65535 || image.height > 65535 ||
        image.rgb.size() !=
            static_cast<size_t>(image.width) * static_cast<size_t>(image.height) * 3) {
        throw Error(fmt::format("PNG: got {} bytes for {} x {} pixels, want 1 to 65535 each way",
                                image.rgb.size(), image.width, image.height));
    }
    std::string head;
    append_u32(head, static_cast<uint32_t>(image.width));
    append_u32(head, static_cast<uint32_t>(image.height));
    head += std::string("\x08\x02\x00\x00\x00", 5);  // 8 bits, RGB, deflate, filters, no interlace
    const std::string rows = filtered_rows(image);
    uLongf size = compressBound(static_cast<uLong>(rows.size()));
    std::string packed(size, '\0');
    if (compress2(reinterpret_cast<Bytef*>(packed.data()), &size,
                  reinterpret_cast<const Bytef*>(rows.data()), static_cast<uLong>(rows.size()),
                  9) != Z_OK) {
        throw Error("PNG: zlib could not compress the picture");
    }
    packed.resize(size);
    std::string out("\x89PNG\r\n\x1a\n", 8);
    append_chunk(out, "IHDR", head);
    append_chunk(out, "sRGB", std::string_view("\0", 1));
    append_chunk(out, "IDAT", packed);
    append_chunk(out, "IEND", "");
    return out;
}

void write_png(const std::string& path, const Image& image) {
    write_text_file(path, encode_png(image));
}

}  // namespace mc::motion
