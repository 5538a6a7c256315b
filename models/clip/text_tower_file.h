// CLIP's text tower from the files it is published in (clip_text.md 3): OpenAI's names or Hugging
// Face's, below any prefix ("module.", "clip_model.", "state_dict.text.", ...), in safetensors or
// any of PyTorch's formats, fp16 or fp32, at any size.
//
//     TextTowerFile tower = read_text_tower("ViT-B-32.pt");
//     tower.config.width;                       // from the shapes
//     tower.state.at("ln_final.weight");        // OpenAI's names
#pragma once

#include <filesystem>

#include "models/clip/text_transformer.h"
#include "tensor/formats/safetensors.h"

namespace mc::clip {

struct TextTowerFile {
    TextConfig config;
    nn::TensorMap state;                // the text tower's tensors alone, OpenAI's names, as stored
    std::optional<double> logit_scale;  // ln of the similarity's scale, if the file has it
};

// The number of heads is the metadata `heads` of a safetensors file, else width / 64. Throws Error
// in one line: no readable file, not a text tower or more than one, sizes that disagree, a tensor
// with NaN or infinity.
TextTowerFile read_text_tower(const std::filesystem::path& path);

// The text tower of a state dict, under OpenAI's names; `source` stands for it in errors.
TextTowerFile text_tower_of(const NamedTensors& tensors, const std::string& source);

}  // namespace mc::clip
