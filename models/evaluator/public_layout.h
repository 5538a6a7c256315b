// The evaluator as its authors publish it (github.com/EricGuo5513/text-to-motion; generators.md
// 10.1 to 10.3), in the folders that MoMask, T2M-GPT and the other systems unpack it into:
//
//     checkpoints/t2m/text_mot_match/model/finest.tar       the networks
//     checkpoints/t2m/Comp_v6_KLD005/meta/{mean,std}.npy    the statistics it was trained with
//     glove/our_vab_{data.npy,words.pkl,idx.pkl}            word vectors (word_vectors.h)
//
//     const PublicEvaluator public_one = load_public_evaluator("checkpoints/t2m", "glove");
//     Tensor motion = ...;   // (B, T, D) normalised with public_one.normalisation
//     public_one.model->motion_embeddings(motion, frames);
#pragma once

#include <filesystem>
#include <memory>

#include "models/evaluator/evaluator.h"
#include "models/evaluator/word_vectors.h"
#include "motion/statistics.h"

namespace mc::evaluator {

struct PublicEvaluator {
    std::filesystem::path weights;  // the file that was read
    std::unique_ptr<Evaluator> model;
    motion::Normalisation normalisation;  // its own, which need not be the data set's
    WordVectors words;
};

// From `folder`, which holds text_mot_match/ (or model/finest.tar itself). The statistics are in
// meta/ of one of the authors' runs: Comp_v6_KLD005 (MoMask's package), Comp_v6_KLD01 (T2M's),
// VQVAEV3_CB1024_CMT_H1024_NRES3 (T2M-GPT's); or in meta/. `glove` is the folder of the word
// vectors; if empty, folder/glove, or the one beside checkpoints/. Error in one line: what is
// missing or broken, and parts that do not fit together.
PublicEvaluator load_public_evaluator(const std::filesystem::path& folder,
                                      const std::filesystem::path& glove = {});

// The networks alone: a file of any container that load_tensors reads, with the three state dicts
// movement_encoder, text_encoder and motion_encoder. Sizes are those of the file's tensors; what
// else it holds (optimisers) is passed over. Error: no such checkpoint, missing and mis-shaped
// tensors (all of them), a NaN.
std::unique_ptr<Evaluator> load_evaluator(const std::filesystem::path& file);

}  // namespace mc::evaluator
