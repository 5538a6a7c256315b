// Eight hexadecimal digits (CRC-32) that tell what a run was made with from something else: so that
// it does not go on with other data, and a transformer does not meet another tokenizer's tokens.
// Against mistakes, not against intent.
#pragma once

#include <filesystem>
#include <string>

#include "nn/module.h"

namespace mc::train {

// Of names, shapes, types and bytes; the tensors may be on any device.
std::string digest(const nn::TensorMap& tensors);

// Of a data set in HumanML3D's layout: which clips it has for training and validation, and how they
// are normalised. A file that is missing counts as empty: reading the data says so.
std::string data_digest(const std::filesystem::path& root);

}  // namespace mc::train
