// Joint positions in, an animated skeleton out: what BVH and glTF need and what features lack.
//
//     RigMotion rig = fit_rig(joints);            // rotations, the figure's own proportions
//     std::string file = format_bvh(rig_to_bvh(rig));  // motion/rig_bvh.h, motion/bvh.h
//     JointSequence again = rig_joints(rig);       // forward kinematics, to see what was lost
//
// The rest pose is a T-pose facing +Z with the left side at +X; a rotation of zero everywhere gives
// it. Bones have the mean length they have in the clip. How rotations are found:
// - Joints with one child: the bone is aimed at the child's target from where the joint came to be,
// so
//   errors do not add up along a limb. With constant bone lengths that is exact.
// - Upper arms and thighs: so that wrists and ankles come to their targets as far as the mean
//   lengths reach, to within a centimetre or two that keep elbows and knees from snapping straight.
//   These bend to the side to which they do in the clip.
// - Joints with several children (pelvis, chest): the least-squares rotation (Horn 1987, unit
//   quaternions) of the clip's own mean shape of that joint, so it is exact when the clip is rigid
//   there. It knows no heading, hence no flips when the figure faces away or turns round.
// - Twist, which positions do not determine: upper arms and thighs turn until elbow and knee are
// hinges,
//   where the bend shows it; in between the twist is interpolated over time. The spine shares the
//   twist between pelvis and chest. All else follows its parent by the shortest arc.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "motion/joints.h"
#include "motion/quaternion.h"

namespace mc::motion {

// Order of Euler angles in a file, left to right; the first is outermost.
enum class EulerOrder : uint8_t { kYxz, kZxy, kZyx };

struct RigJoint {
    const char* name;
    int source;        // index in JointSequence
    int parent;        // index in the rig, less than the joint's own; -1 for the root
    Vec3 rest;         // from the parent in the rest pose, metres
    Vec3 flex;         // upper arm, thigh: where the lower bone swings to when it bends; else zero
    Vec3 end;          // leaf: from the joint to its tip, metres; else zero
    EulerOrder order;  // keeps the usual poses far from gimbal lock: the middle angle is the twist
};

// The rig for 22 (HumanML3D) or 21 (KIT) joints, depth first. Names and rest offsets of the former
// are those of MoMask's template (motion_data.md, 12.2). Error for any other number.
std::span<const RigJoint> rig_for_joints(int64_t joints);

struct RigMotion {
    std::span<const RigJoint> rig;  // (J)
    std::vector<Vec3> offsets;      // (J), from the parent in the rest pose: the clip's proportions
    std::vector<Vec3> ends;         // (J), tips of the leaves
    int64_t frames = 0;
    double fps = 0;
    std::vector<Vec3> root;  // (frames), position of the root
    std::vector<Quat>
        local;  // (frames, J), relative to the parent; q and -q chosen to be continuous

    int64_t joints() const { return static_cast<int64_t>(rig.size()); }
    const Quat& rotation(int64_t frame, int64_t joint) const {
        return local[static_cast<size_t>(frame * joints() + joint)];
    }
};

// Error if there is no frame, the sizes do not agree or a number is not finite (names frame and
// joint).
RigMotion fit_rig(const JointSequence& joints);

// MoMask's converter (motion_data.md, 12.2; generators.md, 9.4): the template's bone lengths and
// `iterations` sweeps of averaged swings. Positions change; for comparison with the published
// tools. 22 joints only.
RigMotion fit_template_rig(const JointSequence& joints, int iterations = 100);

// All lengths times `factor`: another unit.
RigMotion scaled(RigMotion motion, double factor);

// fit_rig in metres, as files for other programs are: KIT's joints are in millimetres.
RigMotion fit_rig_in_metres(const JointSequence& joints);

// Forward kinematics, joints in the order of JointSequence.
JointSequence rig_joints(const RigMotion& motion);

}  // namespace mc::motion
