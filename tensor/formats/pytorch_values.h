// What PyTorch means by the values of a pickle: calls of its rebuilding functions are tensors,
// persistent ids are storages, NumPy's arrays and scalars are arrays and numbers.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tensor/formats/element_type.h"
#include "tensor/formats/pickle.h"

namespace mc {

struct PyTorchTensor {
    ElementType type = ElementType::f32;
    ElementLayout layout;  // lies in the storage: checked
    bool requires_grad = false;
    bool parameter = false;   // torch.nn.Parameter
    bool numpy = false;       // was a NumPy array
    bool swap_bytes = false;  // of a NumPy array from a big-endian machine
    size_t storage = 0;
};

struct PyTorchStorage {
    std::string key;
    std::string_view type;    // its Python class
    size_t element_size = 1;  // 1 for bytes without a type
    uint64_t bytes = 0;
    uint64_t offset = 0;                // of the pickle, for errors
    std::span<const std::byte> inside;  // of a NumPy array: its bytes in the tree
};

struct PyTorchValues {
    std::shared_ptr<PickleTree> tree;  // with nodes of kind tensor: `number` is an index of...
    std::vector<PyTorchTensor> tensors;
    std::vector<PyTorchStorage> storages;  // each key once
};

// Error for tensors that do not fit their storages and storages that are described in two ways.
PyTorchValues interpret_pytorch(std::shared_ptr<PickleTree> tree);

}  // namespace mc
