#include "tensor/formats/pickle.h"

#include <doctest/doctest.h>

#include "kernels/error.h"
#include "tests/tensor/formats/pickle_bytes.h"

using namespace mc;
using namespace mc::testing;

using namespace std::string_literals;

namespace {

std::span<const std::byte> as_span(const std::string& s) {
    return std::as_bytes(std::span(s));
}

PyValue parse(const std::string& bytes, bool keep_unknown = false) {
    PickleTree::Options options;
    options.keep_unknown = keep_unknown;
    const auto tree = PickleTree::parse(as_span(bytes), "x.pt", options);
    return {tree, tree->root()};
}

// The value that these opcodes leave, as Python prints it.
std::string value_of(const std::string& opcodes) {
    return parse(py::pickle(opcodes)).repr(200);
}

std::string error_of(const std::string& bytes, bool keep_unknown = false) {
    try {
        parse(bytes, keep_unknown);
    } catch (const Error& e) {
        const std::string what = e.what();
        CHECK(what.starts_with("x.pt: "));
        CHECK(what.find('\n') == std::string::npos);
        return what;
    }
    return "";
}

bool refused(const std::string& opcodes, const std::string& part) {
    const std::string what = error_of(py::pickle(opcodes));
    INFO(what);
    return what.find(part) != std::string::npos;
}

std::string s(std::string_view bytes) {
    return std::string(bytes);
}

std::string repeat(const std::string& part, int count) {
    std::string all;
    for (int i = 0; i < count; ++i) all += part;
    return all;
}

}  // namespace

TEST_CASE("pickle: scalars of every opcode") {
    CHECK(value_of("N") == "None");
    CHECK(value_of("\x88") == "True");
    CHECK(value_of("\x89") == "False");
    CHECK(value_of("I01\n") == "True");
    CHECK(value_of("I-12\n") == "-12");
    CHECK(value_of("L12L\n") == "12");
    CHECK(value_of("K\xff") == "255");
    CHECK(value_of("M\xff\xff") == "65535");
    CHECK(value_of("J\xff\xff\xff\xff") == "-1");
    CHECK(value_of(s({"\x8a\x00", 2})) == "0");
    CHECK(value_of("\x8a\x01\xff") == "-1");
    CHECK(value_of(s({"\x8a\x02\xff\x00", 4})) == "255");
    CHECK(value_of(s({"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x40", 11})) ==
          "1180591620717411303424");
    CHECK(value_of(s({"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x80\xff", 11})) ==
          "-9223372036854775808");
    CHECK(value_of(s({"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x80\x00", 11})) ==
          "9223372036854775808");
    CHECK(value_of(s({"\x8b\x01\x00\x00\x00\x07", 6})) == "7");
    CHECK(value_of("F2.5\n") == "2.5");
    CHECK(value_of(s({"G\x3f\xb9\x99\x99\x99\x99\x99\x9a", 9})) == "0.1");
    CHECK(value_of(py::text("naïve – 走")) == "'naïve – 走'");
    CHECK(value_of("\x8c\x02hi") == "'hi'");
    CHECK(value_of(s({"\x8d\x02\0\0\0\0\0\0\0hi", 11})) == "'hi'");
    CHECK(value_of("Vhi\n") == "'hi'");
    CHECK(value_of("S'hi'\n") == "'hi'");
    CHECK(value_of("U\x02\xe9!") == "'é!'");
    CHECK(value_of(s({"T\x01\0\0\0\xe9", 6})) == "'é'");
    CHECK(value_of("C\x03"
                   "abc") == "<3 bytes>");
    CHECK(value_of(s({"B\x03\0\0\0abc", 8})) == "<3 bytes>");
    CHECK(value_of(s({"\x8e\x03\0\0\0\0\0\0\0abc", 12})) == "<3 bytes>");
    CHECK(value_of(s({"\x96\x03\0\0\0\0\0\0\0abc", 12})) == "<3 bytes>");
    CHECK(value_of(s({"\x95\x01\0\0\0\0\0\0\0N", 10})) == "None");
}

TEST_CASE("pickle: containers of every opcode") {
    CHECK(value_of(")") == "()");
    CHECK(value_of("K\1\x85") == "(1,)");
    CHECK(value_of("K\1K\2\x86") == "(1, 2)");
    CHECK(value_of("K\1K\2K\3\x87") == "(1, 2, 3)");
    CHECK(value_of("(K\1K\2t") == "(1, 2)");
    CHECK(value_of("(K\1l") == "[1]");
    CHECK(value_of("]K\1a(K\2K\3e") == "[1, 2, 3]");
    CHECK(value_of("(K\1K\2d") == "{1: 2}");
    CHECK(value_of("}K\1K\2s(K\3K\4u") == "{1: 2, 3: 4}");
    CHECK(value_of("}K\1K\2sK\1K\7sK\5K\6s") == "{1: 7, 5: 6}");  // the last value, the first place
    CHECK(value_of("\x8f(K\1K\2K\1\x90") == "{1, 2}");
    CHECK(value_of("(K\1\x91") == "{1}");
    CHECK(value_of("K\1K\2"
                   "0") == "1");
    CHECK(value_of("K\1(K\2K\3"
                   "1") == "1");
    CHECK(value_of("K\1(0") == "1");  // POP of a mark
    CHECK(value_of("K\1"
                   "2\x86") == "(1, 1)");
    CHECK(value_of("]q\0"
                   "0h\0"s) == "[]");
    CHECK(value_of("]\x94"
                   "0h\0"s) == "[]");
    CHECK(value_of("]r\1\2\3\4"
                   "0j\1\2\3\4") == "[]");
    CHECK(value_of("]p77\n0g77\n") == "[]");
}

TEST_CASE("pickle: names make containers and inert objects, and nothing else") {
    const PyValue ordered =
        parse(py::pickle(py::global("collections", "OrderedDict") + ")R(" + py::text("a") +
                         "K\1u}" + py::text("_metadata") + "Nsb"));
    CHECK(ordered.is(PyKind::dict));
    CHECK(ordered.type() == "collections.OrderedDict");
    CHECK(ordered.at("a").as_int() == 1);
    CHECK(ordered.size() == 1);
    CHECK(value_of(py::global("collections", "Counter") + "}K\1K\2s\x85R") == "{1: 2}");
    CHECK(value_of(py::global("collections", "OrderedDict") + "](]K\1aK\2ae\x85R") == "{1: 2}");
    CHECK(value_of(py::global("collections", "defaultdict") + py::global("builtins", "list") +
                   "\x85RK\1K\2s") == "{1: 2}");
    CHECK(value_of(py::global("__builtin__", "set") + "](K\1K\1e\x85R") == "{1}");
    CHECK(value_of(py::global("builtins", "tuple") + "](K\1K\1e\x85R") == "(1, 1)");
    CHECK(value_of(py::global("torch", "Size") + "K\1K\2\x86\x85R") == "(1, 2)");
    CHECK(value_of(py::global("torch.jit._pickle", "build_intlist") + "](K\1e\x85R") == "[1]");
    CHECK(parse(py::pickle(py::global("_codecs", "encode") + py::text("é") + py::text("latin1") +
                           "\x86R"))
              .as_bytes() == "\xe9");

    const PyValue space = parse(
        py::pickle(py::global("argparse", "Namespace") + ")\x81}" + py::text("lr") + "K\3sb"));
    CHECK(space.type() == "argparse.Namespace");
    CHECK(space.at("lr").as_int() == 3);

    const PyValue module = parse(
        py::pickle(py::global("__torch__.clip", "CLIP") + ")\x81}" + py::text("width") + "K\5sb"));
    CHECK(module.is(PyKind::object));
    CHECK(module.type() == "__torch__.clip.CLIP");
    CHECK(module.size() == 1);
    CHECK(module.key(0).as_text() == "width");
    CHECK(module.find("width").as_int() == 5);

    const PyValue device =
        parse(py::pickle(py::global("torch", "device") + py::text("cuda") + "\x85R"));
    CHECK(device.is(PyKind::object));
    CHECK(device.size() == 0);
    CHECK(device.repr() == "torch.device('cuda',)");
    CHECK(value_of("\x8c\x05torch\x8c\x07"
                   "float32\x93") == "torch.float32");
    CHECK(parse(py::pickle(py::text("id") + "Q")).is(PyKind::persistent));
    CHECK(parse(py::pickle("Pid\n")).is(PyKind::persistent));
}

TEST_CASE("pickle: names that are not on the list are refused, each in one line") {
    const auto named = [](const std::string& module, const std::string& name) {
        return error_of(py::pickle(py::global(module, name) + py::text("true") + "\x85R"));
    };
    for (const auto& [module, name] :
         std::vector<std::pair<std::string, std::string>>{{"os", "system"},
                                                          {"posix", "system"},
                                                          {"builtins", "eval"},
                                                          {"builtins", "exec"},
                                                          {"builtins", "getattr"},
                                                          {"__builtin__", "__import__"},
                                                          {"subprocess", "Popen"},
                                                          {"torch", "load"},
                                                          {"torch.hub", "load"},
                                                          {"torch._utils", "_rebuild_qtensor"},
                                                          {"torch", "ComplexFloatStorage"},
                                                          {"torch", "QInt8Storage"},
                                                          {"torch.storage", "_load_from_bytes"},
                                                          {"collections", "namedtuple"},
                                                          {"numpy", "load"},
                                                          {"__torch", "x"},
                                                          {"pickle", "loads"},
                                                          {"argparse", "ArgumentParser"},
                                                          {"", ""}}) {
        const std::string what = named(module, name);
        INFO(what);
        CHECK(what.find("names " + module + "." + name) != std::string::npos);
    }
    CHECK(named("os", "system").find("byte 2: names os.system, which runs code") !=
          std::string::npos);
    CHECK(named("numpy", "\x1b[2J").find("\\x1b[2J") != std::string::npos);
    // Kept, if asked for, as what they are: a name and arguments.
    const PyValue opaque =
        parse(py::pickle(py::global("options", "VQ") + ")\x81}" + py::text("nb_code") + "M\0\2sb"s),
              true);
    CHECK(opaque.type() == "options.VQ");
    CHECK(opaque.at("nb_code").as_int() == 512);
}

TEST_CASE("pickle: programs that are wrong are refused") {
    CHECK(refused("", "takes more values"));
    CHECK(refused("0", "takes more values"));
    CHECK(refused("K\1\x86", "takes more values"));
    CHECK(refused("K\1(\x85", "takes more values"));  // not across a mark
    CHECK(refused("K\1a", "takes more values"));
    CHECK(refused("K\1t", "no mark"));
    CHECK(refused("]K\1e", "no mark"));
    CHECK(refused("1", "no mark"));
    CHECK(refused("h\7", "slot 7"));
    CHECK(refused("j\1\1\1\1", "slot 16843009"));
    CHECK(refused("gx\n", "bad memo"));
    CHECK(refused("q\1", "takes more values"));
    CHECK(refused("(K\1u", "takes more values"));
    CHECK(refused("}(K\1u", "a key without"));
    CHECK(refused("K\1K\2K\3s", "sets items of a int"));
    CHECK(refused("K\1K\2a", "appends to a int"));
    CHECK(refused("](K\1\x90", "adds to a list"));
    CHECK(refused("K\1)R", "calls a int"));
    CHECK(refused(py::global("torch", "device") + "K\1R", "no tuple"));
    CHECK(refused(py::global("torch", "Size") + ")R", "without an argument"));
    CHECK(refused(py::global("builtins", "dict") + "K\1\x85R", "makes a dict of a int"));
    CHECK(refused(py::global("builtins", "dict") + "]K\1a\x85R", "not pairs"));
    CHECK(refused(py::global("builtins", "set") + "K\1\x85R", "makes a set of a int"));
    CHECK(refused(py::global("torch", "device") + ")}K\1K\1s\x92", "keywords"));
    CHECK(refused(py::global("_codecs", "encode") + "K\1\x85R", "no text"));
    CHECK(refused(py::global("_codecs", "encode") + py::text("走") + "\x85R", "beyond Latin-1"));
    CHECK(refused("]K\1b", "sets attributes of a list"));
    CHECK(refused("K\1\x8c\1x\x93", "no text"));
    CHECK(refused("\x80\6N", "protocol 6"));
    CHECK(refused("I\n", "decimal"));
    CHECK(refused("I1x\n", "decimal"));
    CHECK(refused("L99999999999999999999L\n", "beyond 64 bits"));
    CHECK(refused("Fx\n", "bad number"));
    CHECK(refused("Sx\n", "without quotes"));
    CHECK(refused("S'\n", "without quotes"));
    CHECK(refused("Va\\u0041\n", "escapes"));
    CHECK(refused(py::text("\xff"), "not UTF-8"));
    CHECK(refused(py::text("\xc0\x80"), "not UTF-8"));
    CHECK(refused("}]K\1s", "cannot be a key"));
    CHECK(refused("}}K\1s", "cannot be a key"));
    CHECK(refused("}]\x85K\1s", "cannot be a key"));
    CHECK(refused("\x8f(]\x90", "cannot be a key"));
    for (int code = 0; code < 256; ++code) {  // what no checkpoint has, and what is no opcode
        const std::string known =
            "().012BCFGIJKLMNPQRSTUVXRabcdeghjlpqrstu]}"
            "\x80\x81\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\x8e"
            "\x8f\x90\x91\x92\x93\x94\x95\x96";
        if (known.find(static_cast<char>(code)) != std::string::npos) continue;
        CHECK(refused(std::string("N") + static_cast<char>(code), "no checkpoint has"));
    }
    CHECK(error_of(py::pickle("N") + "N").find("1 bytes after the end") != std::string::npos);
    CHECK(error_of("").find("wants 1 bytes, 0 are left") != std::string::npos);
}

TEST_CASE("pickle: lengths beyond the input are refused before anything is allocated") {
    for (const std::string opcode : {"X", "B"})
        CHECK(refused(opcode + "\xff\xff\xff\xff", "wants 4294967295 bytes"));
    for (const std::string opcode : {"\x8d", "\x8e", "\x96"})
        CHECK(refused(opcode + std::string(8, '\xff'), "wants 18446744073709551615 bytes"));
    CHECK(refused("\x95" + std::string(8, '\xff'), "a frame"));
    CHECK(refused("T\xff\xff\xff\xff", "negative"));
    CHECK(refused("\x8b\xff\xff\xff\xff", "an integer of -1 bytes"));
    CHECK(refused("\x8b\xff\xff\xff\x7f", "an integer of 2147483647 bytes"));
    CHECK(refused("\x8a\x08\1", "wants 8 bytes"));
    CHECK(refused("\x8c\xffshort", "wants 255 bytes"));
    CHECK(refused("cos", "does not end"));
}

TEST_CASE("pickle: deep, cyclic and exploding values") {
    CHECK(value_of(repeat("]", 999) + repeat("a", 998)).starts_with("[[[["));
    CHECK(refused(repeat("]", 100000) + repeat("a", 99999), "nested more than 1000"));
    CHECK(refused("N" + repeat("\x85", 100000), "nested more than 1000"));
    CHECK(refused("]q\0h\0a"s, "contains itself"));
    CHECK(refused("}q\0K\1h\0s"s, "contains itself"));
    CHECK(refused("]q\0]h\0aa"s, "contains itself"));
    // What is thrown away may be as it likes.
    CHECK(value_of("]q\0h\0a0N"s) == "None");
    // A tuple of itself twice, 60 times over: a tree of 2^60 leaves, walked in bounded time.
    const PyValue shared = parse(py::pickle("N" + repeat("2\x86", 60)));
    CHECK(shared.repr(100).size() < 110);
    CHECK(refused("}N" + repeat("2\x86", 60) + "Ns", "cannot be a key"));
    // Copies of copies.
    const std::string list = py::global("builtins", "list");
    CHECK(
        refused("](" + repeat("N", 1000) + "eq\0"s + "0" + repeat(list + "h\0\x85R0"s, 1000) + "N",
                "over and over"));
}

TEST_CASE("pickle: every truncation and changed byte is an answer, not an accident") {
    const std::string good = py::pickle(
        py::dict({{py::text("net"),
                   py::global("collections", "OrderedDict") + ")R(" + py::text("w") +
                       py::tensor_of(py::storage("FloatStorage", "0", 4), 0, {2, 2}, {2, 1}) + "u"},
                  {py::text("ep"), "K\5"},
                  {py::text("betas"), s({"G\x3f\xec\0\0\0\0\0\0", 9}) + "K\1\x86q\1"},
                  {py::text("again"), "h\1"}}));
    REQUIRE(error_of(good).empty());
    for (size_t cut = 0; cut < good.size(); ++cut)
        CHECK_FALSE(error_of(good.substr(0, cut)).empty());
    for (size_t i = 0; i < good.size(); ++i)
        for (int bit = 0; bit < 8; ++bit) {
            std::string bytes = good;
            bytes[i] = static_cast<char>(bytes[i] ^ (1 << bit));
            error_of(bytes);  // checks its own form
            error_of(bytes, true);
        }
}

TEST_CASE("pickle: accessors say what is wrong") {
    const PyValue root = parse(py::pickle(
        py::dict({{py::text("ep"), "K\5"}, {py::text("name"), py::text("x")}, {"K\1", "N"}})));
    const auto message = [](auto&& call) {
        try {
            call();
        } catch (const Error& e) {
            return std::string(e.what());
        }
        return std::string();
    };
    CHECK(root.find("no").defined() == false);
    CHECK(message([&] { root.at("vq_model"); }).find("no 'vq_model' among 'ep', 'name', 1") !=
          std::string::npos);
    CHECK(message([&] { root.at("name").as_int(); }).find("got str 'x', want an int") !=
          std::string::npos);
    CHECK(message([&] { root.at("ep").at("x"); }).find("want a dict with 'x'") !=
          std::string::npos);
    CHECK(message([&] { root.item(9); }).find("element 9") != std::string::npos);
    CHECK(message([&] { PyValue().as_int(); }).find("got nothing") != std::string::npos);
    CHECK(root.at("ep").as_real() == 5);
    CHECK_THROWS_AS(root.as_bool(), Error);
    CHECK_THROWS_AS(root.as_real(), Error);
    CHECK_THROWS_AS(root.as_text(), Error);
    CHECK_THROWS_AS(root.as_bytes(), Error);
    CHECK_THROWS_AS(root.at("ep").key(0), Error);
}
