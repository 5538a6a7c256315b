// Which joints make up which part of the body, and which parts attend to each other (moclip.md 3.2,
// 8).
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace mc::moclip {

// Joints of each part, in the order that weights depend on. Joint 0 is the root; the others are the
// skeleton's (motion/skeleton.h).
using PartTable = std::vector<std::vector<int>>;

// t2m8_compat: the published table, whose "feet" are a foot and a forearm (8 11 18 20); t2m8_fixed:
// 8 11 7 10; t2m6: the first six parts; kit8, kit6. Error for another name, with those there are.
PartTable part_table(const std::string& name);

// What is wrong with a table of one's own, in one line; empty if nothing. Each of 22 or 21 joints
// is in a part, in some perhaps more than one; no part is empty or has a joint twice.
std::string problem_of(const PartTable& parts);
int64_t joints_of(const PartTable& parts);  // those it is of: 22 or 21

// The table of the same parts on the other skeleton, where `name` is not of `joints` already: t2m6
// and kit6, t2m8_compat or t2m8_fixed and kit8 (whose counterpart is t2m8_compat).
std::string table_for_joints(const std::string& name, int64_t joints);

// Pairs of parts that may attend to each other besides themselves, for the first six parts of a
// table (root, torso, right arm, left arm, right leg, left leg): "skeleton" (bones alone), "pairs"
// (and arm-arm, leg-leg), "all4" (and the four extremities mutually). Error for another name.
using LimbEdges = std::vector<std::pair<int, int>>;
LimbEdges limb_edges(const std::string& name);

}  // namespace mc::moclip
