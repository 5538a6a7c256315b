// The caption of a mirrored motion: left and right change places, and so do the senses of rotation.
//
//     mirror_caption("turns left, then walks counterclockwise")  ->  "turns right, then walks
//     clockwise"
//
// Source: the naming of HumanML3D's mirrored twins; its generating script is not public, so the
// rule is the one its texts show (whole words, also plural, possessive and hyphenated). "right" in
// the sense of "at once" or "correct" is exchanged there too, and so here.
#pragma once

#include <string>
#include <string_view>

namespace mc::motion {

// The caption with every whole word left<->right, clockwise<->counterclockwise exchanged.
// "anticlockwise" becomes "clockwise", and "clockwise" becomes "anticlockwise" if the caption says
// "anticlockwise" elsewhere, so mirroring twice gives the caption back, unless it uses both words
// for the same sense. Forms kept: capitals (left, Left, LEFT), plurals and possessives (lefts,
// left's), compounds with a hyphen (left-handed, counter-clockwise) and left-/right- with -ward,
// -wards, -most, -hander(s), -handed, -handedly, -ies, -y, -ist(s), -footed. Any bytes pass through
// unchanged otherwise; never throws.
std::string mirror_caption(std::string_view caption);

}  // namespace mc::motion
