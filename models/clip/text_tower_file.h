// CLIP's text tower from the files it is published in (clip_text.md 3): OpenAI's names or Hugging
// Face's, below any prefix ("module.", "clip_model.", "state_dict.text.", ...), in safetensors or
// any of PyTorch's formats, fp16 or fp32, at any size.
//
//     TextTowerFile tower = read_text_tower("ViT-B-32.pt");
//     tower.config.width;                       // from the shapes
//     tower.state.at("ln_final.weight");        // OpenAI's names
//
// and into the files that other programs read:
//
//     write_safetensors("text.safetensors",
//                       text_tower_tensors(tower, {TextLayout::hugging_face}, DType::f32));
//     replace_text_tower("ViT-B-32.pt", tower, "MoCLIP-ViT-B-32.pt");
#pragma once

#include <filesystem>

#include "models/clip/text_transformer.h"
#include "tensor/formats/safetensors.h"

namespace mc::clip {

struct TextTowerFile {
    TextConfig config;
    nn::TensorMap state;                // the text tower's tensors alone, OpenAI's names, as stored
    std::optional<double> logit_scale;  // ln of the similarity's scale, if the file has it
    StringMap metadata;                 // of a safetensors file
};

// The number of heads is the metadata `heads` of a safetensors file, else width / 64. Throws Error
// in one line: no readable file, not a text tower or more than one, sizes that disagree, a tensor
// with NaN or infinity.
TextTowerFile read_text_tower(const std::filesystem::path& path);

// The text tower of a state dict, under OpenAI's names; `source` stands for it in errors.
TextTowerFile text_tower_of(const NamedTensors& tensors, const std::string& source);

enum class TextLayout { openai, hugging_face };

// Whose names a state dict has, and what stands before each.
struct TextNames {
    TextLayout layout = TextLayout::openai;
    std::string prefix;
};

// The tower and, if it has one, its logit_scale under these names. f32: all of them. f16: what
// OpenAI's files have in half, the weights of linear layers; embeddings and norms stay f32.
// Error: another dtype, a weight that half precision cannot hold, a number of heads that is not
// width / 64, from which readers of these layouts take it.
NamedTensors text_tower_tensors(const TextTowerFile& tower, const TextNames& names, DType dtype);

// The file `whole` (any that text_tower_of reads) as `out`, its text tower replaced by `tower` and
// all else kept: image tower, logit_scale, names, types, of a PyTorch zip also its code and values.
// `out` is in the format of `whole`. Atomic. Error: towers of different sizes, a PyTorch file of
// before 1.6.
void replace_text_tower(const std::filesystem::path& whole, const TextTowerFile& tower,
                        const std::filesystem::path& out);

}  // namespace mc::clip
