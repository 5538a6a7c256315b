// A contact strip: a motion as a row of poses, left to right in time, to look at or to put in a
// README.
//
//     write_strip("jump.png", joints);
#pragma once

#include <string>

#include "motion/joints.h"
#include "motion/png.h"

namespace mc::motion {

struct StripOptions {
    int poses = 12;    // evenly spaced, first and last frame included; fewer if the clip is shorter
    int height = 360;  // pixels, 64 to 4096
    double yaw_degrees =
        35;  // the eye's place, turned from the front of the first pose to its left
    bool dark = false;
    bool times = true;  // seconds under each pose
};

// Left limbs are green, right limbs orange. Every pose stands in the middle of its own cell, at its
// true height above one floor line. Error as for figure_scale, or if the clip is empty, not finite,
// or options are out of range.
Image strip_image(const JointSequence& joints, const StripOptions& options = {});
void write_strip(const std::string& path, const JointSequence& joints,
                 const StripOptions& options = {});

}  // namespace mc::motion
