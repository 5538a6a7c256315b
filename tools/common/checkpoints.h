// Trained stages by the name of their run, or of a bundle that they are part of.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "models/vq/rvq_vae.h"
#include "motion/statistics.h"
#include "train/checkpoint.h"

namespace mc::tools {

// A run folder stands for its best checkpoint (else its latest); a file for itself.
std::filesystem::path checkpoint_of(const std::string& run);

struct TrainedStage {
    std::string source;     // the file or folder, for messages
    nlohmann::json config;  // its run's settings; of a bundle's stage "model" alone
    nn::TensorMap weights;  // f32
    // What a tokenizer's motions are normalised with, if that is not its data set's: a bundle's.
    std::optional<motion::Normalisation> normalisation;
};

// `where`: a run folder, a checkpoint or a bundle; `stage`: vq, masked, residual, bamm, bad,
// length. Error, naming `where`, if it has no such stage.
TrainedStage read_stage(const std::string& where, const std::string& stage);

// Of a run that begins from a bundle's tokenizer, in its settings.
inline constexpr const char* kNormalisationKey = "normalisation";
nlohmann::json normalisation_settings(const motion::Normalisation& normalisation);

// A frozen tokenizer.
std::unique_ptr<vq::RvqVae> make_tokenizer(const TrainedStage& stage);

}  // namespace mc::tools
