#include "tensor/formats/pickle_globals.h"

#include <algorithm>
#include <array>

namespace mc {
namespace {

struct Known {
    std::string_view module, name;
    PyCall call;
};

constexpr Known kKnown[] = {
    {"collections", "OrderedDict", PyCall::dict},
    {"collections", "Counter", PyCall::dict},
    {"collections", "defaultdict", PyCall::dict},
    {"argparse", "Namespace", PyCall::dict},
    {"pathlib", "PosixPath", PyCall::inert},
    {"pathlib", "WindowsPath", PyCall::inert},
    {"_codecs", "encode", PyCall::encode},
    {"torch", "Size", PyCall::first_argument},
    {"torch", "device", PyCall::inert},
    {"torch.nn.parameter", "Parameter", PyCall::inert},
    {"torch.storage", "UntypedStorage", PyCall::inert},
    {"torch.storage", "TypedStorage", PyCall::inert},
    {"torch.serialization", "_get_layout", PyCall::inert},
    {"torch._utils", "_rebuild_tensor", PyCall::inert},
    {"torch._utils", "_rebuild_tensor_v2", PyCall::inert},
    {"torch._utils", "_rebuild_tensor_v3", PyCall::inert},
    {"torch._utils", "_rebuild_parameter", PyCall::inert},
    {"torch._utils", "_rebuild_parameter_with_state", PyCall::inert},
    {"torch.jit._pickle", "build_intlist", PyCall::first_argument},
    {"torch.jit._pickle", "build_doublelist", PyCall::first_argument},
    {"torch.jit._pickle", "build_boollist", PyCall::first_argument},
    {"torch.jit._pickle", "build_tensorlist", PyCall::first_argument},
    {"torch.jit._pickle", "build_tensor_from_id", PyCall::inert},
    {"torch.jit._pickle", "restore_type_tag", PyCall::first_argument},
    {"numpy", "ndarray", PyCall::inert},
    {"numpy", "dtype", PyCall::inert},
};

// With `builtins`, and Python 2's `__builtin__`.
constexpr Known kBuiltins[] = {
    {"", "set", PyCall::set},     {"", "frozenset", PyCall::set},
    {"", "list", PyCall::list},   {"", "tuple", PyCall::tuple},
    {"", "dict", PyCall::dict},   {"", "int", PyCall::inert},
    {"", "float", PyCall::inert}, {"", "bool", PyCall::inert},
    {"", "str", PyCall::inert},   {"", "bytearray", PyCall::inert},
    {"", "slice", PyCall::inert}, {"", "complex", PyCall::inert},
};

constexpr std::string_view kStorages[] = {"Float", "Double", "Half", "BFloat16", "Long",
                                          "Int",   "Short",  "Char", "Byte",     "Bool"};

constexpr std::string_view kElements[] = {"float32", "float64", "float16", "bfloat16", "int64",
                                          "int32",   "int16",   "int8",    "uint8",    "bool",
                                          "uint16",  "uint32",  "uint64",  "strided",  "float",
                                          "double",  "half",    "long",    "int"};

template <size_t N>
bool contains(const std::string_view (&all)[N], std::string_view name) {
    return std::find(std::begin(all), std::end(all), name) != std::end(all);
}

}  // namespace

std::optional<PyCall> pickle_global(std::string_view module, std::string_view name) {
    for (const Known& known : kKnown)
        if (known.module == module && known.name == name) return known.call;
    if (module == "builtins" || module == "__builtin__")
        for (const Known& known : kBuiltins)
            if (known.name == name) return known.call;
    if (module == "torch" || module == "torch.cuda") {
        constexpr std::string_view kStorage = "Storage";
        if (name.ends_with(kStorage) &&
            contains(kStorages, name.substr(0, name.size() - kStorage.size())))
            return PyCall::inert;
    }
    if (module == "torch" && contains(kElements, name)) return PyCall::inert;
    if (module == "numpy.core.multiarray" || module == "numpy._core.multiarray")
        if (name == "scalar" || name == "_reconstruct") return PyCall::inert;
    // TorchScript's classes: objects with attributes, whose code is in other members of the
    // archive.
    if (module == "__torch__" || module.starts_with("__torch__.")) return PyCall::inert;
    return std::nullopt;
}

std::string_view pickle_global_refusal(std::string_view module, std::string_view name) {
    constexpr std::string_view kRunsCode[] = {
        "os",          "posix",  "nt",     "sys",       "subprocess", "builtins",
        "__builtin__", "runpy",  "pty",    "importlib", "commands",   "socket",
        "webbrowser",  "shutil", "pickle", "operator",  "code",       "ctypes"};
    if (contains(kRunsCode, module))
        return "which runs code; the file is not to be trusted, nothing in it was run";
    if (name == "_load_from_bytes")
        return "a pickle inside the pickle; save the file again with torch.save and plain tensors";
    if (name.starts_with("Complex") || name.find("Q") == 0 || name.find("qtensor") != name.npos)
        return "a complex or quantised tensor; convert it to float before saving";
    return "which no table of weights needs; save the state_dict alone: "
           "torch.save(model.state_dict(), "
           "path)";
}

}  // namespace mc
