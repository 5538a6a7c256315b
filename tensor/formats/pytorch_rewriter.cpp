// A PyTorch archive again with other numbers in some of its tensors. The zip is copied member by
// member: what is no storage of a replaced tensor keeps its bytes.
#include <fmt/format.h>

#include <cstring>
#include <map>

#include "kernels/error.h"
#include "tensor/finite.h"
#include "tensor/formats/pytorch.h"
#include "tensor/formats/utf8.h"

namespace mc {
namespace {

constexpr size_t kAlignment = 64;  // as torch.save aligns storages

// Row-major `elements` to where the layout has them in the storage.
void scatter(std::vector<std::byte>& storage, const ElementLayout& layout, const Tensor& elements) {
    const size_t size = size_of(elements.dtype());
    const std::byte* from = elements.raw();
    std::vector<int64_t> index(layout.shape.size(), 0);
    for (int64_t i = 0; i < elements.numel(); ++i) {
        int64_t at = layout.offset;
        for (size_t d = 0; d < index.size(); ++d) at += index[d] * layout.strides[d];
        std::memcpy(storage.data() + static_cast<size_t>(at) * size, from, size);
        from += size;
        for (size_t d = index.size(); d-- > 0;) {
            if (++index[d] < layout.shape[d]) break;
            index[d] = 0;
        }
    }
}

}  // namespace

void PyTorchFile::write_with(const std::filesystem::path& out, const NamedTensors& fresh) const {
    if (!zip_ || swap_bytes_)
        fail("only a little-endian zip archive can be written again; save it anew with torch.save");
    std::map<std::string, PyValue> found;
    for (const auto& [name, value] : tensors()) found.emplace(name, value);
    std::map<size_t, std::vector<std::byte>> storages;  // those that change
    for (const auto& [name, tensor] : fresh) {
        const auto place = found.find(name);
        if (place == found.end()) fail(fmt::format("has no tensor {}", printable(name)));
        const PyTorchTensor& old = info(place->second);
        const auto type = dtype_of(old.type);
        if (old.numpy || !type || element_of(*type) != old.type)
            fail(fmt::format("{} is of a type that cannot be written; save it as float32",
                             printable(name)));
        for (size_t d = 0; d < old.layout.shape.size(); ++d)
            if (old.layout.strides[d] == 0 && old.layout.shape[d] > 1)
                fail(fmt::format("{} is expanded from fewer elements; save it as a clone",
                                 printable(name)));
        const Tensor elements = tensor.cpu().to(*type).contiguous();
        const Shape& shape = elements.shape();
        if (!std::equal(shape.begin(), shape.end(), old.layout.shape.begin(),
                        old.layout.shape.end()))
            fail(fmt::format("{} is ({}), the new one {}", printable(name),
                             fmt::join(old.layout.shape, ", "), shape.str()));
        check_finite(fmt::format("{}: {} as {}", path().string(), name, torch_name(old.type)),
                     elements);
        auto [storage, is_new] = storages.try_emplace(old.storage);
        if (is_new) {
            const Bytes bytes = bytes_of(old.storage);
            storage->second.assign(bytes.data.begin(), bytes.data.end());
        }
        scatter(storage->second, old.layout, elements);
    }
    std::map<std::string, const std::vector<std::byte>*> changed;  // by member
    for (const auto& [storage, bytes] : storages)
        changed[fmt::format("{}/data/{}", folder_, values_.storages[storage].key)] = &bytes;
    ZipWriter writer(out);
    for (const ZipEntry& entry : zip_->entries()) {
        const auto other = changed.find(entry.name);
        const std::vector<std::byte> same =
            other == changed.end() ? zip_->read(entry) : std::vector<std::byte>();
        const std::vector<std::byte>& bytes = other == changed.end() ? same : *other->second;
        writer.add(entry.name, bytes.data(), bytes.size(), entry.method != 0, kAlignment);
    }
    writer.commit();
}

}  // namespace mc
