#include "tensor/formats/zip.h"

#include <doctest/doctest.h>

#include <cstring>

#include "kernels/error.h"
#include "tests/error_of.h"
#include "tests/test_paths.h"

using namespace mc;
using mc::testing::file_bytes;
using mc::testing::write_file_bytes;

namespace {

std::string text(const std::vector<std::byte>& bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// The whole archive read; returns the error, or "" if there is none.
std::string error_of(const std::filesystem::path& path) {
    return mc::testing::error_of([&] {
        const ZipReader zip(path);
        for (const ZipEntry& e : zip.entries()) zip.read(e);
    });
}

const std::string kRepeated(5000, 'x');

void write_sample(const std::filesystem::path& path) {
    ZipWriter zip(path);
    zip.add("stored", "abc", 3, false);
    zip.add("packed", kRepeated.data(), kRepeated.size());
    zip.add("empty", nullptr, 0);
    zip.commit();
}

// Where the directory entry of `name` begins.
size_t central(const std::string& bytes, const std::string& name) {
    return bytes.rfind(name, bytes.rfind("PK\x05\x06")) - 46;
}

}  // namespace

TEST_CASE("zip: entries come back, stored and deflated") {
    testing::ScratchDir scratch;
    write_sample(scratch.path / "a.zip");
    const ZipReader zip(scratch.path / "a.zip");
    REQUIRE(zip.entries().size() == 3);
    CHECK(zip.find("packed")->method == 8);
    CHECK(zip.find("packed")->compressed_size < 100);
    CHECK(zip.find("stored")->method == 0);
    CHECK(text(zip.read(*zip.find("stored"))) == "abc");
    CHECK(text(zip.read(*zip.find("packed"))) == kRepeated);
    CHECK(zip.read(*zip.find("empty")).empty());
    CHECK(zip.find("nothing") == nullptr);
    CHECK(file_bytes(scratch.path / "a.zip").substr(zip.data_offset(*zip.find("stored")), 3) ==
          "abc");
    CHECK_FALSE(mc::testing::has_temporaries(scratch.path));
}

TEST_CASE("zip: a comment after the end record is fine") {
    testing::ScratchDir scratch;
    write_sample(scratch.path / "a.zip");
    std::string bytes = file_bytes(scratch.path / "a.zip");
    bytes[bytes.size() - 2] = 5;
    write_file_bytes(scratch.path / "b.zip", bytes + "hello");
    CHECK(error_of(scratch.path / "b.zip").empty());
}

TEST_CASE("zip: an abandoned writer leaves nothing behind") {
    testing::ScratchDir scratch;
    { ZipWriter zip(scratch.path / "a.zip"); }
    CHECK(std::filesystem::is_empty(scratch.path));
}

TEST_CASE("zip: truncated archives are refused at every length") {
    testing::ScratchDir scratch;
    write_sample(scratch.path / "a.zip");
    const std::string bytes = file_bytes(scratch.path / "a.zip");
    for (size_t cut = 0; cut < bytes.size(); ++cut) {
        write_file_bytes(scratch.path / "b.zip", bytes.substr(0, cut));
        const std::string what = error_of(scratch.path / "b.zip");
        REQUIRE(what.find("b.zip") != std::string::npos);
        CHECK(what.find('\n') == std::string::npos);
    }
}

TEST_CASE("zip: damaged directories are refused") {
    testing::ScratchDir scratch;
    const auto path = scratch.path / "b.zip";
    write_sample(scratch.path / "a.zip");
    const std::string good = file_bytes(scratch.path / "a.zip");
    const size_t end = good.rfind("PK\x05\x06");
    auto broken = [&](size_t at, const std::string& patch) {
        std::string bytes = good;
        bytes.replace(at, patch.size(), patch);
        write_file_bytes(path, bytes);
        return error_of(path);
    };
    const std::string ff4(4, '\xff'), ff2(2, '\xff');
    CHECK(broken(end + 16, ff4).find("outside") != std::string::npos);      // directory offset
    CHECK(broken(end + 12, ff4).find("outside") != std::string::npos);      // directory size
    CHECK(broken(end + 10, ff2).find("cannot hold") != std::string::npos);  // entry count
    CHECK(broken(end + 4, "\x01").find("volumes") != std::string::npos);
    const size_t packed = central(good, "packed"), stored = central(good, "stored");
    CHECK(broken(packed, "QK").find("bad directory entry") != std::string::npos);
    CHECK(broken(packed + 8, "\x01").find("encrypted") != std::string::npos);
    CHECK(broken(packed + 10, "\x0c").find("method 12") != std::string::npos);
    CHECK(broken(packed + 16, "zzzz").find("checksum") != std::string::npos);
    CHECK(broken(packed + 20, std::string("\xff\xff\xff\x7f", 4)).find("outside") !=
          std::string::npos);
    CHECK(broken(packed + 24, std::string("\xff\xff\xff\x7f", 4)).find("cannot inflate") !=
          std::string::npos);
    CHECK(broken(packed + 24, std::string("\x89\x13\x00\x00", 4)).find("damaged") !=
          std::string::npos);
    CHECK(broken(packed + 24, ff4).find("cannot inflate") != std::string::npos);
    CHECK(broken(packed + 28, ff2).find("runs out") != std::string::npos);  // name length
    CHECK(broken(packed + 42, ff4).find("outside") != std::string::npos);   // header offset
    CHECK(broken(packed + 42, std::string(4, '\0')).find("overlaps") != std::string::npos);
    CHECK(broken(stored + 42, "\x02").find("overlaps") != std::string::npos);
    for (const std::string& name : std::vector<std::string>{"/acked", "../../", "a/..ed", "pac\\ed",
                                                            std::string("pac\0ed", 6)}) {
        const bool harmless = name == "a/..ed";
        CHECK((broken(packed + 46, name).find("an entry is called") == std::string::npos) ==
              harmless);
    }
    CHECK(broken(good.find("packed"), "Packed").find("another name") != std::string::npos);
    CHECK(broken(good.find("packed") - 2, "\xff\xff").find("runs into") != std::string::npos);
    CHECK(broken(good.find("packed") - 4, "\x05").find("another name") != std::string::npos);
    CHECK(broken(end + 20, "\x01").find("no end record") != std::string::npos);  // comment length
    CHECK(broken(packed + 46, "stored").find("twice") != std::string::npos);
    CHECK(broken(stored + 24, "\x09").find("two sizes") != std::string::npos);
    CHECK(broken(0, "QK").find("local header") != std::string::npos);
    // The compressed bytes themselves.
    const size_t data = good.find("packed") + 6;
    CHECK_FALSE(broken(data + 2, "\x55\xaa\x55").empty());
}

TEST_CASE("zip: no single changed byte crashes the reader") {
    testing::ScratchDir scratch;
    write_sample(scratch.path / "a.zip");
    const std::string good = file_bytes(scratch.path / "a.zip");
    for (size_t i = 0; i < good.size(); ++i)
        for (unsigned char flip : {0x01, 0x80, 0xff}) {
            std::string bytes = good;
            bytes[i] = static_cast<char>(bytes[i] ^ flip);
            write_file_bytes(scratch.path / "b.zip", bytes);
            const std::string what = error_of(scratch.path / "b.zip");
            CHECK(what.find('\n') == std::string::npos);
        }
}

TEST_CASE("zip: of two end records the one whose comment reaches the end counts") {
    testing::ScratchDir scratch;
    write_sample(scratch.path / "a.zip");
    const std::string good = file_bytes(scratch.path / "a.zip");
    // A comment that looks like the end of an empty archive, but not at its own end.
    std::string bytes = good;
    const std::string decoy = "PK\x05\x06" + std::string(18, '\0') + "tail";
    bytes[bytes.size() - 2] = static_cast<char>(decoy.size());
    write_file_bytes(scratch.path / "b.zip", bytes + decoy);
    CHECK(ZipReader(scratch.path / "b.zip").entries().size() == 3);
}

TEST_CASE("zip: aligned entries") {
    testing::ScratchDir scratch;
    {
        ZipWriter zip(scratch.path / "a.zip");
        for (int i = 0; i < 70; ++i)
            zip.add(std::string(static_cast<size_t>(i + 1), 'n'), "abc", 3, false, 64);
        zip.commit();
    }
    const ZipReader zip(scratch.path / "a.zip");
    for (const ZipEntry& entry : zip.entries()) {
        CHECK(zip.data_offset(entry) % 64 == 0);
        CHECK(text(zip.read(entry)) == "abc");
        CHECK(zip.stored(entry).size() == 3);
    }
}
