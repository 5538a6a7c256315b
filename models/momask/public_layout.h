// MoMask as its authors publish it (generators.md 3.1): a folder of named runs, each with opt.txt
// and model/*.tar, the tokenizer's also with meta/{mean,std}.npy.
//
//     checkpoints/t2m/rvq_nq6_dc512_nc512_noshare_qdp0.2/...
//     checkpoints/t2m/t2m_nlayer8_nhead6_ld384_ff1024_cdp0.1_rvq6ns/...
//     checkpoints/t2m/tres_nlayer8_ld384_ff1024_rvq6ns_cdp0.2_sw/...
//     checkpoints/t2m/length_estimator/model/finest.tar
//
// Runs are recognised by their opt.txt, not by their names; the tokenizer is the one that the
// masked transformer names.
#pragma once

#include <filesystem>

#include "models/momask/generator.h"
#include "models/public_checkpoint.h"

namespace mc::momask {

// Everything but the text encoder; `checkpoints` is the folder above t2m/ or kit/, or one of these.
// Error in one line: no such layout, several runs of a kind and none chosen, a checkpoint of
// another system, missing and mis-shaped tensors (all of them), a tensor with NaN.
Parts load_public_momask(const PublicLayout& layout);

// Its parts that BAMM and BAD use too, from `dataset`, the folder with the runs in it.
struct PublicTokenizer {
    std::string name;  // of its run
    std::unique_ptr<vq::RvqVae> model;
    motion::Normalisation normalisation;
    double fps = 20;
};
// An empty name: the only one.
PublicTokenizer load_public_tokenizer(const std::filesystem::path& dataset,
                                      const std::string& name);
std::unique_ptr<ResidualTransformer> load_public_residual(const std::filesystem::path& dataset,
                                                          const std::string& name,
                                                          const PublicTokenizer& tokenizer);
std::unique_ptr<LengthEstimator> load_public_length(
    const std::filesystem::path& dataset);  // or null

}  // namespace mc::momask
