#include "tensor/formats/safetensors.h"

#include <doctest/doctest.h>
#include <sys/resource.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "tensor/finite.h"
#include "tests/error_of.h"
#include "tests/test_paths.h"

using namespace mc;
using mc::testing::contains;
using mc::testing::ScratchDir;
using mc::testing::write_file_bytes;

namespace {

std::string file_bytes(const std::string& header, const std::string& data) {
    const uint64_t length = header.size();
    return std::string(reinterpret_cast<const char*>(&length), 8) + header + data;
}

// What reading a file of this header and data complains about; "" if nothing.
std::string complaint(const std::string& bytes, const std::string& tensor = "") {
    ScratchDir dir;
    const auto path = dir.path / "x.safetensors";
    write_file_bytes(path, bytes);
    try {
        SafetensorsFile file(path);
        if (!tensor.empty()) file.get(tensor);
        return "";
    } catch (const Error& e) {
        const std::string what = e.what();
        CHECK(what.find("x.safetensors") != std::string::npos);
        CHECK(what.find('\n') == std::string::npos);
        return what;
    }
}

std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return R"({"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets +
           "}";
}

}  // namespace

TEST_CASE("safetensors: every dtype comes back with its bytes, name and shape") {
    ScratchDir dir;
    const auto path = dir.path / "all.safetensors";
    const Tensor f32 = Tensor::from({1, -2.5f, 3e38f, 0}, {2, 2});
    const Tensor f64 = Tensor::full({3}, 0.1, DType::f64);
    const Tensor i64 = Tensor::from_ids({-1, INT64_MAX}, {2, 1});
    const Tensor i32 = Tensor::full({2}, -7, DType::i32);
    const Tensor boolean = Tensor::from_bools({1, 0, 1}, {3});
    const Tensor scalar = Tensor::full({}, 42);
    const Tensor none = Tensor::empty({0, 5});
    Tensor f16 = Tensor::empty({3}, DType::f16), bf16 = Tensor::empty({1}, DType::bf16);
    std::memcpy(f16.raw(), "abcdef", 6);
    std::memcpy(bf16.raw(), "gh", 2);
    const NamedTensors tensors = {{"mask", boolean}, {"w.f32", f32},     {"f64", f64},
                                  {"i64", i64},      {"i32", i32},       {"f16", f16},
                                  {"bf16", bf16},    {"scalar", scalar}, {"none", none}};
    write_safetensors(path, tensors, {{"licence", "MIT"}, {"note", "ä \"quoted\""}});
    CHECK_FALSE(mc::testing::has_temporaries(path.parent_path()));

    const SafetensorsFile file(path);
    CHECK(file.metadata().at("licence") == "MIT");
    CHECK(file.metadata().at("note") == "ä \"quoted\"");
    CHECK(file.entries().size() == tensors.size());
    CHECK(file.find("absent") == nullptr);
    CHECK_THROWS_AS(file.get("absent"), Error);
    for (const auto& [name, want] : tensors) {
        CAPTURE(name);
        const Tensor got = file.get(name);
        CHECK(got.dtype() == want.dtype());
        CHECK(got.shape() == want.shape());
        const size_t bytes = static_cast<size_t>(want.numel()) * size_of(want.dtype());
        CHECK(std::memcmp(got.raw(), want.raw(), bytes) == 0);
        CHECK(got.storage()->owner != nullptr);  // all aligned, all borrowed
    }
    CHECK(file.all().size() == tensors.size());
}

TEST_CASE("safetensors: a tensor outlives the file object and the replaced file") {
    ScratchDir dir;
    const auto path = dir.path / "w.safetensors";
    write_safetensors(path, {{"w", Tensor::from({1, 2, 3}, {3})}});
    const Tensor w = SafetensorsFile(path).get("w");
    write_safetensors(path, {{"w", Tensor::from({7}, {1})}});
    CHECK(w.to_vector<float>() == std::vector<float>{1, 2, 3});
    CHECK(SafetensorsFile(path).get("w").item<float>() == 7);
}

TEST_CASE("safetensors: misaligned payloads are copied") {
    const float value = 1.5f;
    std::string header =
        "{\"b\":" + entry("BOOL", "[1]", "[0,1]") + ",\"f\":" + entry("F32", "[]", "[1,5]") + "}";
    header.append((8 - header.size() % 8) % 8, ' ');
    const std::string data =
        std::string(1, '\1') + std::string(reinterpret_cast<const char*>(&value), sizeof value);
    ScratchDir dir;
    write_file_bytes(dir.path / "x", file_bytes(header, data));
    const SafetensorsFile file(dir.path / "x");
    CHECK(file.get("b").item<bool>());
    CHECK(file.get("f").item<float>() == 1.5f);
    CHECK(file.get("f").storage()->owner == nullptr);
}

TEST_CASE("safetensors: element types that are not ours open, and get names the tensor") {
    const std::string bytes = file_bytes("{\"q\":" + entry("F8_E4M3", "[2]", "[0,2]") +
                                             ",\"z\":" + entry("X3", "[9]", "[2,3]") + "}",
                                         "abc");
    CHECK(complaint(bytes) == "");
    CHECK(contains(complaint(bytes, "q"), "'q': element type F8_E4M3"));
    CHECK(contains(complaint(bytes, "z"), "'z': element type X3"));
}

TEST_CASE("safetensors: broken files, one clear line each") {
    const std::string good = entry("F32", "[1]", "[0,4]");
    const auto with = [&](const std::string& value, const std::string& data = "abcd") {
        return complaint(file_bytes("{\"w\":" + value + "}", data), "w");
    };
    REQUIRE(with(good) == "");

    SUBCASE("lengths") {
        CHECK(contains(complaint(""), "too few"));
        CHECK(contains(complaint("1234567"), "too few"));
        CHECK(contains(complaint(std::string(8, '\xff')), "claims 18446744073709551615 bytes"));
        CHECK(contains(complaint(std::string(8, '\0')), "not JSON"));
        CHECK(contains(complaint(file_bytes("{\"a\": 1e999}", "")), "a number is too large"));
        std::string longer = file_bytes("{\"w\":" + good + "}", "abcd");
        longer[0] = '\x7f';
        CHECK(complaint(longer) != "");
        const std::string whole = file_bytes("{\"w\":" + good + "}", "abcd");
        for (size_t size = 0; size < whole.size(); ++size)
            CHECK(complaint(whole.substr(0, size)) != "");
        CHECK(contains(complaint(whole + "x"), "5 bytes of data, the header names 4"));
    }
    SUBCASE("JSON") {
        for (const char* header : {"[]", "1", "null", "{", "{}{}", "{\"w\":}", "\xff\xfe", "nan"})
            CHECK(complaint(file_bytes(header, "")) != "");
        CHECK(complaint(file_bytes("{}", "")) == "");
        CHECK(complaint(file_bytes("{}   ", "")) == "");
        CHECK(contains(complaint(file_bytes("{\"w\":" + good + ",\"w\":" + good + "}", "abcd")),
                       "'w' stands twice"));
        CHECK(contains(complaint(file_bytes(std::string(100000, '['), "")), "deeply"));
    }
    SUBCASE("fields") {
        CHECK(contains(with("3"), "'w': not an object"));
        CHECK(contains(with("{}"), "no dtype"));
        CHECK(contains(with(R"({"dtype":4,"shape":[1],"data_offsets":[0,4]})"), "no dtype"));
        CHECK(contains(with(R"({"dtype":"F32","data_offsets":[0,4]})"), "no shape"));
        CHECK(contains(with(R"({"dtype":"F32","shape":[1]})"), "no data_offsets"));
        CHECK(contains(with(entry("F32", "[-1]", "[0,4]")), "not a count"));
        CHECK(contains(with(entry("F32", "[1.0]", "[0,4]")), "not a count"));
        CHECK(contains(with(entry("F32", "[99999999999999999999]", "[0,4]")), "not a count"));
        CHECK(contains(with(entry("F32", "[\"1\"]", "[0,4]")), "not a count"));
        CHECK(contains(with(entry("F32", "[4294967296,4294967296]", "[0,4]")), "overflows"));
        CHECK(contains(with(entry("F32", "[4611686018427387904]", "[0,0]"), ""), "overflows"));
        CHECK(contains(with(entry("F32", "[1]", "[0]")), "no data_offsets"));
        CHECK(contains(with(entry("F32", "[1]", "[-4,0]")), "no data_offsets"));
        CHECK(contains(with(entry("F32", "[1]", "[4,0]")), "[4, 0] in 4 bytes"));
        CHECK(contains(with(entry("F32", "[2]", "[0,8]")), "[0, 8] in 4 bytes"));
        CHECK(contains(with(entry("F32", "[2]", "[0,4]")), "needs 8 bytes"));
        CHECK(contains(with(entry("F64", "[1]", "[0,4]")), "needs 8 bytes"));
        CHECK(contains(with(entry("U8", "[1]", "[0,4]")), "needs 1 bytes"));
        CHECK(contains(with(entry("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]")), "9 dimensions"));
        CHECK(contains(with(entry("BOOL", "[4]", "[0,4]")), "neither 0 nor 1"));
    }
    SUBCASE("layout") {
        const auto two = [&](const std::string& a, const std::string& b) {
            return complaint(file_bytes(
                "{\"a\":" + entry("F32", "[1]", a) + ",\"b\":" + entry("F32", "[1]", b) + "}",
                "abcdefghi"));
        };
        CHECK(contains(two("[0,4]", "[4,8]"), "9 bytes of data, the header names 8"));
        CHECK(contains(two("[0,4]", "[0,4]"), "'b' begins at byte 0 of the data, overlapping"));
        CHECK(contains(two("[0,4]", "[2,6]"), "'b' begins at byte 2 of the data, overlapping"));
        CHECK(contains(two("[0,4]", "[5,9]"), "'b' begins at byte 5 of the data, after a gap"));
    }
    SUBCASE("metadata") {
        CHECK(contains(complaint(file_bytes(R"({"__metadata__":[]})", "")), "not an object"));
        CHECK(contains(complaint(file_bytes(R"({"__metadata__":{"a":1}})", "")),
                       "'a': not a string"));
    }
    SUBCASE("not a file") {
        ScratchDir dir;
        CHECK_THROWS_WITH_AS(SafetensorsFile(dir.path / "absent"),
                             doctest::Contains("No such file"), Error);
        CHECK_THROWS_WITH_AS(SafetensorsFile{dir.path}, doctest::Contains("folder"), Error);
        CHECK_THROWS_WITH_AS(SafetensorsFile("/dev/null"), doctest::Contains("not a regular file"),
                             Error);
    }
}

TEST_CASE("safetensors: any flipped byte of the header is an error or a readable file") {
    ScratchDir dir;
    const auto path = dir.path / "x.safetensors";
    write_safetensors(path, {{"a", Tensor::from({1, 2}, {2})}, {"b", Tensor::from_ids({3}, {1})}},
                      {{"k", "v"}});
    const std::string whole = mc::testing::file_bytes(path);
    uint64_t length = 0;
    std::memcpy(&length, whole.data(), 8);
    for (size_t i = 0; i < 8 + length; ++i)
        for (int flip : {1, 16, 128}) {
            std::string broken = whole;
            broken[i] = static_cast<char>(broken[i] ^ flip);
            write_file_bytes(path, broken);
            try {
                SafetensorsFile(path).all();
            } catch (const Error&) {  // any other exception fails the test
            }
        }
}

TEST_CASE("safetensors: the writer refuses what could not be read back") {
    ScratchDir dir;
    const auto path = dir.path / "x.safetensors";
    const Tensor t = Tensor::from({1}, {1});
    CHECK_THROWS_WITH_AS(write_safetensors(path, {{"a", t}, {"a", t}}), doctest::Contains("twice"),
                         Error);
    CHECK_THROWS_AS(write_safetensors(path, {{"a", Tensor()}}), Error);
    CHECK_THROWS_AS(write_safetensors(path, {{"__metadata__", t}}), Error);
    CHECK_THROWS_AS(write_safetensors(path, {{"\xff", t}}), Error);
    CHECK_THROWS_WITH_AS(write_safetensors(dir.path / "no" / "x", {{"a", t}}),
                         doctest::Contains("make the folder first"), Error);
    CHECK(std::filesystem::is_empty(dir.path));
}

TEST_CASE("safetensors: a disk that takes no more leaves the old file and nothing else") {
    ScratchDir dir;
    const auto path = dir.path / "x.safetensors";
    write_safetensors(path, {{"w", Tensor::from({1}, {1})}});
    rlimit before{};
    getrlimit(RLIMIT_FSIZE, &before);
    const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit small{4096, before.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
    std::string what;
    try {
        write_safetensors(path, {{"w", Tensor::zeros({100000})}});
    } catch (const Error& e) {
        what = e.what();
    }
    setrlimit(RLIMIT_FSIZE, &before);
    std::signal(SIGXFSZ, old_handler);
    CHECK(contains(what, "File too large"));
    CHECK_FALSE(mc::testing::has_temporaries(path.parent_path()));
    CHECK(SafetensorsFile(path).get("w").item<float>() == 1);
}

TEST_CASE("check_finite names the tensor, the value and the place") {
    Tensor x = Tensor::zeros({40, 100});
    CHECK_NOTHROW(check_finite("x", x));
    x.data<float>()[2503] = -std::numeric_limits<float>::infinity();
    CHECK_THROWS_WITH_AS(check_finite("x", x), "x: -inf at (25, 3) of shape (40, 100)", Error);
    x.data<float>()[99] = std::numeric_limits<float>::quiet_NaN();
    CHECK_THROWS_WITH_AS(check_finite("x", x), "x: nan at (0, 99) of shape (40, 100)", Error);
    Tensor d = Tensor::full({}, std::numeric_limits<double>::infinity(), DType::f64);
    CHECK_THROWS_WITH_AS(check_finite("d", d), "d: inf at () of shape ()", Error);
    Tensor h = Tensor::empty({2}, DType::f16);
    const uint16_t bits[2] = {0x7BFF, 0xFC00};  // 65504, -inf
    std::memcpy(h.raw(), bits, 4);
    CHECK_THROWS_WITH_AS(check_finite("h", h), "h: -inf at (1) of shape (2)", Error);
    Tensor b = Tensor::empty({1}, DType::bf16);
    const uint16_t nan = 0x7FC0;
    std::memcpy(b.raw(), &nan, 2);
    CHECK_THROWS_WITH_AS(check_finite("b", b), "b: nan at (0) of shape (1)", Error);
    CHECK_NOTHROW(check_finite("i", Tensor::from_ids({-1}, {1})));
    CHECK_NOTHROW(check_finite("e", Tensor::empty({0, 3})));
}
