#include "tensor/formats/load_tensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "kernels/error.h"
#include "tensor/formats/npy.h"
#include "tensor/formats/utf8.h"

namespace mc {
namespace {

TensorFormat recognise_zip(const std::filesystem::path& path) {
    const ZipReader zip(path);
    bool arrays = false, pickle = false, script = false;
    for (const ZipEntry& entry : zip.entries()) {
        const size_t slash = entry.name.find('/');
        const std::string_view rest =
            slash == entry.name.npos ? "" : std::string_view(entry.name).substr(slash);
        pickle |= rest == "/data.pkl";
        script |= rest == "/constants.pkl";
        arrays |= entry.name.ends_with(".npy");
    }
    if (pickle) return script ? TensorFormat::torchscript : TensorFormat::pytorch_zip;
    if (arrays || zip.entries().empty()) return TensorFormat::npz;
    throw Error(fmt::format(
        "{}: a zip archive, but neither NumPy's (no .npy inside) nor PyTorch's (no data.pkl); name "
        "the checkpoint itself",
        path.string()));
}

// The value that dotted keys lead to; keys may have dots in them, so the longest that fits is
// taken.
PyValue try_below(const PyValue& from, std::string_view keys) {
    if (keys.empty()) return from;
    if (PyValue whole = from.find(keys); whole.defined()) return whole;
    for (size_t dot = keys.rfind('.'); dot != keys.npos && dot > 0;
         dot = keys.rfind('.', dot - 1)) {
        const PyValue part = from.find(keys.substr(0, dot));
        if (part.defined())
            if (PyValue found = try_below(part, keys.substr(dot + 1)); found.defined())
                return found;
    }
    return {};
}

// Keeps what begins with `below` and a dot, without that.
NamedTensors named_below(NamedTensors all, const std::string& below, const std::string& source) {
    if (below.empty()) return all;
    NamedTensors kept;
    for (auto& [name, tensor] : all)
        if (name.starts_with(below + '.')) kept.emplace_back(name.substr(below.size() + 1), tensor);
    if (kept.empty())
        throw Error(fmt::format("{}: no tensor is called '{}.*'; is it the right file?", source,
                                printable(below)));
    return kept;
}

void load_pytorch(TensorFile& out, const std::filesystem::path& path, const LoadOptions& options) {
    const PyTorchFile file(path, options.pytorch);
    out.values = file.root();
    const PyValue below = find_below(file.root(), options.below);
    for (const auto& [name, value] : file.tensors(below, &out.skipped))
        out.tensors.emplace_back(name, file.tensor(value));
}

}  // namespace

const char* name_of(TensorFormat format) {
    switch (format) {
        case TensorFormat::safetensors:
            return "safetensors";
        case TensorFormat::npy:
            return "npy";
        case TensorFormat::npz:
            return "npz";
        case TensorFormat::pytorch_zip:
            return "PyTorch zip";
        case TensorFormat::pytorch_legacy:
            return "PyTorch legacy";
        case TensorFormat::torchscript:
            return "TorchScript";
    }
    return "?";
}

PyValue find_below(const PyValue& root, std::string_view keys) {
    const PyValue found = try_below(root, keys);
    return found.defined() ? found : root.at(keys);  // throws
}

TensorFormat recognise_tensors(const std::filesystem::path& path) {
    const auto file = MappedFile::open(path);
    const auto bytes = file->bytes();
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    if (text.starts_with("PK\x03\x04") || text.starts_with("PK\x05\x06"))
        return recognise_zip(path);
    if (text.starts_with("\x93NUMPY")) return TensorFormat::npy;
    // Before the pickle: a header's length may begin with any byte.
    if (text.size() > 8 && text[8] == '{') return TensorFormat::safetensors;
    if (text.starts_with("\x80")) return TensorFormat::pytorch_legacy;
    if (text.size() > 262 && text.substr(257, 5) == "ustar")
        throw Error(
            fmt::format("{}: a tar archive; unpack it, or, if PyTorch wrote it before 2017, "
                        "load it with an old PyTorch and save it again",
                        path.string()));
    throw Error(
        fmt::format("{}: {}not a file of tensors (safetensors, npy, npz, PyTorch and "
                    "TorchScript files are)",
                    path.string(), text.empty() ? "empty, so " : ""));
}

Tensor tensor_of(const NpyArray& array) {
    const auto type = element_of_numpy(std::string_view(array.descr).substr(1));
    if (!type)
        throw Error(fmt::format("{}: type '{}' is not supported", array.source, array.descr));
    ElementLayout layout;
    if (array.fortran_order) {
        layout = ElementLayout::contiguous({array.shape.rbegin(), array.shape.rend()});
        std::reverse(layout.shape.begin(), layout.shape.end());
        std::reverse(layout.strides.begin(), layout.strides.end());
    } else {
        layout = ElementLayout::contiguous(array.shape);
    }
    try {
        return load_elements(array.data, *type, layout, false, nullptr);
    } catch (const Error& e) {
        throw Error(fmt::format("{}: {}", array.source, e.what()));
    }
}

TensorFile load_tensors(const std::filesystem::path& path, const LoadOptions& options) {
    TensorFile out;
    out.format = recognise_tensors(path);
    switch (out.format) {
        case TensorFormat::safetensors: {
            const SafetensorsFile file(path);
            out.tensors = named_below(file.all(), options.below, path.string());
            out.metadata = file.metadata();
            break;
        }
        case TensorFormat::npy:
            out.tensors = named_below({{path.stem().string(), tensor_of(read_npy(path))}},
                                      options.below, path.string());
            break;
        case TensorFormat::npz: {
            const NpzFile file(path);
            NamedTensors all;
            for (const std::string& name : file.names())
                all.emplace_back(name, tensor_of(file.read(name)));
            out.tensors = named_below(std::move(all), options.below, path.string());
            break;
        }
        case TensorFormat::pytorch_zip:
        case TensorFormat::pytorch_legacy:
        case TensorFormat::torchscript:
            load_pytorch(out, path, options);
            break;
    }
    return out;
}

}  // namespace mc
