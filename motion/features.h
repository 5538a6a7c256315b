// Joints to features and back: the 263 (HumanML3D) or 251 (KIT-ML) numbers a frame that generators
// speak. Source: motion_data.md 9 and 10, which restates EricGuo5513/HumanML3D.
//
//     const Skeleton& s = humanml3d_skeleton();
//     FeatureSequence f = motion_features(joints);            // process + extract: (N-1, 263) from
//     (N, 22, 3) JointSequence again = joints_from_features(f);          // (N-1, 22, 3)
//
// All arithmetic is in double; inputs and outputs are float. One frame's row needs the next frame,
// so N frames give N-1 rows; the last row's velocities let frame N-1 be rebuilt
// (rebuild_last_frame).
//
// NOTE [ Root heading ] The inverse kinematics of the reference reads the face joints as (left hip,
// right hip, ...) although the table lists the right hip first. Its across vector is therefore
// (left - right hip) + (right - left shoulder): the hips enter with the wrong sign. All public data
// and weights were made so, and so do we. The canonical heading of frame 0 (process, step 4) uses
// the consistent sign. The heading of frame 0 is then overwritten by the identity in the inverse
// kinematics, so row 0 carries a jump.
//
// Errors (mc::Error, one line): wrong joint or column count, NaN or Inf (with frame and joint), too
// few frames, bones or across vectors of zero length.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "motion/joints.h"
#include "motion/skeleton.h"

namespace mc::motion {

// Throws unless the sequence has the skeleton's joints, at least `min_frames` frames, and only
// finite numbers. `source` (a file or clip name) begins the message.
void check_joints(const JointSequence& joints, const Skeleton& skeleton, int64_t min_frames = 1,
                  const std::string& source = "joints");
void check_features(const FeatureSequence& features, const std::string& source = "features");

// Lengths of the bones (J), root 0, in one frame.
std::vector<double> bone_lengths(const JointSequence& joints, const Skeleton& skeleton,
                                 int64_t frame = 0);

// Local rotations by inverse kinematics (10.1, 10.2): (N, J) in row order; joint 0 is the root
// heading. `smooth` filters the heading with a Gaussian along time (sigma 20 frames), as feature
// extraction does.
std::vector<Quat> inverse_kinematics(const JointSequence& joints, const Skeleton& skeleton,
                                     bool smooth);
// Positions from rotations (N, J), root positions (N) and offsets (J): 10.2.
JointSequence forward_kinematics(std::span<const Quat> rotations, std::span<const Vec3> roots,
                                 std::span<const Vec3> offsets, const Skeleton& skeleton);

// Process, 10.3. Step 1: scaled by the legs, bone directions kept, lengths replaced by those of
// `offsets` (J).
JointSequence uniform_skeleton(const JointSequence& joints, const Skeleton& skeleton,
                               std::span<const Vec3> offsets);
// Steps 2 to 4: on the floor, at the origin, facing +Z in frame 0.
JointSequence canonicalise(const JointSequence& joints, const Skeleton& skeleton);
// All four, with the skeleton's own target offsets, or with those of the clip's first frame where
// the skeleton has none (KIT): its lengths are then kept.
JointSequence process(const JointSequence& joints, const Skeleton& skeleton);
JointSequence process(const JointSequence& joints, const Skeleton& skeleton,
                      std::span<const Vec3> offsets);

// 10.4 on joints that are processed already: (N-1, D).
FeatureSequence extract_features(const JointSequence& joints, const Skeleton& skeleton);
// extract_features(process(joints)); the skeleton is found by the joint count.
FeatureSequence motion_features(const JointSequence& joints);

// Where the root of every row is and where it faces, accumulated from columns 0..3 (10.5).
struct RootPath {
    std::vector<double> half_angles;  // (N): the quaternion of frame t is (cos a, 0, sin a, 0)
    std::vector<Vec3> positions;      // (N), metres

    // Takes a vector of the world into the root's frame; its conjugate leads back.
    Quat heading(int64_t frame) const {
        const double a = half_angles[static_cast<size_t>(frame)];
        return {std::cos(a), 0, std::sin(a), 0};
    }
    // Angle in radians by which the subject is turned from +Z towards +X in this frame.
    double yaw(int64_t frame) const { return -2 * half_angles[static_cast<size_t>(frame)]; }
};
RootPath recover_root(const FeatureSequence& features);

// Joints from the position columns (recover_from_ric): (N, J, 3). What generators use.
JointSequence joints_from_features(const FeatureSequence& features);
// Joints from the rotation columns and bone offsets (recover_from_rot): (N, J, 3).
JointSequence joints_from_rotations(const FeatureSequence& features, std::span<const Vec3> offsets);
// joints_from_features plus the one frame that the last row's velocities lead to: (N+1, J, 3).
JointSequence rebuild_last_frame(const FeatureSequence& features);

// The mirrored twin (9): x is negated and left and right joints are exchanged.
JointSequence mirror(const JointSequence& joints, const Skeleton& skeleton);

// Frames [from, to) as a sequence of their own. Error if the range is empty or leaves the clip.
JointSequence slice(const JointSequence& joints, int64_t from, int64_t to);

// The clip at another rate: joints lie on the lines between their places in the frames before and
// after. As many frames as fit into the clip's time; the clip itself if the rates differ by less
// than a thousandth, as rounded frame times do. Error unless both rates are finite and more than 0.
JointSequence resample(const JointSequence& joints, double fps);

}  // namespace mc::motion
