// Random rewordings of a caption that stay true of its motion, so that a model trained on few
// captions has seen more of the ways in which people put things.
//
//     const CaptionAugmenter augmenter(CaptionLexicon::from_file("pretrained/text/lexicon.json"));
//     augmenter.reword("a man walks forward slowly, then turns left", "walk", below);
//     // "someone goes on foot ahead at a slow pace, and then rotates to the left"
//
// Only phrases of the lexicon are replaced, each by another of its own list, and only where the
// words around show that it is used in that sense: "left" in "turns left" but not in "left arm",
// "back" in "the back is bent" but not in "walks back". When in doubt the phrase stays. No
// replacement crosses one of the lexicon's never-swap pairs.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "train/caption_lexicon.h"

namespace mc::train {

// A source of random numbers: uniform in [0, n), n > 0.
using RandomBelow = std::function<std::uint32_t(std::uint32_t n)>;

struct RewordOptions {
    std::uint32_t replace_percent = 50;      // of the phrases that may be replaced
    std::uint32_t add_subject_percent = 50;  // of the captions that begin with a verb phrase
};

// Immutable after construction; safe to share between threads.
class CaptionAugmenter {
  public:
    explicit CaptionAugmenter(const CaptionLexicon& lexicon, const RewordOptions& options = {});
    ~CaptionAugmenter();
    CaptionAugmenter(CaptionAugmenter&&) noexcept;
    CaptionAugmenter& operator=(CaptionAugmenter&&) noexcept;

    // A rewording of `caption`, a description of a motion of `category` (one of the lexicon's, or
    // any other word). The same draws give the same text. Words that are replaced come out in lower
    // case, the rest as it was.
    std::string reword(std::string_view caption, std::string_view category,
                       const RandomBelow& below) const;

  private:
    struct Tables;
    std::unique_ptr<const Tables> tables_;
    RewordOptions options_;
};

}  // namespace mc::train
