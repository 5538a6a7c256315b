#include "motion/strip.h"

#include <zlib.h>

#include <cmath>
#include <cstdlib>

#include "kernels/error.h"
#include "tests/motion/sample_motions.h"
#include "tests/test_paths.h"

using namespace mc::motion;
using mc::testing::walking_rig;

namespace {

uint32_t u32(const std::string& s, size_t at) {
    uint32_t x = 0;
    for (size_t i = 0; i < 4; ++i) x = x << 8 | static_cast<unsigned char>(s[at + i]);
    return x;
}

// A plain decoder of what encode_png may write; checks every checksum.
Image decode_png(const std::string& png) {
    REQUIRE(png.substr(0, 8) == std::string("\x89PNG\r\n\x1a\n", 8));
    Image image;
    std::string packed;
    for (size_t at = 8; at < png.size();) {
        const uint32_t size = u32(png, at);
        const std::string type = png.substr(at + 4, 4);
        const auto* bytes = reinterpret_cast<const Bytef*>(png.data() + at + 4);
        REQUIRE(u32(png, at + 8 + size) == crc32(0, bytes, size + 4));
        if (type == "IHDR") {
            image.width = static_cast<int>(u32(png, at + 8));
            image.height = static_cast<int>(u32(png, at + 12));
        }
        if (type == "IDAT") packed += png.substr(at + 8, size);
        at += 12 + size;
    }
    const size_t stride = static_cast<size_t>(image.width) * 3;
    std::string rows((stride + 1) * static_cast<size_t>(image.height), '\0');
    uLongf size = rows.size();
    REQUIRE(uncompress(reinterpret_cast<Bytef*>(rows.data()), &size,
                       reinterpret_cast<const Bytef*>(packed.data()), packed.size()) == Z_OK);
    REQUIRE(size == rows.size());
    image.rgb.resize(stride * static_cast<size_t>(image.height));
    for (size_t y = 0; y < static_cast<size_t>(image.height); ++y) {
        const int filter = rows[y * (stride + 1)];
        REQUIRE(filter >= 0);
        REQUIRE(filter < 5);
        for (size_t i = 0; i < stride; ++i) {
            const int a = i >= 3 ? image.rgb[y * stride + i - 3] : 0;
            const int b = y > 0 ? image.rgb[(y - 1) * stride + i] : 0;
            const int c = i >= 3 && y > 0 ? image.rgb[(y - 1) * stride + i - 3] : 0;
            const int p = a + b - c;
            const int pa = std::abs(p - a), pb = std::abs(p - b), pc = std::abs(p - c);
            const int guesses[] = {0, a, b, (a + b) / 2,
                                   pa <= pb && pa <= pc ? a
                                   : pb <= pc           ? b
                                                        : c};
            image.rgb[y * stride + i] =
                static_cast<uint8_t>(rows[y * (stride + 1) + 1 + i] + guesses[filter]);
        }
    }
    return image;
}

enum Kind { kPaper, kGreen, kOrange, kOther };
Kind kind_of(const uint8_t* p) {
    if (p[0] > 240 && p[1] > 240 && p[2] > 240) return kPaper;
    if (p[1] > p[0] + 40 && p[2] > p[0] + 30) return kGreen;
    if (p[0] > p[1] + 40 && p[1] > p[2] + 10) return kOrange;
    return kOther;
}

}  // namespace

TEST_CASE("png: pictures come back as they were") {
    for (auto [w, h] : {std::pair{1, 1}, {7, 5}, {64, 33}}) {
        Image image;
        image.width = w;
        image.height = h;
        for (int i = 0; i < w * h * 3; ++i) {
            image.rgb.push_back(static_cast<uint8_t>((i * i / 7) ^ (i % 5 * 40)));
        }
        const Image copy = decode_png(encode_png(image));
        CHECK(copy.width == w);
        CHECK(copy.height == h);
        CHECK(copy.rgb == image.rgb);
    }
    CHECK_THROWS_AS(encode_png(Image{}), mc::Error);
    CHECK_THROWS_AS(encode_png(Image{2, 2, std::vector<uint8_t>(11)}), mc::Error);
    CHECK_THROWS_AS(encode_png(Image{70000, 1, std::vector<uint8_t>(210000)}), mc::Error);
}

TEST_CASE("strip: every cell shows a figure, left limbs green and right limbs orange") {
    const JointSequence walk = rig_joints(walking_rig(60, 2.0, 1.0));
    StripOptions options;
    options.poses = 7;
    options.height = 200;
    mc::testing::ScratchDir scratch;
    const std::string path = (scratch.path / "walk.png").string();
    write_strip(path, walk, options);
    const Image image = decode_png(mc::testing::read_bytes(path));
    CHECK(image.height == 200);
    REQUIRE(image.width % 7 == 0);
    const int cell = image.width / 7;
    for (int i = 0; i < 7; ++i) {
        int count[4] = {};
        for (int y = 0; y < image.height; ++y) {
            for (int x = i * cell; x < (i + 1) * cell; ++x) ++count[kind_of(image.at(x, y))];
        }
        CAPTURE(i);
        CHECK(count[kGreen] > 100);
        CHECK(count[kOrange] > 100);
        CHECK(count[kOther] > 300);
        CHECK(count[kPaper] > cell * 200 / 3);
    }
    int stained = 0;
    for (int x = 0; x < image.width; ++x) stained += kind_of(image.at(x, 0)) != kPaper;
    CHECK(stained == 0);
}

TEST_CASE("strip: the first pose is seen from its front, its left on our right") {
    for (double heading : {0.0, 1.0, M_PI, -2.0}) {
        StripOptions options;
        options.poses = 1;
        options.yaw_degrees = 0;
        const Image image = strip_image(rig_joints(walking_rig(2, heading)), options);
        double green = 0, greens = 0, orange = 0, oranges = 0;
        for (int y = 0; y < image.height; ++y) {
            for (int x = 0; x < image.width; ++x) {
                const Kind kind = kind_of(image.at(x, y));
                if (kind == kGreen) green += x, ++greens;
                if (kind == kOrange) orange += x, ++oranges;
            }
        }
        CAPTURE(heading);
        CHECK(green / greens > orange / oranges + 20);
    }
}

TEST_CASE("strip: odd clips") {
    CHECK(strip_image(rig_joints(walking_rig(3))).width > 100);  // fewer frames than poses
    CHECK(strip_image(rig_joints(walking_rig(30, 0, 0, 21))).width > 100);
    JointSequence flat{1, 22, 20.0, std::vector<float>(66, 0.0f)};
    CHECK(strip_image(flat).width > 0);
    flat.xyz[5] = NAN;
    CHECK_THROWS_AS(strip_image(flat), mc::Error);
    CHECK_THROWS_AS(strip_image(JointSequence{}), mc::Error);
    StripOptions options;
    options.poses = 0;
    CHECK_THROWS_AS(strip_image(rig_joints(walking_rig(3)), options), mc::Error);
    options.poses = 2;
    options.height = 100000;
    CHECK_THROWS_AS(strip_image(rig_joints(walking_rig(3)), options), mc::Error);
}
