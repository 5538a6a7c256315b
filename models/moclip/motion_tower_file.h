// MoCLIP's motion tower from the files it is in (moclip.md 6): what `moclip_train` writes, whose
// metadata has its configuration, and what the public training script writes, a state dict whose
// shapes tell the most of it, below any prefix ("motion.", "module.motion.", ...), in safetensors
// or any of PyTorch's formats, fp16 or fp32, at any size.
//
//     MotionTowerFile file = read_motion_tower("moCLIP_l04_t2m.pth");
//     MotionEncoder tower(file.config, nullptr);
//     tower.load(file.state);
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

#include "models/moclip/motion_encoder.h"
#include "tensor/formats/safetensors.h"

namespace mc::moclip {

struct MotionTowerFile {
    MotionEncoderConfig config;
    nn::TensorMap state;                // all of a MotionEncoder's of `config`
    std::vector<std::string> warnings;  // on tensors that no motion tower has; left out
};

// `given`: keys of a motion tower's configuration (models/config_json.h) for what a state dict does
// not tell. Unless it says otherwise that is as in MotionEncoderConfig::reference(), heads are 12
// where they divide the width, else width / 64, and the part table is that with as many joints in
// each part: t2m8_compat, t2m6, kit8 or kit6. A table of positions within 1e-5 of the formula's is
// left out; another is used as it is, as a learned one. The pooling's attention, which the public
// program never calls, may be missing. Throws Error in one line: no readable file, no motion tower
// or more than one, missing or mis-shaped tensors, parts that no table has and `given` neither, a
// NaN, anything `given` to a file that has its configuration.
MotionTowerFile read_motion_tower(const std::filesystem::path& path,
                                  const nlohmann::json& given = nlohmann::json::object());

}  // namespace mc::moclip
