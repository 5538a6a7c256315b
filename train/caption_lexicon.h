// The words of pretrained/text/lexicon.json: which phrases say the same of a motion, and which
// never may be swapped.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace mc::train {

using PhraseList = std::vector<std::string>;           // phrases that say the same
using NamedLists = std::map<std::string, PhraseList>;  // by the name the file gives

struct CaptionLexicon {
    PhraseList subjects;                                   // "a person", ...: fit every segment
    PhraseList female_only;                                // not beside "his", "him"
    PhraseList male_only;                                  // not beside "her"
    PhraseList walk_only;                                  // only in category "walk"
    NamedLists roles;                                      // by category: "a dancer", ...
    std::map<std::string, std::vector<PhraseList>> verbs;  // by category, several lists each
    NamedLists adverbs, adjectives, body_parts, directions, counts, connectives, spelling;
    std::vector<std::pair<std::string, std::string>> never_swap;

    // Throws Error naming the file and the field if it is no JSON, lacks a field, or has an empty
    // list or phrase.
    static CaptionLexicon from_file(const std::string& path);
};

}  // namespace mc::train
