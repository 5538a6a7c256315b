// Which generator a program runs: a bundle of ours or public checkpoints, with a text encoder of
// the user's choice.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "models/bundle.h"
#include "tools/common/sampling.h"

namespace mc::tools {

struct ModelChoice : SamplingChoice {  // in place of the bundle's defaults
    std::string bundle, checkpoints, text_encoder, vocab, masked_name, residual_name;
    std::string generator;                // what the bundle has to be of; "" for any
    std::string precision = "fp32";       // or int16, bf16, fp16, of products with weights
    DeviceType device = DeviceType::cpu;  // that computes
};

// The options --bundle, --text-encoder, --checkpoints, --masked-name, --residual-name, --vocab,
// --generator, --precision and those of sampling. What takes no model excludes the two that name
// one.
struct ModelOptions {
    CLI::Option *bundle, *checkpoints;
};
ModelOptions add_model_options(CLI::App& app, ModelChoice& choice);

// The bundle or the public checkpoints that the options name; without any, pretrained/default, or
// the bundle in the tree of the generator asked for.
Bundle open_bundle(const ModelChoice& choice);
// For headings: the folder that open_bundle reads.
std::string name_of(const ModelChoice& choice);

}  // namespace mc::tools
