// The motions made for one prompt, as files: STEM.npy, STEM.bvh, ... of one motion, STEM_1.npy,
// STEM_2.npy, ... of several, and one page of all, STEM.html.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "motion/joints.h"

namespace mc::tools {

struct Take {
    motion::FeatureSequence features;
    motion::JointSequence joints;
    std::string note;  // of the page, a small line
};

// The formats of a list as "bvh, HTML,npy". Error, naming the option, if it has another or none.
std::vector<std::string> format_list(const std::string& list);

// "a person jumps, twice" -> "a_person_jumps_twice", at most 40 letters.
std::string file_stem(const std::string& prompt);

struct WrittenTakes {
    std::vector<std::filesystem::path> files;
    std::string taken;  // the file that stays, for which a number was added; "" if none
};

// Writes them in the formats asked for. No file of another motion is written over: if one with the
// name of any of these files, in any format, has other bytes than these takes', all of them are
// named STEM-2, or the next number that is free. The same takes written again have the names that
// they had. With `replace` such files become these takes', in the formats not asked for too, so
// that a name is never two motions'; `source`, the file that the takes were edited from, stays
// nevertheless. Error if a file cannot be written.
WrittenTakes write_takes(const std::filesystem::path& folder, const std::string& stem,
                         const std::string& prompt, std::span<const Take> takes,
                         const std::vector<std::string>& formats, bool replace,
                         const std::filesystem::path& source = {});

}  // namespace mc::tools
