#include "tensor/formats/pytorch.h"

#include <doctest/doctest.h>

#include <cmath>

#include "kernels/error.h"
#include "tests/error_of.h"
#include "tests/tensor/formats/pickle_bytes.h"
#include "tests/test_paths.h"

using namespace mc;
using namespace mc::testing;
using namespace std::string_literals;

using mc::testing::contains;

namespace {

// Opens the file and makes all its tensors; the error, or "".
std::string error_of(const std::filesystem::path& path, const PyTorchOptions& options = {}) {
    try {
        const PyTorchFile file(path, options);
        for (const auto& [name, value] : file.tensors()) file.tensor(value);
    } catch (const Error& e) {
        const std::string what = e.what();
        CHECK(what.find(path.filename().string()) != std::string::npos);
        CHECK(what.find('\n') == std::string::npos);
        return what;
    }
    return "";
}

// The same of a zip with this value.
std::string zip_error(const std::string& value, const std::vector<std::string>& storages,
                      const Members& more = {}) {
    ScratchDir scratch;
    write_torch_zip(scratch.path / "x.pt", value, storages, more);
    return error_of(scratch.path / "x.pt");
}

std::string legacy_error(const std::string& bytes) {
    ScratchDir scratch;
    write_file_bytes(scratch.path / "x.tar", bytes);
    return error_of(scratch.path / "x.tar");
}

const std::string kOneStorage = py::storage("FloatStorage", "0", 6);

std::string tensor(int32_t offset, const std::vector<int32_t>& shape,
                   const std::vector<int32_t>& strides) {
    return py::tensor_of(kOneStorage, offset, shape, strides);
}

const std::string kSix = floats({0, 1, 2, 3, 4, 5});

std::vector<float> values(const PyTorchFile& file, const char* name) {
    return file.tensor(file.root().at(name)).to_vector<float>();
}

}  // namespace

TEST_CASE("PyTorch zip: views, strides and shared storages") {
    ScratchDir scratch;
    write_torch_zip(scratch.path / "x.pt",
                    py::dict({{py::text("whole"), tensor(0, {2, 3}, {3, 1})},
                              {py::text("tail"), tensor(4, {2}, {1})},
                              {py::text("turned"), tensor(0, {3, 2}, {1, 3})},
                              {py::text("spread"), tensor(1, {2, 3}, {0, 2})},
                              {py::text("one"), tensor(5, {}, {})},
                              {py::text("none"), tensor(6, {0, 4}, {4, 1})},
                              {py::text("ep"), "K\7"}}),
                    {kSix});
    const PyTorchFile file(scratch.path / "x.pt");
    CHECK(file.kind() == PyTorchKind::zip);
    CHECK(file.root().at("ep").as_int() == 7);
    using F = std::vector<float>;
    CHECK(values(file, "whole") == F{0, 1, 2, 3, 4, 5});
    CHECK(values(file, "tail") == F{4, 5});
    CHECK(values(file, "turned") == F{0, 3, 1, 4, 2, 5});
    CHECK(values(file, "spread") == F{1, 3, 5, 1, 3, 5});
    CHECK(values(file, "one") == F{5});
    CHECK(values(file, "none").empty());
    CHECK(file.tensor(file.root().at("turned")).shape() == Shape{3, 2});
    CHECK(file.info(file.root().at("turned")).layout.strides == std::vector<int64_t>{1, 3});
    CHECK(file.tensors().size() == 6);
    CHECK(file.tensors()[1].first == "tail");
    CHECK_THROWS_AS(file.tensor(file.root().at("ep")), Error);
    // Contiguous ones lie in the mapped file, which they keep alive.
    CHECK(file.tensor(file.root().at("whole")).storage()->owner != nullptr);
    CHECK(file.tensor(file.root().at("turned")).storage()->owner == nullptr);
    const Tensor kept = PyTorchFile(scratch.path / "x.pt").tensor(file.root().at("whole"));
    CHECK(kept.to_vector<float>() == F{0, 1, 2, 3, 4, 5});
}

TEST_CASE("PyTorch zip: every element type, and deflated and big-endian storages") {
    ScratchDir scratch;
    const auto check = [&](const std::string& type, const std::string& bytes, DType dtype,
                           double first, double second, Members more = {}) {
        CAPTURE(type);
        write_torch_zip(scratch.path / "x.pt",
                        py::tensor_of(py::storage(type, "0", 2), 0, {2}, {1}), {bytes}, more);
        const PyTorchFile file(scratch.path / "x.pt");
        const Tensor t = file.tensor(file.root());
        CHECK(t.dtype() == dtype);
        const Tensor wide = t.to(DType::f64);
        CHECK(wide.item<double>({0}) == first);
        CHECK(wide.item<double>({1}) == second);
        CHECK(file.tensors()[0].first == "");
    };
    check("FloatStorage", raw_bytes(1.5f) + raw_bytes(-2.f), DType::f32, 1.5, -2);
    check("DoubleStorage", raw_bytes(1.5) + raw_bytes(-2.), DType::f64, 1.5, -2);
    check("HalfStorage", "\x00\x3e\x00\xc0"s, DType::f16, 1.5, -2);
    check("BFloat16Storage", "\xc0\x3f\x00\xc0"s, DType::bf16, 1.5, -2);
    check("LongStorage", raw_bytes(int64_t{1} << 40) + raw_bytes(int64_t{-1}), DType::i64,
          1099511627776., -1);
    check("IntStorage", raw_bytes(70000) + raw_bytes(-1), DType::i32, 70000, -1);
    check("ShortStorage", raw_bytes(int16_t{300}) + raw_bytes(int16_t{-300}), DType::i32, 300,
          -300);
    check("CharStorage", "\x7f\x80", DType::i32, 127, -128);
    check("ByteStorage", "\x7f\x80", DType::i32, 127, 128);
    check("BoolStorage", "\x01\x00"s, DType::boolean, 1, 0);
    check("FloatStorage", "\x3f\xc0\x00\x00\xc0\x00\x00\x00"s, DType::f32, 1.5, -2,
          {{"x/byteorder", "big"}});
    check("FloatStorage", raw_bytes(1.5f) + raw_bytes(-2.f), DType::f32, 1.5, -2,
          {{"x/byteorder", "little"}, {"x/.data/serialization_id", "1"}});
    CHECK(contains(zip_error(tensor(0, {6}, {1}), {kSix}, {{"x/byteorder", "pdp"}}),
                   "byteorder says 'pdp'"));
    CHECK(contains(
        zip_error(py::tensor_of(py::storage("BoolStorage", "0", 2), 0, {2}, {1}), {"\x01\x02"}),
        "element 1 is neither 0 nor 1"));

    write_zip(scratch.path / "y.pt",
              {{"y/data.pkl",
                py::pickle(py::tensor_of(py::storage("FloatStorage", "0", 1000), 500, {2}, {1}))},
               {"y/data/0", std::string(4000, '\0')}},
              true);
    const PyTorchFile deflated(scratch.path / "y.pt");
    CHECK(deflated.zip()->find("y/data/0")->method == 8);
    CHECK(deflated.tensor(deflated.root()).to_vector<float>() == std::vector<float>{0, 0});
}

TEST_CASE("PyTorch zip: newer layouts and parameters") {
    ScratchDir scratch;
    const std::string untyped = "(" + py::text("storage") +
                                py::global("torch.storage", "UntypedStorage") + py::text("0") +
                                py::text("cpu") + py::integer(24) + "tQ";
    const auto v3 = [&](const std::string& dtype, int32_t size) {
        return py::global("torch._utils", "_rebuild_tensor_v3") + "(" + untyped + py::integer(0) +
               py::integers({size}) + py::integers({1}) + "\x89" +
               py::global("collections", "OrderedDict") + ")R" + py::global("torch", dtype) + "}tR";
    };
    write_torch_zip(
        scratch.path / "x.pt",
        py::dict({{py::text("f"), v3("float32", 6)}, {py::text("s"), v3("uint16", 12)}}), {kSix});
    const PyTorchFile file(scratch.path / "x.pt");
    CHECK(values(file, "f") == std::vector<float>{0, 1, 2, 3, 4, 5});
    CHECK(file.tensor(file.root().at("s")).item<int32_t>({3}) == 0x3f80);
    CHECK(contains(zip_error(v3("float32", 7), {kSix}), "reaches element 6"));
    CHECK(contains(zip_error(v3("strided", 1), {kSix}), "unknown element type"));

    write_torch_zip(
        scratch.path / "p.pt",
        py::dict({{py::text("p"), py::global("torch._utils", "_rebuild_parameter") + "(" +
                                      tensor(0, {6}, {1}) + "\x88" +
                                      py::global("collections", "OrderedDict") + ")RtR"},
                  {py::text("t"), tensor(0, {6}, {1})}}),
        {kSix});
    const PyTorchFile parameters(scratch.path / "p.pt");
    CHECK(parameters.info(parameters.root().at("p")).parameter);
    CHECK(parameters.info(parameters.root().at("p")).requires_grad);
    CHECK_FALSE(parameters.info(parameters.root().at("t")).parameter);
}

TEST_CASE("PyTorch legacy: storages, views of storages, and files that do not fit") {
    ScratchDir scratch;
    const std::string none = "N", view = py::text("v") + py::integer(2) + py::integer(3) + "\x87";
    const std::string value = py::dict(
        {{py::text("a"),
          py::tensor_of(py::storage("FloatStorage", "70", 6, none), 0, {2, 3}, {3, 1})},
         {py::text("v"), py::tensor_of(py::storage("FloatStorage", "70", 6, view), 1, {2}, {1})},
         {py::text("b"), py::tensor_of(py::storage("LongStorage", "71", 1, none), 0, {}, {})}});
    const std::string b = raw_bytes(int64_t{-7});
    const std::string good = legacy_file(value, {{"71", 1, b}, {"70", 6, kSix}});
    write_file_bytes(scratch.path / "x.tar", good);
    const PyTorchFile file(scratch.path / "x.tar");
    CHECK(file.kind() == PyTorchKind::legacy);
    CHECK(values(file, "a") == std::vector<float>{0, 1, 2, 3, 4, 5});
    CHECK(values(file, "v") == std::vector<float>{3, 4});
    CHECK(file.tensor(file.root().at("b")).item<int64_t>() == -7);

    for (size_t cut = 0; cut < good.size(); ++cut)
        CHECK_FALSE(legacy_error(good.substr(0, cut)).empty());
    CHECK(contains(legacy_error(good + "x"), "1 bytes after the last storage"));
    const auto with = [&](const std::vector<LegacyStorage>& storages) {
        return legacy_error(legacy_file(value, storages));
    };
    CHECK(contains(with({{"71", 1, b}}), "'70' is not among its storages"));
    CHECK(
        contains(with({{"71", 1, b}, {"70", 6, kSix}, {"72", 1, b}}), "'72' belongs to no tensor"));
    CHECK(contains(with({{"71", 1, b}, {"71", 1, b}}), "listed twice"));
    CHECK(contains(with({{"71", 1, b}, {"70", 5, kSix}}), "has 5 elements, its tensors want 6"));
    CHECK(contains(with({{"71", 1, b}, {"70", -1, kSix}}), "has -1 elements"));
    CHECK(contains(with({{"71", 1, b}, {"70", INT64_MAX, kSix}}), "elements"));
    CHECK(contains(with({{"71", 1, b}, {"70", 6, "short"}}), "runs out of the file"));
    const std::string beyond = py::text("v") + py::integer(4) + py::integer(3) + "\x87";
    CHECK(contains(legacy_error(legacy_file(
                       py::tensor_of(py::storage("FloatStorage", "70", 6, beyond), 0, {3}, {1}),
                       {{"70", 6, kSix}})),
                   "a view outside storage '70'"));
    const std::string narrow = py::text("v") + py::integer(2) + py::integer(2) + "\x87";
    CHECK(contains(legacy_error(legacy_file(
                       py::tensor_of(py::storage("FloatStorage", "70", 6, narrow), 0, {3}, {1}),
                       {{"70", 6, kSix}})),
                   "reaches element 2 of storage '70', which has 2"));

    const std::string swapped =
        legacy_head(false) +
        py::pickle(py::tensor_of(py::storage("FloatStorage", "9", 1, none), 0, {1}, {1})) +
        py::pickle("]" + py::text("9") + "a") + "\0\0\0\0\0\0\0\1\x3f\xc0\0\0"s;
    write_file_bytes(scratch.path / "big.tar", swapped);
    const PyTorchFile big(scratch.path / "big.tar");
    CHECK(big.tensor(big.root()).item<float>() == 1.5f);

    CHECK(contains(legacy_error(py::pickle("N")), "not one of PyTorch's"));
    CHECK(contains(legacy_error(legacy_head().substr(0, 15) + py::pickle(py::integer(1000))),
                   "another version"));
    CHECK(contains(legacy_error(std::string(257, '\0') + "ustar" + std::string(300, '\0')),
                   "before 2017"));
    CHECK(contains(legacy_error(""), "not a PyTorch file"));
    CHECK(contains(legacy_error("hello"), "not a PyTorch file"));
}

TEST_CASE("PyTorch: tensors that do not fit their storages are refused") {
    const auto refused = [&](const std::string& value, const std::string& part) {
        return contains(zip_error(value, {kSix}), part);
    };
    CHECK(refused(tensor(0, {7}, {1}), "reaches element 6 of storage '0', which has 6"));
    CHECK(refused(tensor(1, {2, 3}, {3, 1}), "reaches element 6"));
    CHECK(refused(tensor(0, {2, 2}, {5, 1}), "reaches element 6"));
    CHECK(refused(tensor(7, {}, {}), "reaches element 7"));
    CHECK(refused(tensor(-1, {2}, {1}), "a tensor without a storage, an offset"));
    CHECK(refused(tensor(0, {-2}, {1}), "size that is no count"));
    CHECK(refused(tensor(0, {2}, {-1}), "stride that is no count"));
    CHECK(refused(tensor(0, {2, 3}, {1}), "more sizes than strides"));
    CHECK(refused(tensor(0, std::vector<int32_t>(17, 1), std::vector<int32_t>(17, 1)),
                  "17 dimensions"));
    CHECK(refused(tensor(0, std::vector<int32_t>(9, 1), std::vector<int32_t>(9, 1)),
                  "9 dimensions, at most 8"));
    CHECK(refused(tensor(0, std::vector<int32_t>(5, 1 << 30), std::vector<int32_t>(5, 0)),
                  "size overflows"));
    CHECK(refused(tensor(0, {1 << 30, 1000}, {0, 0}), "its tensors would take more than"));
    std::string many = "](";
    for (int i = 0; i < 100; ++i) many += tensor(0, {1 << 26}, {0});
    CHECK(refused(many + "e", "its tensors would take more than"));
    const auto rebuild = [](const std::string& arguments) {
        return py::global("torch._utils", "_rebuild_tensor_v2") + "(" + arguments + "tR";
    };
    CHECK(refused(rebuild(""), "without a storage"));
    CHECK(refused(rebuild("K\1K\1))"), "without a storage"));
    CHECK(refused(rebuild(kOneStorage + "N))"), "without a storage"));
    CHECK(refused(rebuild(kOneStorage + "K\0K\1)"s), "whose size is a int"));
    CHECK(refused(rebuild(kOneStorage + "K\0K\1\x85N"s), "whose stride is a NoneType"));
    CHECK(refused(py::global("torch._utils", "_rebuild_parameter") + "N\x85R",
                  "a parameter without a tensor"));

    const auto storage = [&](const std::string& parts, const std::string& part) {
        return refused("(" + parts + "tQ", part);
    };
    const std::string head = py::text("storage") + py::global("torch", "FloatStorage");
    CHECK(storage(py::text("module"), "other than a storage"));
    CHECK(storage("K\1K\2K\3K\4K\5", "other than a storage"));
    CHECK(storage(head + py::text("0") + py::text("cpu") + "K\6NN", "other than a storage"));
    CHECK(
        storage(head + py::text("0") + py::text("cpu") + py::integer(-6), "other than a storage"));
    CHECK(storage(head + "N" + py::text("cpu") + "K\6", "without a key"));
    CHECK(
        storage(head + py::text(std::string(300, '7')) + py::text("cpu") + "K\6", "without a key"));
    CHECK(
        storage(head + py::text("0") + py::text("cpu") + "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f",
                "overflows"));
    CHECK(storage(py::text("storage") + py::global("torch", "device") + py::text("0") +
                      py::text("cpu") + "K\6",
                  "a storage of class torch.device"));
    CHECK(refused("N" + py::text("id") + "Q\x86", "other than a storage"));
    CHECK(refused("](" + kOneStorage + py::storage("FloatStorage", "0", 5) + "e",
                  "and torch.FloatStorage of 24 bytes before"));
    CHECK(refused("](" + kOneStorage + py::storage("IntStorage", "0", 6) + "e",
                  "is torch.IntStorage of 24 bytes here"));
}

TEST_CASE("PyTorch zip: members that are missing, of another size, damaged") {
    CHECK(contains(zip_error(tensor(0, {6}, {1}), {}), "member x/data/0 is missing"));
    CHECK(contains(zip_error(tensor(0, {6}, {1}), {kSix + "more"}),
                   "x/data/0 has 28 bytes, its tensors want 24"));
    CHECK(contains(zip_error(tensor(0, {6}, {1}), {"short"}), "has 5 bytes"));
    CHECK(contains(zip_error(tensor(0, {6}, {1}), {kSix}, {{"y/data.pkl", "x"}}), "two members"));
    CHECK(contains(zip_error("N.N", {}), "2 bytes after the end"));
    ScratchDir scratch;
    const auto path = scratch.path / "x.pt";
    write_zip(path, {{"a.txt", "hello"}});
    CHECK(contains(error_of(path), "without FOLDER/data.pkl"));
    write_zip(path, {{"data.pkl", py::pickle("N")}});
    CHECK(contains(error_of(path), "without FOLDER/data.pkl"));

    write_torch_zip(path, tensor(0, {6}, {1}), {kSix});
    std::string bytes = file_bytes(path);
    bytes[bytes.find(kSix)] ^= 1;
    write_file_bytes(path, bytes);
    CHECK(contains(error_of(path), "'x/data/0': checksum differs"));
    PyTorchOptions unchecked;
    unchecked.checksums = PyTorchOptions::Checksums::never;
    CHECK(error_of(path, unchecked).empty());
}

TEST_CASE("PyTorch zip: every truncation is refused, and no changed bit crashes the reader") {
    ScratchDir scratch;
    const auto path = scratch.path / "x.pt";
    write_torch_zip(
        path,
        py::dict({{py::text("net"), py::dict({{py::text("w"), tensor(0, {2, 3}, {3, 1})},
                                              {py::text("b"), tensor(1, {2}, {2})}})},
                  {py::text("ep"), "K\7"}}),
        {kSix});
    const std::string good = file_bytes(path);
    REQUIRE(error_of(path).empty());
    for (size_t cut = 0; cut < good.size(); ++cut) {
        write_file_bytes(path, good.substr(0, cut));
        CHECK_FALSE(error_of(path).empty());
    }
    for (size_t i = 0; i < good.size(); ++i)
        for (const char flip : {'\x01', '\x10', '\x80', '\xff'}) {
            std::string bytes = good;
            bytes[i] = static_cast<char>(bytes[i] ^ flip);
            write_file_bytes(path, bytes);
            error_of(path);  // checks its own form
        }
}

TEST_CASE("TorchScript: the attributes of modules are the state dict") {
    ScratchDir scratch;
    const auto object = [](const std::string& type, const std::string& state) {
        return py::global("__torch__.net", type) + ")\x81" + state + "b";
    };
    const std::string linear =
        object("Linear", py::dict({{py::text("weight"), tensor(0, {2, 3}, {3, 1})},
                                   {py::text("training"), "\x88"}}));
    const std::string root = object(
        "Net", py::dict({{py::text("scale"), tensor(5, {}, {})},
                         {py::text("0"), linear},
                         {py::text("sizes"),
                          py::global("torch.jit._pickle", "build_intlist") + "](K\1K\2e\x85R"}}));
    write_torch_zip(scratch.path / "x.pt", root, {kSix},
                    {{"x/constants.pkl", py::pickle(")")}, {"x/code/__torch__/net.py", "evil()"}});
    const PyTorchFile file(scratch.path / "x.pt");
    CHECK(file.kind() == PyTorchKind::script);
    const auto found = file.tensors();
    REQUIRE(found.size() == 2);
    CHECK(found[0].first == "scale");
    CHECK(found[1].first == "0.weight");
    CHECK(file.root().at("0").at("training").as_bool());
    CHECK(file.root().at("sizes").item(1).as_int() == 2);
}

TEST_CASE("PyTorch: names of tensors") {
    ScratchDir scratch;
    const std::string t = tensor(0, {6}, {1});
    write_torch_zip(
        scratch.path / "x.pt",
        py::dict({{py::text("state"), py::dict({{"K\0"s, py::dict({{py::text("m"), t}})}})},
                  {py::text("list"), "](" + t + t + "e"},
                  {"K\1K\2\x86", "]" + t + "a"}}),
        {kSix});
    const PyTorchFile file(scratch.path / "x.pt");
    std::vector<std::string> skipped;
    const auto found = file.tensors(file.root(), &skipped);
    REQUIRE(found.size() == 3);
    CHECK(found[0].first == "state.0.m");
    CHECK(found[1].first == "list.0");
    CHECK(found[2].first == "list.1");
    CHECK(skipped == std::vector<std::string>{"(1, 2)"});
    CHECK(contains(
        zip_error(py::dict({{py::text("a.b"), t}, {py::text("a"), py::dict({{py::text("b"), t}})}}),
                  {kSix}),
        "two tensors are called 'a.b'"));
    // Shared values count each time they are met: a doubling forty times over is given up.
    std::string doubling = "]" + t + "a";
    for (int i = 0; i < 40; ++i) doubling += "2\x86";
    CHECK(contains(zip_error(doubling, {kSix}), "too many to walk"));
}

TEST_CASE("PyTorch: NumPy arrays and numbers inside") {
    ScratchDir scratch;
    const auto dtype = [](const std::string& name, const std::string& order) {
        return py::global("numpy", "dtype") + py::text(name) + "\x89\x88\x87R(K\3" +
               py::text(order) + "NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"s;
    };
    const auto array = [&](const std::string& type, const std::string& shape, const char* fortran,
                           const std::string& bytes) {
        return py::global("numpy.core.multiarray", "_reconstruct") +
               py::global("numpy", "ndarray") + "K\0\x85"s + "C\1b\x87R(K\1" + shape + type +
               fortran + "C" + static_cast<char>(bytes.size()) + bytes + "tb";
    };
    const auto scalar = [&](const std::string& type, const std::string& bytes) {
        return py::global("numpy.core.multiarray", "scalar") + type + "C" +
               static_cast<char>(bytes.size()) + bytes + "\x86R";
    };
    write_torch_zip(
        scratch.path / "x.pt",
        py::dict({{py::text("mean"), array(dtype("f4", "<"), "K\2K\3\x86", "\x89", kSix)},
                  {py::text("turned"), array(dtype("f4", "<"), "K\2K\3\x86", "\x88", kSix)},
                  {py::text("big"), array(dtype("i2", ">"), "K\1\x85", "\x89", "\1\2")},
                  {py::text("names"), array(dtype("U4", "<"), "K\1\x85", "\x89", "abcd")},
                  {py::text("best"), scalar(dtype("f8", "<"), raw_bytes(0.25))},
                  {py::text("n"), scalar(dtype("i8", "<"), raw_bytes(int64_t{4}))},
                  {py::text("ok"), scalar(dtype("b1", "|"), "\1")}}),
        {});
    const PyTorchFile file(scratch.path / "x.pt");
    using F = std::vector<float>;
    CHECK(values(file, "mean") == F{0, 1, 2, 3, 4, 5});
    CHECK(values(file, "turned") == F{0, 2, 4, 1, 3, 5});
    CHECK(file.tensor(file.root().at("big")).item<int32_t>() == 258);
    CHECK(file.root().at("names").is(PyKind::object));
    CHECK(file.root().at("best").as_real() == 0.25);
    CHECK(file.root().at("best").type() == "numpy.float64");
    CHECK(file.root().at("n").as_int() == 4);
    CHECK(file.root().at("ok").as_bool());
    CHECK(contains(zip_error(array(dtype("f4", "<"), "K\7\x85", "\x89", kSix), {}),
                   "an array of 24 bytes"));
    CHECK(contains(zip_error(array(dtype("f4", "<"), "K\6\x85", "\x89", kSix + "x"), {}),
                   "an array of 25 bytes"));
    CHECK(contains(zip_error(scalar(dtype("f8", "<"), "abc"), {}), "of another size"));
}

TEST_CASE("PyTorch: what is written is read back") {
    ScratchDir scratch;
    const auto path = scratch.path / "out.pt";
    const Tensor w = Tensor::from({1, 2, 3, 4, 5, 6}, {2, 3});
    const Tensor half = Tensor::full({3}, 1.5).to(DType::f16);
    const Tensor mask = Tensor::from_bools({1, 0}, {2});
    const NamedTensors state = {{"w", w},
                                {"tied", w},
                                {"turned", w.transpose(0, 1)},
                                {"half", half},
                                {"brain", Tensor::full({2}, -2).to(DType::bf16)},
                                {"double", Tensor::full({}, 0.1, DType::f64)},
                                {"ids", Tensor::from_ids({-1, INT64_MAX}, {2, 1})},
                                {"int", Tensor::full({2}, -7, DType::i32)},
                                {"mask", mask},
                                {"none", Tensor::empty({0, 5})}};
    write_pytorch(path, state);
    const PyTorchFile file(path);
    CHECK(file.root().type() == "collections.OrderedDict");
    CHECK(file.zip()->entries().size() == 3 + 9);  // the tied one once
    for (const auto& [name, want] : state) {
        CAPTURE(name);
        const Tensor got = file.tensor(file.root().at(name));
        CHECK(got.dtype() == want.dtype());
        CHECK(got.shape() == want.shape());
        const Tensor flat = want.contiguous();
        CHECK(std::memcmp(got.raw(), flat.raw(),
                          static_cast<size_t>(want.numel()) * size_of(want.dtype())) == 0);
        if (want.numel() > 0) CHECK(got.storage()->owner != nullptr);  // aligned
    }
    for (const ZipEntry& entry : file.zip()->entries()) {
        CHECK(entry.method == 0);
        CHECK(file.zip()->data_offset(entry) % 64 == 0);
    }

    write_pytorch(path, {{"net", NamedTensors{{"w", w}}},
                         {"mean", w},
                         {"ep", int64_t{49}},
                         {"far", int64_t{1} << 40},
                         {"lr", 2e-4},
                         {"name", std::string("naïve")},
                         {"done", true}});
    const PyTorchFile wrapped(path);
    CHECK(wrapped.root().type() == "dict");
    CHECK(wrapped.root().at("ep").as_int() == 49);
    CHECK(wrapped.root().at("far").as_int() == int64_t{1} << 40);
    CHECK(wrapped.root().at("lr").as_real() == 2e-4);
    CHECK(wrapped.root().at("name").as_text() == "naïve");
    CHECK(wrapped.root().at("done").as_bool());
    CHECK(wrapped.tensors()[0].first == "net.w");

    const std::string before = file_bytes(path);
    CHECK_THROWS_AS(write_pytorch(path, NamedTensors{{"a", w}, {"a", w}}), Error);
    CHECK_THROWS_AS(write_pytorch(path, NamedTensors{{"a", Tensor()}}), Error);
    CHECK_THROWS_AS(write_pytorch(path, NamedTensors{{"\xff", w}}), Error);
    CHECK_THROWS_AS(write_pytorch(scratch.path / "none" / "x.pt", state), Error);
    CHECK(file_bytes(path) == before);
}
