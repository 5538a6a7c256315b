// BAMM as its authors publish it (generators.md 4.1): below one folder
//
//     log/t2m/t2m/2024-02-14-14-27-29_8_GPT_officialTrans_2iterPrdictEnd/{opt.txt,
//     model/latest.tar} log/vq/t2m/rvq_nq6_dc512_nc512_noshare_qdp0.2/...     a copy of MoMask's
//     tokenizer checkpoints/t2m/tres_nlayer8_ld384_ff1024_rvq6ns_cdp0.2_sw/...    MoMask's residual
//     transformer
//
// Of the base transformer's opt.txt the tokenizer's name is used (vq_name) and, where they are, the
// heads (n_heads); its sizes are those of its tensors.
#pragma once

#include "models/bamm/generator.h"
#include "models/public_checkpoint.h"

namespace mc::bamm {

// Everything but the text encoder. Errors as MoMask's (momask/public_layout.h).
Parts load_public_bamm(const PublicLayout& layout);

}  // namespace mc::bamm
