// One way in for tensors from files, whatever wrote them. The format is recognised by content,
// never by name: MoMask's `.tar` files are PyTorch's.
//
//     TensorFile file = load_tensors("net_best_fid.tar", {.below = "vq_model"});
//     for (auto& [name, tensor] : file.tensors) ...      // "encoder.model.0.weight", ...
//     int64_t epoch = file.values.at("ep").as_int();
//
// Read: safetensors, npy, npz, PyTorch's zip and legacy files, TorchScript archives. Small integers
// are widened (element_type.h). All failures are Error in one line: file, place, what, remedy.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/formats/pytorch.h"
#include "tensor/formats/safetensors.h"

namespace mc {

enum class TensorFormat : uint8_t {
    safetensors,
    npy,
    npz,
    pytorch_zip,
    pytorch_legacy,
    torchscript
};
const char* name_of(TensorFormat format);  // "safetensors", "PyTorch zip", ...

// By the first bytes, and of a zip by its members. Error if it is none of them.
TensorFormat recognise_tensors(const std::filesystem::path& path);

struct LoadOptions {
    // The part of a PyTorch file to load: keys from the root, joined with dots where they nest
    // ("vq_model"). Of other formats, the names that begin with it and a dot. Names in the result
    // begin after it. Error if there is nothing.
    std::string below = {};
    PyTorchOptions pytorch = {};
};

struct TensorFile {
    TensorFormat format = TensorFormat::safetensors;
    NamedTensors tensors;  // in the file's order; an npy file's one is called after the file
    StringMap metadata;    // of safetensors
    PyValue values;        // of PyTorch files: the root, with all that is no tensor; else undefined
    std::vector<std::string>
        skipped;  // keys that cannot be part of a name, see PyTorchFile::tensors
};

TensorFile load_tensors(const std::filesystem::path& path, const LoadOptions& options = {});

// The value that keys joined with dots lead to (keys may have dots in them too). Error, which says
// what there is, if there is none.
PyValue find_below(const PyValue& root, std::string_view keys);

// The tensor of an array: f4 f8 f2 b1 as they are, integers widened.
struct NpyArray;
Tensor tensor_of(const NpyArray& array);

}  // namespace mc
