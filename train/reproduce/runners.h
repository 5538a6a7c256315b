// The runners; each is beside the models it runs. Included by reproduce.cpp alone.
#pragma once

#include "train/reproduce/reproduce.h"

namespace mc::train {

void run_clip_text(Checks& checks);                    // clip.cpp
void run_moclip_motion(Checks& checks);                // moclip.cpp
void run_moclip_losses(Checks& checks);                // moclip.cpp
void run_moclip_train(Checks& checks);                 // moclip_train.cpp
void run_momask_mask_transformer(Checks& checks);      // momask.cpp
void run_momask_generate(Checks& checks);              // momask.cpp
void run_momask_residual_transformer(Checks& checks);  // momask.cpp
void run_momask_residual_generate(Checks& checks);     // momask.cpp
void run_momask_length_estimator(Checks& checks);      // momask.cpp
void run_momask_rvq(Checks& checks);                   // vq.cpp
void run_momask_rvq_train(Checks& checks);             // vq.cpp
void run_bamm_transformer(Checks& checks);             // bamm.cpp
void run_bamm_generate(Checks& checks);                // bamm.cpp
void run_bad_vqvae(Checks& checks);                    // bad.cpp
void run_bad_quantizer_train(Checks& checks);          // bad.cpp
void run_bad_transformer(Checks& checks);              // bad.cpp
void run_bad_generate(Checks& checks);                 // bad.cpp
void run_schedules(Checks& checks);                    // schedules.cpp
void run_motion_features(Checks& checks);              // motion_features.cpp
void run_t2m_evaluator(Checks& checks);                // evaluator.cpp
void run_metrics(Checks& checks);                      // evaluator.cpp

// tokenizer.cpp: JSON lines, one text each.
CaseResult run_tokenizer(const std::filesystem::path& path, const ReproduceOptions& options);

}  // namespace mc::train
