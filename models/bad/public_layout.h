// BAD as its authors publish it (generators.md 7.1), for HumanML3D alone: below one folder
//
//     output/vq/vq_last.pth                               the tokenizer, MMM's architecture
//     output/t2m/trans_best_fid.pth                       the transformer
//     exit/t2m-mean.npy, exit/t2m-std.npy                 normalisation
//     checkpoints/t2m/length_estimator/model/finest.tar   MoMask's; may be missing
//
// There is no opt.txt: sizes are those of the tensors, heads are 64 wide, and the released flags
// (time_cond, z_0_attend_to_all, unmasked tokens don't attend to masked ones) are how the
// transformer is built.
#pragma once

#include "models/bad/generator.h"
#include "models/public_checkpoint.h"

namespace mc::bad {

// Everything but the text encoder. Errors as MoMask's (momask/public_layout.h); a transformer file
// brings its tokenizer's codebook too, and another one than the tokenizer's is an error.
Parts load_public_bad(const PublicLayout& layout);

}  // namespace mc::bad
