// The zip that torch.save writes, with a pickle of protocol 2 made of what its weights-only loader
// knows: OrderedDict, storages, _rebuild_tensor_v2.
#include <fmt/format.h>

#include <bit>
#include <cstring>
#include <map>
#include <tuple>
#include <unordered_set>

#include "kernels/error.h"
#include "tensor/formats/pytorch.h"
#include "tensor/formats/utf8.h"

namespace mc {
namespace {

constexpr const char* kFolder = "archive";  // what torch.save calls it when it writes to a buffer
constexpr size_t kAlignment = 64;

const char* storage_class(DType dtype) {
    switch (dtype) {
        case DType::f32:
            return "FloatStorage";
        case DType::f64:
            return "DoubleStorage";
        case DType::f16:
            return "HalfStorage";
        case DType::bf16:
            return "BFloat16Storage";
        case DType::i64:
            return "LongStorage";
        case DType::i32:
            return "IntStorage";
        case DType::boolean:
            return "BoolStorage";
    }
    return "?";
}

class PickleWriter {
  public:
    explicit PickleWriter(std::string source) : source_(std::move(source)) { out_ = "\x80\x02"; }

    void entries(const std::vector<std::pair<std::string, PyTorchEntry>>& all) {
        out_ += "}(";
        Names names;
        for (const auto& [name, entry] : all) {
            key(names, name);
            std::visit([&](const auto& value) { write(value); }, entry);
        }
        out_ += 'u';
    }

    // A state dict, without the versions of its modules that PyTorch keeps as an attribute.
    void write(const NamedTensors& tensors) {
        ordered_dict();
        out_ += '(';
        Names names;
        for (const auto& [name, tensor] : tensors) {
            key(names, name);
            write(tensor);
        }
        out_ += 'u';
    }

    std::string take() { return out_ + '.'; }
    const std::vector<Tensor>& storages() const { return storages_; }

  private:
    using Names = std::unordered_set<std::string>;

    [[noreturn]] void fail(const std::string& what) const {
        throw Error(fmt::format("{}: cannot write: {}", source_, what));
    }

    template <class T>
    void raw(T value) {
        static_assert(std::endian::native == std::endian::little);
        out_.append(reinterpret_cast<const char*>(&value), sizeof value);
    }
    void global(const char* module, const char* name) {
        out_ += fmt::format("c{}\n{}\n", module, name);
    }
    void ordered_dict() {
        global("collections", "OrderedDict");
        out_ += ")R";
    }

    void key(Names& names, const std::string& name) {
        if (!names.insert(name).second)
            fail(fmt::format("the name '{}' stands twice", printable(name)));
        write(name);
    }

    void write(const std::string& text) {
        if (!is_utf8(text) || text.size() > UINT32_MAX)
            fail(fmt::format("'{}' is not UTF-8", printable(text)));
        out_ += 'X';
        raw(static_cast<uint32_t>(text.size()));
        out_ += text;
    }
    void write(bool value) { out_ += value ? '\x88' : '\x89'; }
    void write(int64_t value) {
        if (value >= INT32_MIN && value <= INT32_MAX) {
            out_ += 'J';
            raw(static_cast<int32_t>(value));
        } else {
            out_ += "\x8a\x08";
            raw(value);
        }
    }
    void write(double value) {
        out_ += 'G';
        raw(__builtin_bswap64(std::bit_cast<uint64_t>(value)));
    }

    template <class Sizes>
    void tuple(const Sizes& sizes) {
        out_ += '(';
        for (int64_t size : sizes) write(size);
        out_ += 't';
    }

    void write(const Tensor& tensor) {
        if (!tensor.defined()) fail("a tensor is undefined");
        global("torch._utils", "_rebuild_tensor_v2");
        out_ += "((";
        write(std::string("storage"));
        global("torch", storage_class(tensor.dtype()));
        write(std::to_string(store(tensor)));
        write(std::string("cpu"));
        write(tensor.numel());
        out_ += "tQ";
        write(int64_t{0});
        tuple(tensor.shape());
        Shape strides = tensor.shape();  // row-major
        int64_t stride = 1;
        for (int d = tensor.dims(); d-- > 0; stride *= std::max<int64_t>(tensor.size(d), 1))
            strides[d] = stride;
        tuple(strides);
        write(false);  // requires_grad
        ordered_dict();
        out_ += "tR";
    }

    // The number of the storage with these elements: tied weights are stored once.
    size_t store(const Tensor& tensor) {
        const auto same = std::tuple(tensor.is_contiguous() ? tensor.raw_ptr() : nullptr,
                                     tensor.numel(), tensor.dtype());
        if (std::get<0>(same) && tensor.numel() > 0) {
            const auto [found, is_new] = numbers_.emplace(same, storages_.size());
            if (!is_new) return found->second;
        }
        storages_.push_back(tensor);
        return storages_.size() - 1;
    }

    std::string source_, out_;
    std::vector<Tensor> storages_;
    std::map<std::tuple<const std::byte*, int64_t, DType>, size_t> numbers_;
};

void write_archive(const std::filesystem::path& path, PickleWriter& pickle) {
    ZipWriter zip(path);
    const auto add = [&](const std::string& name, const void* data, size_t size) {
        zip.add(fmt::format("{}/{}", kFolder, name), data, size, false, kAlignment);
    };
    const std::string program = pickle.take();
    add("data.pkl", program.data(), program.size());
    add("byteorder", "little", 6);
    for (size_t i = 0; i < pickle.storages().size(); ++i) {
        const Tensor tensor = pickle.storages()[i].cpu().contiguous();
        add(fmt::format("data/{}", i), tensor.raw(),
            static_cast<size_t>(tensor.numel()) * size_of(tensor.dtype()));
    }
    add("version", "3\n", 2);
    zip.commit();
}

}  // namespace

void write_pytorch(const std::filesystem::path& path,
                   const std::vector<std::pair<std::string, PyTorchEntry>>& entries) {
    PickleWriter pickle(path.string());
    pickle.entries(entries);
    write_archive(path, pickle);
}

void write_pytorch(const std::filesystem::path& path, const NamedTensors& state_dict) {
    PickleWriter pickle(path.string());
    pickle.write(state_dict);
    write_archive(path, pickle);
}

}  // namespace mc
