// Model configurations as JSON: what checkpoints and bundles keep. Reading is strict: an unknown or
// mistyped key is an error that names it; a missing key keeps its default.
#pragma once

#include <nlohmann/json.hpp>

#include "models/bad/config.h"
#include "models/bamm/transformer.h"
#include "models/clip/text_transformer.h"
#include "models/moclip/motion_encoder.h"
#include "models/momask/config.h"
#include "models/vq/rvq_vae.h"

namespace mc {

nlohmann::json to_json(const vq::RvqConfig& config);
nlohmann::json to_json(const momask::TransformerConfig& config);
nlohmann::json to_json(const bamm::Config& config);
nlohmann::json to_json(const bad::Config& config);
nlohmann::json to_json(const clip::TextConfig& config);
nlohmann::json to_json(const moclip::MotionEncoderConfig& config);

// `source` names the file in errors.
vq::RvqConfig rvq_config(const nlohmann::json& json, const std::string& source);
momask::TransformerConfig transformer_config(const nlohmann::json& json, const std::string& source);
bamm::Config bamm_config(const nlohmann::json& json, const std::string& source);
bad::Config bad_config(const nlohmann::json& json, const std::string& source);
clip::TextConfig text_config(const nlohmann::json& json, const std::string& source);
moclip::MotionEncoderConfig motion_encoder_config(const nlohmann::json& json,
                                                  const std::string& source);

}  // namespace mc
