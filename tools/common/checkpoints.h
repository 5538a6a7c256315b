// Trained stages by the name of their run.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "models/vq/rvq_vae.h"
#include "train/checkpoint.h"

namespace mc::tools {

// A run folder stands for its best checkpoint (else its latest); a file for itself.
std::filesystem::path checkpoint_of(const std::string& run);

// A frozen tokenizer from a `train vq` run.
std::unique_ptr<vq::RvqVae> load_tokenizer(const std::string& run);

}  // namespace mc::tools
