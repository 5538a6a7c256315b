// Learns a byte-pair vocabulary from sentences, for models that are trained here and carry their
// own.
//
//     BpeLearner learner;
//     for (const std::string& caption : captions) learner.add(caption);
//     write_merges("vocab.txt.gz", learner.learn(8000));
//     const auto tokenizer = Tokenizer::from_file("vocab.txt.gz");
//
// Source: Sennrich et al. 2016 (subword-nmt) on CLIP's pieces: sentences are cleaned and split as
// for encoding (the special literals as text), equal pieces are counted, and the most frequent pair
// of neighbouring symbols is merged again and again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "models/clip/text_cleaning.h"

namespace mc::clip {

// One merge as the file spells it: symbols of the byte alphabet, "</w>" at a word's end.
using SpelledMerge = std::pair<std::string, std::string>;

class BpeLearner {
  public:
    explicit BpeLearner(const CleaningOptions& options = {}) : options_(options) {}

    // Counts the pieces of a sentence `times` times.
    void add(std::string_view sentence, std::uint64_t times = 1);

    std::size_t distinct_pieces() const { return counts_.size(); }

    // At most `merges` merges, most frequent pair first; fewer if no pair occurs `min_count` times
    // any more. Equal counts are decided by the symbols' ids, smaller left first, then smaller
    // right, so the result depends on the counted pieces alone and not on the order of sentences.
    // Throws Error if not even one pair can be merged.
    std::vector<SpelledMerge> learn(std::size_t merges, std::uint64_t min_count = 2) const;

  private:
    CleaningOptions options_;
    std::unordered_map<std::string, std::uint64_t> counts_;  // by piece
};

// The text of a merge file: CLIP's header line, then one merge a line.
std::string merges_to_text(const std::vector<SpelledMerge>& merges);

// Writes a merge file, atomically; gzip if `path` ends in ".gz". Throws Error if it cannot.
void write_merges(const std::string& path, const std::vector<SpelledMerge>& merges);

}  // namespace mc::clip
