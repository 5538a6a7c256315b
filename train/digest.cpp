#include "train/digest.h"

#include <fmt/format.h>
#include <zlib.h>

#include <fstream>
#include <iterator>

namespace mc::train {
namespace {

class Digest {
  public:
    void add(const void* data, size_t bytes) {
        crc_ = crc32_z(crc_, static_cast<const Bytef*>(data), bytes);
    }
    void add(const std::string& text) { add(text.c_str(), text.size() + 1); }
    std::string hex() const { return fmt::format("{:08x}", crc_); }

  private:
    uLong crc_ = 0;
};

}  // namespace

std::string digest(const nn::TensorMap& tensors) {
    Digest of;
    for (const auto& [name, tensor] : tensors) {
        const Tensor here = tensor.cpu().contiguous();
        of.add(name + " " + name_of(here.dtype()) + " " + here.shape().str());
        of.add(here.raw_ptr(), static_cast<size_t>(here.numel()) * size_of(here.dtype()));
    }
    return of.hex();
}

std::string data_digest(const std::filesystem::path& root) {
    Digest of;
    for (const char* name : {"train.txt", "val.txt", "Mean.npy", "Std.npy"}) {
        std::ifstream in(root / name, std::ios::binary);
        of.add(name);
        of.add(std::string{std::istreambuf_iterator<char>(in), {}});
    }
    return of.hex();
}

}  // namespace mc::train
