// Caption tokens to what the evaluator's text encoder takes: GloVe vectors and one-hot parts of
// speech (generators.md 10.2, motion_data.md 5).
//
//     const WordVectors glove = read_word_vectors("glove");         // the data set's 4,199 words
//     const WordFeatures f = glove.features({"a/DET", "man/NOUN", "walk/VERB"});
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "tensor/tensor.h"

namespace mc::evaluator {

inline constexpr int64_t kMaxTokens = 20;               // of a caption
inline constexpr int64_t kTextLength = kMaxTokens + 2;  // with start and end
inline constexpr int64_t kPartsOfSpeech = 15;

struct WordFeatures {
    Tensor words;        // (kTextLength, D)
    Tensor pos;          // (kTextLength, kPartsOfSpeech) one-hot
    int64_t length = 0;  // with start and end
};

class WordVectors {
  public:
    // Row i of vectors (V, D) is of words[i]. "sos", "eos" and "unk" must be among them; error if a
    // word stands twice or the numbers differ.
    WordVectors(const std::vector<std::string>& words, const Tensor& vectors);

    // Tokens "word/POS" of one caption, as the text files have them: the first kMaxTokens; start,
    // tokens, end, then "unk" to the full length. An unknown word becomes "unk" with OTHER. Error
    // for a token without exactly one slash.
    WordFeatures features(std::span<const std::string> tokens) const;

    int64_t width() const { return vectors_.size(1); }

  private:
    void put(const std::string& word, const std::string& pos, int64_t at, WordFeatures& out) const;

    std::unordered_map<std::string, int64_t> rows_;
    Tensor vectors_;  // (V, D) f32
};

// The word files of the T2M repository (github.com/EricGuo5513/text-to-motion), `glove/`:
//
//     our_vab_data.npy    (V, D) vectors
//     our_vab_words.pkl   a list of words
//     our_vab_idx.pkl     a dict from each of them to its row
//
// The pickles are read as data (tensor/formats/pickle.h): nothing in them is executed. As there,
// words of the dict that are not in the list are unknown words. Error in one line: a missing or
// broken file, values of other types, a word without a row, a row beyond the table, a number that
// is not finite, and what the constructor refuses.
WordVectors read_word_vectors(const std::filesystem::path& folder);

// The two pickles by themselves: the words, and for each its row.
struct WordRows {
    std::vector<std::string> words;
    std::vector<int64_t> rows;
};
WordRows parse_word_rows(std::span<const std::byte> words, const std::string& words_source,
                         std::span<const std::byte> rows, const std::string& rows_source);

// The class of a known word: that of the first list of place, body, object, action or description
// words that has it, else its part of speech (unlisted: OTHER).
int64_t part_of_speech(const std::string& word, const std::string& pos);

}  // namespace mc::evaluator
