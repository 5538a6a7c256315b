// Settings of the motion stages: `small` for two CPU cores and a small data set, `humanml3d` with
// the originals' sizes and recipes (generators.md 2.11, 3.1), and the step from settings to
// options.
#pragma once

#include <nlohmann/json.hpp>
#include <vector>

#include "train/bad_stage.h"
#include "train/bamm_stage.h"
#include "train/config.h"
#include "train/momask_stages.h"
#include "train/vq_stage.h"

namespace mc::train {

const std::vector<Preset>& vq_presets();
const std::vector<Preset>& masked_presets();
const std::vector<Preset>& residual_presets();
const std::vector<Preset>& length_presets();
const std::vector<Preset>& bamm_presets();
const std::vector<Preset>& bad_presets();

VqStageOptions vq_stage_options(const nlohmann::json& config, const std::string& data);
TokenStageOptions token_stage_options(const nlohmann::json& config, const std::string& data);
BammStageOptions bamm_stage_options(const nlohmann::json& config, const std::string& data);
BadStageOptions bad_stage_options(const nlohmann::json& config, const std::string& data);

// Steps, rate, clipping and the rest of the loop, for any of the above.
LoopOptions loop_options(const nlohmann::json& config, const std::filesystem::path& out);

}  // namespace mc::train
