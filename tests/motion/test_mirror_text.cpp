#include <doctest/doctest.h>

#include <string>
#include <utility>
#include <vector>

#include "motion/mirror_text.h"

using mc::motion::mirror_caption;

TEST_CASE("mirror_caption exchanges sides and senses of rotation as whole words") {
    const std::vector<std::pair<std::string, std::string>> pairs = {
        {"", ""},
        {"a person walks forward.", "a person walks forward."},
        {"turns left", "turns right"},
        {"turns right, then left.", "turns left, then right."},
        {"Left foot, RIGHT hand", "Right foot, LEFT hand"},
        {"the left's the right's", "the right's the left's"},
        {"the lefts and rights", "the rights and lefts"},
        {"a left-handed throw", "a right-handed throw"},
        {"to the right-hand side", "to the left-hand side"},
        {"leftward, rightwards, leftmost", "rightward, leftwards, rightmost"},
        {"a circle clockwise", "a circle counterclockwise"},
        {"Counterclockwise!", "Clockwise!"},
        {"counter-clockwise turn", "clockwise turn"},
        {"anticlockwise, then clockwise", "clockwise, then anticlockwise"},
        {"counter-clockwise then clockwise", "clockwise then counter-clockwise"},
        {"walks upright with a bright light", "walks upright with a bright light"},
        {"cleft, leftover, righteous, copyright", "cleft, leftover, righteous, copyright"},
        {"left/NOUN right/ADJ", "right/NOUN left/ADJ"},
        {"left\xE2\x80\x99s \xE2\x80\x9Cright\xE2\x80\x9D",
         "right\xE2\x80\x99s \xE2\x80\x9Cleft\xE2\x80\x9D"},
        {"left_arm right2 \xC3\xA9left", "left_arm right2 \xC3\xA9left"},
        {"a right turn right away", "a left turn left away"},
        {"clockwise-moving", "counterclockwise-moving"},
    };
    for (const auto& [from, to] : pairs) CHECK(mirror_caption(from) == to);
}

TEST_CASE("mirroring twice gives the caption back") {
    for (const std::string caption :
         {"a man turns left, then walks clockwise with his right arm up",
          "anticlockwise, then clockwise", "left-right-left", "RIGHT",
          "counter-clockwise then clockwise"})
        CHECK(mirror_caption(mirror_caption(caption)) == caption);
}

TEST_CASE("mirror_caption passes broken bytes through") {
    const std::string broken = "\xFF left \x80right\xE2\x80";
    CHECK(mirror_caption(broken) == "\xFF right \x80right\xE2\x80");
}
