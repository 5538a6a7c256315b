// minGPT's pre-norm blocks of T2M-GPT, MMM, BAD and BAMM's "t2mgpt" option (generators.md 2.8, type
// B): separate projections for queries, keys and values.
#pragma once

#include "nn/layers.h"

namespace mc::nn {

// Dropout on the probabilities and after `proj`.
struct SplitAttention : Module {
    Linear key, query, value, proj;  // (D, D) each
    int64_t heads;
    double dropout_p;
    SplitAttention(int64_t width, int64_t heads, double dropout, Generator* init);
    // x (B, Lq, D), source (B, Lk, D), to both of which the maps apply; options.heads and dropout
    // are filled in here.
    Var operator()(const Var& x, const Var& source, AttentionOptions options, const Pass& pass,
                   const RowMaps& rows = {}) const;
};

struct GptMlp : Module {  // Linear, GELU, Linear, dropout
    Linear fc, out;
    double dropout_p;
    GptMlp(int64_t width, int64_t hidden, double dropout, Generator* init);
    Var operator()(const Var& x, const Pass& pass) const;
};

// x += attn(ln1 x); x += mlp(ln2 x)
struct GptBlock : Module {
    LayerNorm ln1, ln2;
    SplitAttention attn;
    GptMlp mlp;
    GptBlock(int64_t width, int64_t heads, int64_t hidden, double dropout, Generator* init);
    Var operator()(const Var& x, const AttentionOptions& options, const Pass& pass,
                   const RowMaps& rows = {}) const;  // (B, L, D) -> (B', Lq, D)
};

// x += attn(ln1 x, ln3 words); x += mlp(ln2 x)
struct GptCrossBlock : Module {
    LayerNorm ln1, ln2, ln3;
    SplitAttention attn;
    GptMlp mlp;
    GptCrossBlock(int64_t width, int64_t heads, int64_t hidden, double dropout, Generator* init);
    Var operator()(const Var& x, const Var& words, const Pass& pass) const;  // (B, L, D), (B, W, D)
};

// N(0, 0.02) for every weight of at least two dimensions but packed attention projections, zeros
// for biases: the transformers' initialisation (generators.md 2.12). Nothing without a generator.
void normal_init(Module& module, Generator* init);

}  // namespace mc::nn
