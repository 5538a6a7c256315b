// The captioned motion segments of pretrained/text/: what is said of which frames of which clip.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace mc::train {

struct CaptionedSegment {
    std::string clip;                      // id of the motion, e.g. "cmu_01_01"
    std::string file;                      // the archive that holds it, e.g. "cmu.npz"
    int from = 0, to = 0;                  // frames [from, to) of the clip, 20 a second
    std::string category;                  // "walk", "kick", ...
    std::vector<std::string> captions;     // written for this segment, at least one
    std::vector<std::string> paraphrases;  // other wordings, may be empty
    std::vector<std::string> phrasings;  // wordings shared by a group of near-repeats, may be empty
    bool bad = false;                    // the capture is faulty: leave it out of training

    // All wordings of the segment, in the order above.
    std::vector<std::string> wordings() const;
};

// Reads captions.jsonl and adds the phrasings of phrasings.jsonl (an empty path: none) to the
// segments that its groups name. Throws Error naming file and line if a line is no JSON object,
// lacks a field, has an empty or reversed frame range, repeats a segment, or names a segment that
// isn't there.
std::vector<CaptionedSegment> read_captions(const std::string& captions_path,
                                            const std::string& phrasings_path = "");

}  // namespace mc::train
