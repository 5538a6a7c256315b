// One web page that plays motions: no network, no library, no file beside it.
//
//     const ViewerMotion motions[] = {{"a person jumps", "seed 1", joints}};
//     write_text_file("jump.html", viewer_page(motions));
//
// The page draws its figure itself on a 2-D canvas, so it needs no WebGL. Opened as
// page.html?selftest it drives itself and leaves PASS or FAIL in its title
// (tests/page/check_page.sh); `window.viewer` is for scripts: play(), pause(), seek(frame),
// select(motion), frame, frames. ?theme=light|dark, ?frame=N and ?yaw=degrees choose what it shows
// first.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "motion/joints.h"

namespace mc::motion {

struct ViewerMotion {
    std::string caption;   // shown as it is; any text, also "</script>"
    std::string note;      // a small line below it, e.g. model and seed; may be empty
    JointSequence joints;  // 22 or 21 joints
};

// Error if there is no motion, a motion has no frame, is not finite, or has other numbers of
// joints. Positions are kept to 1/65535 of the largest extent of the clip (0.05 mm on 3 m).
std::string viewer_page(std::span<const ViewerMotion> motions);

}  // namespace mc::motion
