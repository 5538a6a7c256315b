// PyTorch's checkpoint files, read without Python and without running anything in them:
//   zip       torch.save since 1.6: a pickle, and one stored member a storage
//   legacy    torch.save before: five pickles in a row, then the storages
//   script    torch.jit.save (OpenAI's CLIP): a zip whose pickle holds a tree of module objects
// MoMask's `.tar` files are the first two. Layouts: torch/serialization.py and
// caffe2/serialize/inline_container.h of PyTorch 1.13 to 2.x.
//
//     PyTorchFile file("net_best_fid.tar");
//     int64_t epoch = file.root().at("ep").as_int();
//     Tensor w = file.tensor(file.root().at("vq_model").at("encoder.model.0.weight"));
//     for (auto& [name, value] : file.tensors(file.root().at("vq_model"))) ...
//
// The pickle becomes a tree of values (pickle.h). Tensors are made when they are asked for and
// borrow the mapped file where they can (load_elements). NumPy arrays inside are tensors too, and
// NumPy scalars plain numbers whose type() says "numpy.float64". Everything that describes a tensor
// is checked when the file is opened: storages and their sizes, shapes, strides, offsets, and the
// memory that all of them together would take. All failures are Error in one line: file, member,
// byte, what, remedy.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "tensor/formats/pytorch_values.h"
#include "tensor/formats/safetensors.h"
#include "tensor/formats/zip.h"
#include "tensor/tensor.h"

namespace mc {

enum class PyTorchKind : uint8_t { zip, legacy, script };
const char* name_of(PyTorchKind kind);  // "PyTorch zip", ...

struct PyTorchOptions {
    enum class Checksums : uint8_t { small_files, always, never };  // small: below 64 MB
    Checksums checksums = Checksums::small_files;
    // Keeps unknown Python objects as inert values instead of refusing the file. Nothing is run
    // either way.
    bool keep_unknown = false;
};

class PyTorchFile {
  public:
    explicit PyTorchFile(const std::filesystem::path& path, const PyTorchOptions& options = {});

    const std::filesystem::path& path() const { return file_->path(); }
    PyTorchKind kind() const { return kind_; }
    PyValue root() const { return {values_.tree, values_.tree->root()}; }
    const ZipReader* zip() const { return zip_.get(); }  // null for a legacy file

    // Error if the value is no tensor.
    const PyTorchTensor& info(const PyValue& value) const;
    Tensor tensor(const PyValue& value) const;

    // Every tensor below a value, by path: keys, attributes and positions joined with dots, as a
    // state dict has them; the value itself, if it is a tensor, is called "". Error if two have the
    // same name. Keys that are neither text nor integers are passed over and added to `skipped`.
    using Found = std::vector<std::pair<std::string, PyValue>>;
    Found tensors(const PyValue& below, std::vector<std::string>* skipped = nullptr) const;
    Found tensors() const { return tensors(root()); }

    // This file again as `out`, with the numbers of some tensors (named as tensors() names them)
    // replaced and converted to the types they have there. All else stays as it is: TorchScript's
    // code, other tensors and values, names, shapes. Zip archives alone; the result is one that
    // torch.load or torch.jit.load reads as it read the first. Atomic. Error: a legacy file, a name
    // that there is none of or of another shape, a tensor expanded from fewer elements, a number
    // that the type cannot hold.
    void write_with(const std::filesystem::path& out, const NamedTensors& fresh) const;

  private:
    void open_zip(const PyTorchOptions& options);
    void open_legacy(const PyTorchOptions& options);
    void locate_in_zip(const std::string& folder);
    void locate_in_legacy(PickleTree& keys, size_t at);
    void check_total() const;
    struct Bytes {
        std::span<const std::byte> data;
        std::shared_ptr<const void> owner;
    };
    Bytes bytes_of(size_t storage) const;
    [[noreturn]] void fail(const std::string& what) const;

    std::shared_ptr<const MappedFile> file_;
    std::unique_ptr<ZipReader> zip_;
    PyTorchKind kind_ = PyTorchKind::zip;
    bool checksums_ = true;
    bool swap_bytes_ = false;
    PyTorchValues values_;
    std::string folder_;  // of a zip's members
    struct Sources;       // where the storages' bytes are
    std::shared_ptr<Sources> sources_;
};

// Writes a zip that torch.load(path, weights_only=True) reads: a dict of these entries, or an
// OrderedDict of tensors alone, as model.state_dict() is. Tensors of one storage that are the same
// elements are stored once. Atomic. Error for a name that stands twice, an undefined tensor, text
// that is not UTF-8. (A double needs PyTorch 2: the weights-only loader of 1.13 does not know
// them.)
using PyTorchEntry = std::variant<Tensor, bool, int64_t, double, std::string, NamedTensors>;
void write_pytorch(const std::filesystem::path& path,
                   const std::vector<std::pair<std::string, PyTorchEntry>>& entries);
void write_pytorch(const std::filesystem::path& path, const NamedTensors& state_dict);

}  // namespace mc
