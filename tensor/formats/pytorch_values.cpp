#include "tensor/formats/pytorch_values.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <unordered_map>

#include "kernels/error.h"
#include "tensor/formats/utf8.h"

namespace mc {
namespace {

constexpr size_t kMaxTensorDims = 16;
constexpr size_t kMaxStorageKey = 256;  // bytes; PyTorch's are numbers
constexpr const char* kDamaged = "the file is damaged or no checkpoint";

struct StorageClass {
    std::string_view name;
    ElementType type;
};
constexpr StorageClass kStorageClasses[] = {
    {"FloatStorage", ElementType::f32}, {"DoubleStorage", ElementType::f64},
    {"HalfStorage", ElementType::f16},  {"BFloat16Storage", ElementType::bf16},
    {"LongStorage", ElementType::i64},  {"IntStorage", ElementType::i32},
    {"ShortStorage", ElementType::i16}, {"CharStorage", ElementType::i8},
    {"ByteStorage", ElementType::u8},   {"BoolStorage", ElementType::boolean},
};

// The part after the last dot.
std::string_view last_part(std::string_view name) {
    return name.substr(name.rfind('.') + 1);
}

std::optional<ElementType> element_of_storage(std::string_view type) {
    for (const StorageClass& known : kStorageClasses)
        if (last_part(type) == known.name) return known.type;
    return std::nullopt;
}

class Interpreter {
  public:
    explicit Interpreter(std::shared_ptr<PickleTree> tree) { values_.tree = std::move(tree); }

    // Over all nodes, not over the tree: each once, and arguments before what is made of them.
    PyTorchValues run() {
        for (PyNode& node : values_.tree->nodes()) {
            if (node.kind == PyKind::persistent) {
                storage_of(node);
            } else if (node.kind == PyKind::object) {
                const std::string_view name = last_part(node.type);
                if (node.type.starts_with("torch._utils.") || node.type == kParameter)
                    make_tensor(node, name);
                else if (node.type.starts_with("numpy.") && name == "_reconstruct")
                    make_array(node);
                else if (node.type.starts_with("numpy.") && name == "scalar")
                    make_scalar(node);
            }
        }
        return std::move(values_);
    }

  private:
    static constexpr std::string_view kParameter = "torch.nn.parameter.Parameter";

    [[noreturn]] void fail(const PyNode& node, const std::string& what) const {
        values_.tree->fail(node, fmt::format("{}; {}", what, kDamaged));
    }

    static const std::vector<PyNode*>& arguments(const PyNode& node) {
        return node.items[0]->items;
    }

    std::vector<int64_t> sizes(const PyNode& node, const PyNode& value, const char* what) const {
        if (value.kind != PyKind::tuple && value.kind != PyKind::list)
            fail(node, fmt::format("a tensor whose {} is a {}", what, name_of(value.kind)));
        if (value.items.size() > kMaxTensorDims)
            fail(node, fmt::format("a tensor of {} dimensions", value.items.size()));
        std::vector<int64_t> result;
        for (const PyNode* item : value.items) {
            if (item->kind != PyKind::integer || item->number < 0)
                fail(node, fmt::format("a tensor with a {} that is no count", what));
            result.push_back(item->number);
        }
        return result;
    }

    struct Window {
        size_t storage;
        int64_t begin, elements;
    };

    // ("storage", class, key, location, elements), and in legacy files None or (key of the view,
    // first element, elements) after it.
    Window storage_of(const PyNode& node) {
        const PyNode& id = *node.items[0];
        const auto& parts = id.items;
        if (id.kind != PyKind::tuple || parts.size() < 5 || parts.size() > 6 ||
            parts[0]->kind != PyKind::text || parts[0]->text != "storage" ||
            parts[1]->kind != PyKind::global || parts[4]->kind != PyKind::integer ||
            parts[4]->number < 0)
            fail(node, "a reference to something other than a storage");
        std::string key;
        if (parts[2]->kind == PyKind::text && parts[2]->text.size() <= kMaxStorageKey)
            key = parts[2]->text;
        else if (parts[2]->kind == PyKind::integer)
            key = std::to_string(parts[2]->number);
        else
            fail(node, "a storage without a key");
        const std::string_view type = parts[1]->type;
        const auto element = element_of_storage(type);
        if (!element && type != "torch.storage.UntypedStorage")
            fail(node, fmt::format("a storage of class {}", printable(type)));
        PyTorchStorage storage{key, type, element ? size_of(*element) : 1, 0, node.offset, {}};
        if (__builtin_mul_overflow(static_cast<uint64_t>(parts[4]->number), storage.element_size,
                                   &storage.bytes) ||
            storage.bytes > INT64_MAX)
            fail(node, fmt::format("storage '{}' overflows", printable(key)));
        const auto [found, is_new] = by_key_.emplace(key, values_.storages.size());
        if (is_new)
            values_.storages.push_back(storage);
        else if (const auto& first = values_.storages[found->second];
                 first.type != type || first.bytes != storage.bytes)
            fail(node, fmt::format("storage '{}' is {} of {} bytes here and {} of {} bytes before",
                                   printable(key), type, storage.bytes, first.type, first.bytes));
        Window window{found->second, 0, parts[4]->number};
        if (parts.size() == 6 && parts[5]->kind != PyKind::none) {
            const auto& view = parts[5]->items;
            int64_t end = 0;
            if (parts[5]->kind != PyKind::tuple || view.size() != 3 ||
                view[1]->kind != PyKind::integer || view[2]->kind != PyKind::integer ||
                view[1]->number < 0 || view[2]->number < 0 ||
                __builtin_add_overflow(view[1]->number, view[2]->number, &end) ||
                end > window.elements)
                fail(node, fmt::format("a view outside storage '{}'", printable(key)));
            window = {found->second, view[1]->number, view[2]->number};
        }
        return window;
    }

    void place(const PyNode& node, PyTorchTensor tensor, const Window& window) {
        const PyTorchStorage& storage = values_.storages[window.storage];
        const auto extent = tensor.layout.extent();
        if (!extent)
            fail(node, tensor.layout.shape.size() == tensor.layout.strides.size()
                           ? "a tensor whose size overflows"
                           : "a tensor with more sizes than strides, or fewer");
        // Of a storage without a type, elements count bytes.
        const int64_t room =
            window.elements / static_cast<int64_t>(size_of(tensor.type) / storage.element_size);
        if (extent->end > room)
            fail(node,
                 fmt::format("a tensor ({}) that reaches element {} of storage '{}', which has "
                             "{}",
                             fmt::join(tensor.layout.shape, ", "), extent->end - 1,
                             printable(storage.key), room));
        tensor.layout.offset += window.begin;
        tensor.storage = window.storage;
        values_.tensors.push_back(std::move(tensor));
    }

    void become_tensor(PyNode& node, size_t index) {
        node.kind = PyKind::tensor;
        node.number = static_cast<int64_t>(index);
        node.items.clear();
        node.type = {};
    }

    void make_tensor(PyNode& node, std::string_view function) {
        const auto& from = arguments(node);
        if (function == "Parameter" || function.starts_with("_rebuild_parameter")) {
            if (from.empty() || from[0]->kind != PyKind::tensor)
                fail(node, "a parameter without a tensor");
            PyTorchTensor copy = values_.tensors[static_cast<size_t>(from[0]->number)];
            copy.parameter = true;
            copy.requires_grad =
                from.size() < 2 || from[1]->kind != PyKind::boolean || from[1]->number != 0;
            values_.tensors.push_back(std::move(copy));
            return become_tensor(node, values_.tensors.size() - 1);
        }
        const bool with_dtype = function == "_rebuild_tensor_v3";
        if (from.size() < (with_dtype ? 7u : 4u) || from[0]->kind != PyKind::persistent ||
            from[1]->kind != PyKind::integer || from[1]->number < 0)
            fail(node, "a tensor without a storage, an offset, sizes and strides");
        PyTorchTensor tensor;
        tensor.layout = {sizes(node, *from[2], "size"), sizes(node, *from[3], "stride"),
                         from[1]->number};
        tensor.requires_grad =
            from.size() > 4 && from[4]->kind == PyKind::boolean && from[4]->number != 0;
        const Window window = storage_of(*from[0]);
        const auto of_class = element_of_storage(values_.storages[window.storage].type);
        if (with_dtype) {
            const auto named =
                from[6]->kind == PyKind::global && from[6]->type.starts_with("torch.")
                    ? element_of_torch_name(last_part(from[6]->type))
                    : std::nullopt;
            if (!named || (of_class && *of_class != *named))
                fail(node, "a tensor of an unknown element type, or not of its storage's");
            tensor.type = *named;
        } else {
            if (!of_class) fail(node, "a tensor without an element type");
            tensor.type = *of_class;
        }
        place(node, std::move(tensor), window);
        become_tensor(node, values_.tensors.size() - 1);
    }

    // numpy.dtype objects: arguments ("f4", ...), state (version, byte order, ...).
    struct NumpyType {
        ElementType type;
        bool swap;
    };
    static std::optional<NumpyType> numpy_type(const PyNode& dtype) {
        if (dtype.kind != PyKind::object || dtype.type != "numpy.dtype") return std::nullopt;
        const auto& from = arguments(dtype);
        if (from.empty() || from[0]->kind != PyKind::text) return std::nullopt;
        std::string_view name = from[0]->text;
        bool swap = name.starts_with('>');
        if (name.find_first_of("<>|=") == 0) name.remove_prefix(1);
        const auto type = element_of_numpy(name);
        if (!type) return std::nullopt;
        if (dtype.items.size() > 1 && dtype.items[1]->kind == PyKind::tuple) {
            const auto& state = dtype.items[1]->items;
            if (state.size() > 1 && state[1]->kind == PyKind::text) swap = state[1]->text == ">";
        }
        return NumpyType{*type, swap};
    }

    // The bytes of a scalar; text is what Python 2 wrote.
    static std::optional<std::string> raw_of(const PyNode& node) {
        if (node.text.size() > 16) return std::nullopt;  // of eight bytes as UTF-8
        if (node.kind == PyKind::bytes) return node.text;
        if (node.kind == PyKind::text) return latin1_of_utf8(node.text);
        return std::nullopt;
    }

    // State: (version, shape, dtype, Fortran order, bytes). Arrays of objects and other types stay
    // inert.
    void make_array(PyNode& node) {
        if (node.items.size() < 2 || node.items[1]->kind != PyKind::tuple) return;
        const auto& state = node.items[1]->items;
        if (state.size() != 5 || state[3]->kind != PyKind::boolean) return;
        const auto type = numpy_type(*state[2]);
        if (!type) return;
        PyNode& data = *state[4];
        if (data.kind == PyKind::text) {
            auto raw = latin1_of_utf8(data.text);
            if (!raw) fail(node, "an array whose bytes are text");
            data.text = std::move(*raw);
            data.kind = PyKind::bytes;
        }
        if (data.kind != PyKind::bytes) return;
        PyTorchTensor tensor;
        tensor.type = type->type;
        tensor.swap_bytes = type->swap;
        tensor.numpy = true;
        std::vector<int64_t> shape = sizes(node, *state[1], "size");
        if (state[3]->number != 0) {  // first index fastest
            std::reverse(shape.begin(), shape.end());
            tensor.layout = ElementLayout::contiguous(std::move(shape));
            std::reverse(tensor.layout.shape.begin(), tensor.layout.shape.end());
            std::reverse(tensor.layout.strides.begin(), tensor.layout.strides.end());
        } else {
            tensor.layout = ElementLayout::contiguous(std::move(shape));
        }
        const auto extent = tensor.layout.extent();
        const size_t have = data.text.size() / size_of(type->type);
        if (!extent || data.text.size() % size_of(type->type) != 0 ||
            static_cast<uint64_t>(extent->count) != have)
            fail(node, fmt::format("an array of {} bytes that its shape does not need",
                                   data.text.size()));
        values_.storages.push_back({"", "numpy.ndarray", size_of(type->type), data.text.size(),
                                    node.offset, std::as_bytes(std::span(data.text))});
        place(node, std::move(tensor),
              {values_.storages.size() - 1, 0, static_cast<int64_t>(have)});
        become_tensor(node, values_.tensors.size() - 1);
        node.type = "numpy.ndarray";
    }

    // Arguments: (dtype, bytes). Scalars of other types stay inert.
    void make_scalar(PyNode& node) {
        const auto& from = arguments(node);
        if (from.size() != 2) return;
        const auto type = numpy_type(*from[0]);
        const auto raw = raw_of(*from[1]);
        if (!type || !raw) return;
        if (raw->size() != size_of(type->type)) fail(node, "a NumPy number of another size");
        const Tensor value = [&] {
            try {
                return load_elements(std::as_bytes(std::span(*raw)), type->type, {}, type->swap,
                                     nullptr);
            } catch (const Error& e) {
                fail(node, fmt::format("a NumPy number: {}", e.what()));
            }
        }();
        node.items.clear();
        node.type = values_.tree->keep(fmt::format("numpy.{}", torch_name(type->type)));
        switch (value.dtype()) {
            case DType::boolean:
                node.kind = PyKind::boolean;
                node.number = value.item<bool>() ? 1 : 0;
                break;
            case DType::i32:
            case DType::i64:
                node.kind = PyKind::integer;
                node.number = value.to(DType::i64).item<int64_t>();
                break;
            default:
                node.kind = PyKind::real;
                node.real = value.to(DType::f64).item<double>();
        }
    }

    PyTorchValues values_;
    std::unordered_map<std::string, size_t> by_key_;
};

}  // namespace

PyTorchValues interpret_pytorch(std::shared_ptr<PickleTree> tree) {
    return Interpreter(std::move(tree)).run();
}

}  // namespace mc
