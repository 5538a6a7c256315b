// Sentences and what a pretrained sentence encoder makes of them, for the small text tower to learn
// from: a folder with sentences.txt, embeddings_i8.npy and embeddings_scale.npy.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace mc::train {

struct TextTeacher {
    std::vector<std::string> sentences;  // N
    int64_t width = 0;                   // E
    std::vector<int8_t> values;          // (N, E)
    std::vector<float> scales;           // (N): row i times scales[i] is of about unit length

    int64_t size() const { return static_cast<int64_t>(sentences.size()); }
    // The embeddings of these sentences, (rows, E) f32, of unit length.
    Tensor embeddings(const std::vector<int64_t>& rows) const;
};

// Throws Error naming file and cause: a file is missing or broken, counts disagree, a scale is not
// positive, a row is all zeros.
TextTeacher read_text_teacher(const std::filesystem::path& folder);

// The sentences of a file, to learn a vocabulary from: all wordings of captions (a name that ends
// in .jsonl, train/caption_book.h), else one sentence a line, empty lines left out. Throws Error if
// there is none.
std::vector<std::string> read_sentences(const std::filesystem::path& path);

}  // namespace mc::train
