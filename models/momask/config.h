// Sizes of MoMask's two transformers (generators.md 3.1).
#pragma once

#include <cstdint>

namespace mc::momask {

struct TransformerConfig {
    int64_t num_tokens = 512;    // codes a book
    int64_t num_quantizers = 6;  // residual transformer alone
    int64_t code_dim = 512;      // width of token embeddings
    int64_t latent_dim = 384, heads = 6, layers = 8, ff_size = 1024;
    int64_t clip_dim = 512;  // width of the text embedding
    double dropout = 0.2;
    double cond_drop_prob = 0.1;  // 0.2 for the residual transformer
};

}  // namespace mc::momask
