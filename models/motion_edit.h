// Making a part of a motion anew and leaving the rest as it is (generators.md 3.7): which tokens a
// generator makes, and how what it made is put back.
#pragma once

#include "models/motion_generator.h"
#include "models/vq/rvq_vae.h"
#include "motion/statistics.h"

namespace mc {

// The residual transformer's in an edit, whatever the options say (generators.md 3.7).
inline constexpr double kEditResidualGuidance = 2;

// Throws unless the source is a motion of `max_tokens` at most and each range lies in its whole
// tokens of `unit` frames.
void check_edit(const MotionEdit& edit, int64_t unit, int64_t max_tokens);

// (n) with n = source.frames / unit: whether a token holds a frame that is made anew.
std::vector<bool> edited_tokens(const MotionEdit& edit, int64_t unit);

// The source's tokens (1, n, Q) i64, -1 where they are to be made anew. Error, with `who` for its
// beginning, if the motion is not of the tokenizer's features, else as check_edit.
Tensor kept_ids(const MotionEdit& edit, const vq::RvqVae& tokenizer,
                const motion::Normalisation& normalisation, int64_t max_tokens,
                const std::string& who);

// The source with its edited frames taken from `made` (rows (4n, D) of the same motion). Every
// other row keeps its bits. Where an edit meets the source, the difference of the last kept row
// fades out over a few frames, for a tokenizer does not give the kept rows back exactly.
motion::FeatureSequence splice(const MotionEdit& edit, const motion::FeatureSequence& made);

}  // namespace mc
