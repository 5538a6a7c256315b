// Sizes of BAD's transformer (generators.md 6.3, 7.1, 7.2).
#pragma once

#include <cstdint>

namespace mc::bad {

struct Config {
    int64_t nb_code = 8192, code_dim = 32;  // of the tokenizer
    int64_t embed_dim = 1024, heads = 16, ff_rate = 4;
    int64_t cross_layers = 2;  // over the word features
    int64_t base_layers = 7;   // self-attention blocks in trans_base
    int64_t head_layers = 9;   // and in trans_head
    int64_t block_size = 52;   // two conditions and the tokens, the end among them
    int64_t clip_dim = 512;    // width of the sentence's embedding
    int64_t word_dim = 512;    // width of a word's
    double dropout = 0.1;
    // Sampling as the original has it: a single motion stops early or late by an operator's
    // precedence (QUIRK Q32), the last token is visible to all from the start (Q34), and the mask
    // only grows (Q35). Off: steps as they were meant, and the mask of training at every step.
    bool reference_sampling = true;
    int64_t tokens() const { return block_size - 2; }  // of a sequence, the end among them
};

}  // namespace mc::bad
