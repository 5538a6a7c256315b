// MoCLIP: a CLIP text tower with a motion tower under `motion.` and the scale (or matrix) of the
// similarity. State-dict names are those that the public training script writes (moclip.md 6).
#pragma once

#include "models/clip/text_transformer.h"
#include "models/moclip/motion_encoder.h"

namespace mc::moclip {

struct MoClipConfig {
    clip::TextConfig text;
    MotionEncoderConfig motion;
    bool matrix_scale = false;  // paper: a matrix W (E, E) instead of the scalar
};

struct MoClip : nn::Module {
    clip::TextTransformer text;
    MotionEncoder motion;
    Var logit_scale;   // () ln(1 / 0.07)
    Var logit_matrix;  // (E, E), exp(logit_scale) I; undefined without matrix_scale
    MoClip(const MoClipConfig& config, Generator* init);

    // Sets the scalar, and the matrix to exp(log_scale) I.
    void set_scale(double log_scale);
    Var similarity_loss(const Var& zm,
                        const Var& zs) const;  // contrastive, with whichever scale there is
};

}  // namespace mc::moclip
