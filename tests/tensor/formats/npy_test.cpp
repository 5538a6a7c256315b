#include "tensor/formats/npy.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>

#include "kernels/error.h"
#include "tests/error_of.h"
#include "tests/test_paths.h"

using namespace mc;

namespace {

std::vector<std::byte> bytes_of(const std::string& s) {
    std::vector<std::byte> result(s.size());
    if (!s.empty()) std::memcpy(result.data(), s.data(), s.size());
    return result;
}

// An npy file of version `major` with the given dictionary and data.
std::string npy(const std::string& dict, const std::string& data, char major = 1) {
    std::string s = "\x93NUMPY";
    s += major;
    s += '\0';
    s += static_cast<char>(dict.size() & 0xff);
    s += static_cast<char>(dict.size() >> 8);
    if (major > 1) s += std::string(2, '\0');
    return s + dict + data;
}

std::string dict(const std::string& descr, const std::string& shape, bool fortran = false) {
    return fmt::format("{{'descr': '{}', 'fortran_order': {}, 'shape': {}, }}\n", descr,
                       fortran ? "True" : "False", shape);
}

template <typename T>
std::string raw(std::initializer_list<T> values) {
    return std::string(reinterpret_cast<const char*>(std::data(values)), values.size() * sizeof(T));
}

NpyArray parse(const std::string& s) {
    return parse_npy(bytes_of(s), "test.npy");
}

std::string error_of(const std::string& s) {
    return mc::testing::error_of([&] { parse(s); });
}

}  // namespace

TEST_CASE("npy: every element type converts") {
    using F = std::vector<float>;
    CHECK(parse(npy(dict("<f4", "(2,)"), raw({1.5f, -2.f}))).as_f32() == F{1.5f, -2.f});
    CHECK(parse(npy(dict("<f8", "(2,)"), raw({1.5, -2.0}))).as_f32() == F{1.5f, -2.f});
    CHECK(parse(npy(dict("|b1", "(3,)"), std::string("\x01\x00\x01", 3))).as_f32() == F{1, 0, 1});
    CHECK(parse(npy(dict("|i1", "(1,)"), raw<int8_t>({-7}))).as_i64() == std::vector<int64_t>{-7});
    CHECK(parse(npy(dict("<i4", "(1,)"), raw<int32_t>({-70000}))).as_f32() == F{-70000});
    CHECK(parse(npy(dict("<i8", "(1,)"), raw<int64_t>({int64_t{1} << 40}))).as_i64()[0] ==
          int64_t{1} << 40);
    CHECK(parse(npy(dict("<u2", "(1,)"), raw<uint16_t>({65535}))).as_f32() == F{65535});
    const F halves = parse(npy(dict("<f2", "(6,)"),
                               raw<uint16_t>({0x3c00, 0xc000, 0x0001, 0x7bff, 0x7c00, 0x8000})))
                         .as_f32();
    CHECK(halves[0] == 1.f);
    CHECK(halves[1] == -2.f);
    CHECK(halves[2] == 0x1p-24f);
    CHECK(halves[3] == 65504.f);
    CHECK(std::isinf(halves[4]));
    CHECK(std::signbit(halves[5]));
    CHECK_THROWS_AS(parse(npy(dict("<f4", "(1,)"), raw({1.f}))).as_i64(), Error);
}

TEST_CASE("npy: byte orders, versions, scalars, empty arrays") {
    CHECK(parse(npy(dict(">i4", "(1,)"), std::string("\x00\x00\x01\x02", 4))).as_i64()[0] == 258);
    CHECK(parse(npy(dict("<f4", "(2L,)"), raw({1.f, 2.f}))).shape == std::vector<int64_t>{2});
    CHECK(parse(npy(dict("<f4", "()"), raw({3.f}))).as_f32() == std::vector<float>{3.f});
    CHECK(parse(npy(dict("<f4", "(0, 263)"), "")).as_f32().empty());
    CHECK(parse(npy(dict("<f4", "(1,)"), raw({3.f}), 2)).as_f32() == std::vector<float>{3.f});
    CHECK(parse(npy(dict("<f4", "(1,)"), raw({3.f}), 3)).as_f32() == std::vector<float>{3.f});
}

TEST_CASE("npy: Fortran order is read into C order") {
    // a[i][j][k] = 100 i + 10 j + k, shape (2,3,2), first index fastest in the file
    std::string data;
    for (int k = 0; k < 2; ++k)
        for (int j = 0; j < 3; ++j)
            for (int i = 0; i < 2; ++i)
                data += raw<int16_t>({static_cast<int16_t>(100 * i + 10 * j + k)});
    const NpyArray a = parse(npy(dict("<i2", "(2, 3, 2)", true), data));
    CHECK(a.as_i64() == std::vector<int64_t>{0, 1, 10, 11, 20, 21, 100, 101, 110, 111, 120, 121});
}

TEST_CASE("npy: broken files are refused in one line that names the file") {
    const std::string good = npy(dict("<f4", "(2, 3)"), std::string(24, '\0'));
    REQUIRE(error_of(good).empty());
    for (size_t cut = 0; cut < good.size(); ++cut) {
        const std::string what = error_of(good.substr(0, cut));
        CHECK(what.starts_with("test.npy: "));
        CHECK(what.find('\n') == std::string::npos);
    }
    CHECK(error_of(good + "x").find("claims only 24") != std::string::npos);
    CHECK(error_of("PK\x03\x04 not an array at all").find("not an npy file") != std::string::npos);
    CHECK(error_of(npy(dict("<f4", "(1,)"), raw({1.f}), 9)).find("version") != std::string::npos);
    CHECK(error_of(npy(dict("|O", "(1,)"), "cos\nsystem\n")).find("never executed") !=
          std::string::npos);
    CHECK(error_of(npy(dict("<U4", "(1,)"), std::string(16, 'a'))).find("not supported") !=
          std::string::npos);
    CHECK(error_of(npy(dict("<c8", "(1,)"), std::string(8, 'a'))).find("not supported") !=
          std::string::npos);
    CHECK(
        error_of(npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", "1234"))
            .find("structured") != std::string::npos);
    const std::string huge = "(4294967296, 4294967296, 4294967296)";
    CHECK(error_of(npy(dict("<f4", huge), "")).find("overflows") != std::string::npos);
    CHECK(error_of(npy(dict("<f4", "(99999999999999999999,)"), "")).find("overflows") !=
          std::string::npos);
    CHECK(error_of(npy(dict("<f4", "(1000000000000,)"), "")).find("truncated") !=
          std::string::npos);
    CHECK(error_of(npy(dict("<f4", "(-1,)"), "")).find("dimension") != std::string::npos);
    CHECK(error_of(npy("{'descr': '<f4', 'shape': (1,), }", "1234")).find("want descr") !=
          std::string::npos);
    CHECK(error_of(npy("{'descr': '<f4", "1234")).find("does not end") != std::string::npos);
    CHECK(error_of(npy(dict("", "(1,)"), "1234")).find("not supported") != std::string::npos);
    CHECK(error_of(npy("__import__('os')", "1234")).find("bad header") != std::string::npos);
    CHECK_THROWS_AS(read_npy("/no/such/file.npy"), Error);
    CHECK_THROWS_AS(read_npy("/tmp"), Error);
}

TEST_CASE("npy and npz: what is written is read back, bit for bit") {
    testing::ScratchDir scratch;
    std::vector<float> f(2 * 3 * 4);
    for (size_t i = 0; i < f.size(); ++i) f[i] = std::sin(static_cast<float>(i));
    const std::vector<double> d{1e-300, -2.5, 3};
    const std::vector<int64_t> n{-1, int64_t{1} << 50};
    write_npy(scratch.path / "f.npy", {2, 3, 4}, f.data());
    write_npy(scratch.path / "d.npy", {3}, d.data());
    write_npy(scratch.path / "n.npy", {2, 1}, n.data());
    CHECK(read_npy(scratch.path / "f.npy").as_f32() == f);
    CHECK(read_npy(scratch.path / "f.npy").shape == std::vector<int64_t>{2, 3, 4});
    CHECK(read_npy(scratch.path / "d.npy").as_f64() == d);
    CHECK(read_npy(scratch.path / "n.npy").as_i64() == n);
    CHECK(std::filesystem::file_size(scratch.path / "n.npy") % 64 == 16);
    CHECK_FALSE(mc::testing::has_temporaries(scratch.path));

    NpzWriter writer(scratch.path / "a.npz");
    writer.add("clip", {2, 3, 4}, f.data());
    writer.add("d", {3}, d.data());
    writer.add("n", {2}, n.data());
    CHECK_THROWS_AS(writer.add("n", {2}, n.data()), Error);
    writer.commit();
    const NpzFile file(scratch.path / "a.npz");
    CHECK(file.names() == std::vector<std::string>{"clip", "d", "n"});
    CHECK(file.read("clip").as_f32() == f);
    CHECK_THROWS_AS(file.read("other"), Error);
    auto all = read_npz(scratch.path / "a.npz");
    CHECK(all.at("n").as_i64() == n);
    write_npz(scratch.path / "b.npz", all);
    CHECK(read_npz(scratch.path / "b.npz").at("d").as_f64() == d);
    CHECK_THROWS_AS(write_npy(scratch.path / "none" / "f.npy", {1}, f.data()), Error);
}

TEST_CASE("npy: the published sample and a compressed archive are read") {
    if (testing::have_shared("data/HumanML3D/new_joints/012314.npy")) {
        const NpyArray a = read_npy(testing::shared_dir() / "data/HumanML3D/new_joints/012314.npy");
        CHECK(a.shape == std::vector<int64_t>{170, 22, 3});
        CHECK(a.as_f32()[3] == doctest::Approx(0.0805792).epsilon(1e-6));
    }
    if (testing::have_shared("data/mocap/joints/cmu_misc.npz")) {
        const auto all = read_npz(testing::shared_dir() / "data/mocap/joints/cmu_misc.npz");
        CHECK(all.size() == 7);
        for (const auto& [name, a] : all) CHECK(a.shape.size() == 3);
    }
}
