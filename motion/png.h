// Pictures and their PNG files.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mc::motion {

struct Image {
    int width = 0;
    int height = 0;
    std::vector<uint8_t> rgb;  // (height, width, 3), sRGB, from the top left

    const uint8_t* at(int x, int y) const {
        return rgb.data() +
               (static_cast<size_t>(y) * static_cast<size_t>(width) + static_cast<size_t>(x)) * 3;
    }
};

// The bytes of a PNG file (RFC 2083): 8-bit RGB, each row with the filter that leaves the smallest
// sum of absolute differences. Error if the sizes are not positive, do not agree or exceed 65535.
std::string encode_png(const Image& image);
void write_png(const std::string& path, const Image& image);

}  // namespace mc::motion
