// A rig's motion as a BVH, and the joints of a BVH with our rigs' names, whatever axis is up in it.
//
//     write_text_file("jump.bvh", format_bvh(rig_to_bvh(fit_rig(joints))));
//     std::vector<std::string> notes;
//     JointSequence again = bvh_joints(read_bvh("jump.bvh"), "jump.bvh", &notes);
//
// Blender and others write a file with Z up where they read one with Y up, and nothing in the
// format says which. The rest pose tells, from the feet to the head, and where it does not, the
// figure.
#pragma once

#include <string>
#include <vector>

#include "motion/bvh.h"
#include "motion/ik.h"
#include "motion/joints.h"

namespace mc::motion {

// Euler angles are unwrapped: a figure that turns twice ends at 720 degrees. With one_order all
// joints are written Z Y X, for readers that know no other order, at the price of gimbal lock
// sideways.
Bvh rig_to_bvh(const RigMotion& motion, bool one_order = false);

// Joints in the order of JointSequence, Y up, at the file's own rate and in its own unit. `name`
// stands for the file in messages; a line is added to `notes` if the figure had to be turned. Error
// if a joint is missing or if it remains open which way is up.
JointSequence bvh_joints(const Bvh& bvh, const std::string& name = "BVH",
                         std::vector<std::string>* notes = nullptr);

}  // namespace mc::motion
