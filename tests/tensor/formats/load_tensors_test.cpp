#include "tensor/formats/load_tensors.h"

#include <doctest/doctest.h>

#include "kernels/error.h"
#include "tensor/formats/element_type.h"
#include "tensor/formats/npy.h"
#include "tests/error_of.h"
#include "tests/tensor/formats/pickle_bytes.h"
#include "tests/test_paths.h"

using namespace mc;
using namespace mc::testing;
using namespace std::string_literals;

using mc::testing::contains;

namespace {

std::string error_of(const std::filesystem::path& path, const LoadOptions& options = {}) {
    try {
        load_tensors(path, options);
    } catch (const Error& e) {
        const std::string what = e.what();
        CHECK(what.find(path.filename().string()) != std::string::npos);
        CHECK(what.find('\n') == std::string::npos);
        return what;
    }
    return "";
}

}  // namespace

TEST_CASE("load_tensors: the format is known by content, whatever the file is called") {
    ScratchDir scratch;
    const auto path = scratch.path / "latest.tar";
    const std::vector<float> values{1, 2, 3, 4, 5, 6};
    const Tensor w = Tensor::from(values, {2, 3});
    const auto check = [&](TensorFormat format, const std::string& name) {
        CAPTURE(name);
        const TensorFile file = load_tensors(path);
        CHECK(file.format == format);
        REQUIRE(file.tensors.size() == 1);
        CHECK(file.tensors[0].first == name);
        CHECK(file.tensors[0].second.shape() == Shape{2, 3});
        CHECK(file.tensors[0].second.to_vector<float>() == values);
        return file;
    };
    // A header's length is its file's first byte: all of them are met, a pickle's 0x80 too.
    for (size_t more = 0; more < 256; more += 4) {
        write_safetensors(path, {{"net.w", w}}, {{"note", std::string(more, 'x')}});
        check(TensorFormat::safetensors, "net.w");
    }
    write_safetensors(path, {{"net.w", w}}, {{"licence", "MIT"}});
    CHECK(check(TensorFormat::safetensors, "net.w").metadata.at("licence") == "MIT");
    write_npy(path, {2, 3}, values.data());
    check(TensorFormat::npy, "latest");
    {
        NpzWriter npz(path);
        npz.add("net.w", {2, 3}, values.data());
        npz.commit();
    }
    check(TensorFormat::npz, "net.w");
    write_pytorch(path, {{"net", NamedTensors{{"w", w}}}, {"ep", int64_t{3}}});
    CHECK(check(TensorFormat::pytorch_zip, "net.w").values.at("ep").as_int() == 3);
    const std::string legacy =
        py::dict({{py::text("net.w"),
                   py::tensor_of(py::storage("FloatStorage", "7", 6, "N"), 0, {2, 3}, {3, 1})}});
    write_file_bytes(path, legacy_file(legacy, {{"7", 6, floats(values)}}));
    check(TensorFormat::pytorch_legacy, "net.w");
    const std::string module =
        py::global("__torch__", "Net") + ")\x81" +
        py::dict({{py::text("w"),
                   py::tensor_of(py::storage("FloatStorage", "0", 6), 0, {2, 3}, {3, 1})}}) +
        "b";
    write_torch_zip(path, module, {floats(values)}, {{"x/constants.pkl", py::pickle(")")}});
    check(TensorFormat::torchscript, "w");
}

TEST_CASE("load_tensors: a part by its key") {
    ScratchDir scratch;
    const Tensor a = Tensor::from({1}, {1}), b = Tensor::from({2}, {1});
    const auto names = [](const TensorFile& file) {
        std::string all;
        for (const auto& [name, tensor] : file.tensors) all += name + " ";
        return all;
    };
    const auto torch = scratch.path / "a.pt", safe = scratch.path / "a.safetensors";
    write_pytorch(torch, {{"net", NamedTensors{{"x.w", a}}}, {"opt", NamedTensors{{"m", b}}}});
    CHECK(names(load_tensors(torch)) == "net.x.w opt.m ");
    CHECK(names(load_tensors(torch, {.below = "net"})) == "x.w ");
    CHECK(names(load_tensors(torch, {.below = "net.x.w"})) == " ");
    CHECK(contains(error_of(torch, {.below = "vq_model"}), "no 'vq_model' among 'net', 'opt'"));
    write_safetensors(safe, {{"net.w", a}, {"network.w", b}});
    CHECK(names(load_tensors(safe, {.below = "net"})) == "w ");
    CHECK(contains(error_of(safe, {.below = "vq"}), "no tensor is called 'vq.*'"));
}

TEST_CASE("load_tensors: what is none of the formats") {
    ScratchDir scratch;
    const auto path = scratch.path / "x";
    const auto of = [&](const std::string& bytes) {
        write_file_bytes(path, bytes);
        return error_of(path);
    };
    CHECK(contains(of(""), "empty"));
    CHECK(contains(of("hello, world"), "not a file of tensors"));
    CHECK(contains(of(std::string(257, 'x') + "ustar" + std::string(100, '\0')), "a tar archive"));
    CHECK(contains(of("PK\x03\x04 and nothing more, though long enough"), "truncated"));
    CHECK(contains(of(std::string(8, '\xff') + "{}"), "claims 18446744073709551615"));
    write_zip(path, {{"a.txt", "hello"}});
    CHECK(contains(error_of(path), "neither NumPy's"));
    CHECK(contains(error_of(scratch.path), "folder"));
    CHECK(contains(error_of(scratch.path / "absent"), "No such file"));
}

TEST_CASE("load_tensors: small integers are widened, NumPy's and safetensors' too") {
    ScratchDir scratch;
    const auto npy = [&](const std::string& descr, const std::string& data, bool fortran = false) {
        const std::string dict = "{'descr': '" + descr +
                                 "', 'fortran_order': " + (fortran ? "True" : "False") +
                                 ", 'shape': (2, 2)}";
        write_file_bytes(scratch.path / "x.npy",
                         "\x93NUMPY\1\0"s + static_cast<char>(dict.size()) + '\0' + dict + data);
        return load_tensors(scratch.path / "x.npy").tensors[0].second;
    };
    CHECK(npy("|u1", "\1\2\3\xff").to_vector<int32_t>() == std::vector<int32_t>{1, 2, 3, 255});
    CHECK(npy("|u1", "\1\2\3\xff", true).to_vector<int32_t>() ==
          std::vector<int32_t>{1, 3, 2, 255});
    CHECK(npy(">i2", "\0\1\0\2\0\3\xff\xff"s).to_vector<int32_t>() ==
          std::vector<int32_t>{1, 2, 3, -1});
    CHECK(npy("<u4", std::string(16, '\xff')).item<int64_t>({0, 0}) == 4294967295);
    CHECK(npy("<f2", std::string(8, '\0')).dtype() == DType::f16);
    CHECK_THROWS_AS(npy("<u8", std::string(32, '\0')), Error);
    CHECK_THROWS_AS(npy("|b1", "\1\0\2\0"s), Error);

    const std::string header = R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})";
    write_file_bytes(scratch.path / "x.safetensors",
                     raw_bytes(static_cast<uint64_t>(header.size())) + header + "\x07\xff");
    CHECK(load_tensors(scratch.path / "x.safetensors").tensors[0].second.to_vector<int32_t>() ==
          std::vector<int32_t>{7, 255});
}

TEST_CASE("element layouts: extents") {
    using L = ElementLayout;
    CHECK(L::contiguous({2, 3}).extent()->end == 6);
    CHECK(L::contiguous({}).extent()->count == 1);
    CHECK(L::contiguous({4, 0}).extent()->end == 0);
    CHECK(L{{2, 2}, {0, 5}, 3}.extent()->end == 9);
    CHECK_FALSE(L{{2}, {1, 1}, 0}.extent());
    CHECK_FALSE(L{{2}, {-1}, 0}.extent());
    CHECK_FALSE(L{{-2}, {1}, 0}.extent());
    CHECK_FALSE(L{{2}, {1}, -1}.extent());
    CHECK_FALSE(L{{2}, {INT64_MAX}, 2}.extent());
    CHECK_FALSE(L{{INT64_MAX, 3}, {0, 0}, 0}.extent());
    CHECK_FALSE(L{{0, INT64_MAX, 3}, {0, 0, 0}, 0}.extent());
    CHECK_FALSE(L{{}, {}, INT64_MAX}.extent());
    CHECK_FALSE(L::contiguous({0, INT64_MAX, INT64_MAX}).extent());
    CHECK(L{{1, 3}, {77, 1}, 0}.is_contiguous());
    CHECK_FALSE(L{{3, 1}, {2, 1}, 0}.is_contiguous());
}
