// The generators' transformers in small.
#pragma once

#include <cstdint>

#include "models/bad/transformer.h"

namespace mc::testing {

// Of MoMask's and BAMM's configurations: the width of codes, texts and layers is one.
template <class Config>
Config tiny_transformer(int64_t layers, int64_t codes = 12, int64_t width = 8) {
    Config config;
    config.num_tokens = codes;
    config.code_dim = config.latent_dim = config.clip_dim = width;
    config.heads = 2;
    config.layers = layers;
    config.ff_size = 2 * width;
    return config;
}

// One layer of each kind, codes of 4 numbers, texts of 8; it samples as papers say, not as the
// originals' programs do.
inline bad::Config tiny_bad(int64_t block_size, int64_t codes = 12) {
    bad::Config config;
    config.nb_code = codes;
    config.block_size = block_size;
    config.code_dim = 4;
    config.embed_dim = config.clip_dim = config.word_dim = 8;
    config.heads = 2;
    config.cross_layers = config.base_layers = config.head_layers = 1;
    config.reference_sampling = false;
    return config;
}

}  // namespace mc::testing
