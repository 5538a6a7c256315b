// A model bundle: a folder from which a generator works offline.
//
//     bundle.json                 which generator, configurations, normalisation, defaults,
//     licence,
//                                 provenance
//     text_encoder.safetensors    OpenAI's names; drops into any CLIP of its size
//     vocab.txt.gz                merges, in CLIP's own file format
//     vq.safetensors
//     masked.safetensors          or bamm.safetensors, or bad.safetensors: the base transformer
//     residual.safetensors        may be missing, and BAD has none
//     length.safetensors          may be missing, and BAMM needs none
//     motion.safetensors          MoCLIP's motion tower, which chooses among candidates; may be
//                                 missing
//
// Weights are stored in half precision (or full, where asked for) and computed in f32. Every file
// is checked before use: missing, truncated, mis-shaped and non-finite weights, and bytes that are
// not those that were written (CRC-32, in bundle.json), are one clear line each.
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "models/motion_generator.h"
#include "models/public_checkpoint.h"
#include "nn/module.h"

namespace mc {

// What may be asked of a generator, on the command line and as a bundle's default.
inline constexpr int64_t kMostSteps = 1000, kMostCandidates = 100;
inline constexpr double kMostGuidance = 100, kMostTemperature = 100;

inline constexpr int kBundleVersion = 1;

struct Bundle {
    nlohmann::json info;  // bundle.json
    std::unique_ptr<MotionGenerator> generator;
    GenerationOptions defaults;  // the options this bundle was tuned with
};

// A text encoder in place of the one that belongs to a model: CLIP for MoCLIP, or the other way.
// The bundle's motion tower, which does not belong to it, is left aside then.
struct TextChoice {
    std::filesystem::path weights, vocabulary;  // empty weights: the model's own
};

Bundle load_bundle(const std::filesystem::path& folder, const TextChoice& text = {});

// Public checkpoints ({momask,bamm,bad}/public_layout.h), which bring no text encoder: `text` names
// CLIP's or MoCLIP's, the options are the originals'.
Bundle load_public_checkpoints(const PublicLayout& layout, const TextChoice& text);

// What a bundle is written from.
struct BundleParts {
    std::string generator = "momask";                   // or bamm, bad
    std::filesystem::path text_encoder, vocabulary;     // copied (weights converted to `dtype`)
    nlohmann::json vq, base, residual, length, motion;  // configurations
    nn::TensorMap vq_weights, base_weights, residual_weights, length_weights, motion_weights;
    std::vector<double> mean, std;
    double fps = 20;
    GenerationOptions defaults;
    DType dtype = DType::f16;  // or f32: of the weights in the files
    std::string licence, provenance;
};
// Public checkpoints as such parts; licence and provenance are left to the caller.
BundleParts public_bundle_parts(const PublicLayout& layout, const TextChoice& text);

// A bundle as such parts again, for training to go on from: weights in f32, `dtype` that of the
// files, text encoder and vocabulary the bundle's own files.
BundleParts read_bundle_parts(const std::filesystem::path& folder);
bool is_bundle(const std::filesystem::path& folder);  // a folder with a bundle.json
// A generator's base transformer as bundle.json and `train` call it: masked, of momask; bamm, bad.
std::string base_stage(const std::string& generator);

// The folder appears whole: it is written beside and renamed; an existing folder is an error unless
// `replace`.
void write_bundle(const std::filesystem::path& folder, const BundleParts& parts, bool replace);

}  // namespace mc
