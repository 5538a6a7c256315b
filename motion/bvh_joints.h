// The joints of a BVH with our rigs' names, whatever axis is up in it.
//
//     std::vector<std::string> notes;
//     JointSequence joints = bvh_joints(read_bvh("walk.bvh"), "walk.bvh", &notes);
//
// Blender and others write a file with Z up where they read one with Y up, and nothing in the
// format says which. The rest pose tells, from the feet to the head, and where it does not, the
// figure.
#pragma once

#include <string>
#include <vector>

#include "motion/bvh.h"
#include "motion/joints.h"

namespace mc::motion {

// In the order of JointSequence, Y up, at the file's own rate and in its own unit. `name` stands
// for the file in messages; a line is added to `notes` if the figure had to be turned. Error if a
// joint is missing or if it remains open which way is up.
JointSequence bvh_joints(const Bvh& bvh, const std::string& name = "BVH",
                         std::vector<std::string>* notes = nullptr);

}  // namespace mc::motion
