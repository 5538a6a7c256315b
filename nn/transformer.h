// The two transformer blocks of the published systems.
#pragma once

#include "nn/layers.h"

namespace mc::nn {

// Pre-norm residual block of CLIP and of MoCLIP's motion tower: x += attn(ln_1 x); x += mlp(ln_2
// x), QuickGELU. CLIP names its MLP mlp.c_fc / mlp.c_proj, the motion tower mlp.0 / mlp.2.
struct PreNormBlock : Module {
    struct Names {
        const char* fc;
        const char* proj;
    };
    static constexpr Names kClipNames{"c_fc", "c_proj"};
    static constexpr Names kMotionNames{"0", "2"};

    LayerNorm ln_1;
    MultiheadAttention attn;
    LayerNorm ln_2;
    struct Mlp : Module {
        Linear fc, proj;
        Mlp(int64_t width, int64_t hidden, const Names& names, Generator* init);
    } mlp;
    PreNormBlock(int64_t width, int64_t heads, int64_t hidden, const Names& names, Generator* init);
    Var operator()(const Var& x, const AttentionOptions& options,
                   const Pass& pass) const;  // (B, L, D)
};

// torch.nn.TransformerEncoderLayer, post-norm, exact GELU (generators.md 2.8, type A).
struct PostNormBlock : Module {
    MultiheadAttention self_attn;
    Linear linear1, linear2;
    LayerNorm norm1, norm2;
    double dropout_p;
    PostNormBlock(int64_t width, int64_t heads, int64_t hidden, double dropout, Generator* init);
    Var operator()(const Var& x, const AttentionOptions& options, const Pass& pass,
                   const RowMaps& rows = {}) const;  // (B, L, D) -> (B', Lq, D)
};

}  // namespace mc::nn
