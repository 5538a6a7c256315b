// GLB (binary glTF 2.0): the animated skeleton with a body on it, for Blender, engines and web
// viewers.
//
//     write_text_file("jump.glb", encode_glb(fit_rig(joints), "a person jumps"));
//
// One file, metres, Y up: a node a joint (the rest pose is ik.h's T-pose, standing on y = 0), one
// animation of the root's translation and of the joints' rotations, and a skinned mesh of the
// figure's bodies in three materials (middle, left, right). The whole path is lifted so that the
// lowest sole of the clip, not its lowest joint, is on y = 0, where the web page draws its floor.
#pragma once

#include <string>

#include "motion/ik.h"

namespace mc::motion {

// The bytes of the file; lengths in metres. Error if the motion has no frame or is not finite.
std::string encode_glb(const RigMotion& motion, const std::string& caption = "");

}  // namespace mc::motion
