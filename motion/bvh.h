// BVH (Biovision hierarchy): a skeleton, channels of Euler angles and positions, one row a frame.
//
//     Bvh bvh = read_bvh("walk.bvh");                 // degrees and the file's own unit
//     BvhGlobals globals = bvh_forward(bvh);          // where every joint is in every frame
//     write_text_file("copy.bvh", format_bvh(bvh));
//
// The reader is tolerant where files in the wild are sloppy (motion_data.md, 12.1): tabs, CRLF, a
// byte order mark, names with ':' or spaces, any letter case of keywords, any subset and order of
// channels, frames spread over lines in any way, a wrong frame count, a cut-off last frame; what it
// had to mend stands in `warnings`. Anything else is an Error of one line that begins "file:line:
// ".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "motion/quaternion.h"

namespace mc::motion {

enum class BvhChannel : uint8_t {
    kXposition,
    kYposition,
    kZposition,
    kXrotation,
    kYrotation,
    kZrotation,
};

struct BvhJoint {
    std::string name;
    int64_t parent = -1;               // always less than the joint's own index; -1 for the root
    Vec3 offset;                       // from the parent, in the parent's frame
    std::vector<BvhChannel> channels;  // in the order of the file
    int64_t first_channel = 0;         // column of channels[0] in a row of values
    bool has_end_site = false;
    Vec3 end_site;  // tip of a leaf, in the joint's frame
};

struct Bvh {
    std::vector<BvhJoint> joints;  // depth first, in the order of the file
    int64_t frames = 0;
    int64_t channels = 0;        // columns of values
    double frame_time = 0;       // seconds
    std::vector<double> values;  // (frames, channels), degrees and the file's unit
    std::vector<std::string> warnings;

    // Index of the joint with that name, or -1.
    int64_t find(std::string_view name) const;
};

inline constexpr int64_t kBvhMaxJoints = 4096;
inline constexpr int64_t kBvhMaxDepth = 256;
inline constexpr int64_t kBvhMaxValues = int64_t{1} << 28;  // frames x channels: 2 GiB

// `name` stands for the file in messages.
Bvh parse_bvh(std::string_view text, const std::string& name);
Bvh read_bvh(const std::string& path);

// Text of the file, tab-indented. Throws Error if the parts of `bvh` contradict each other or a
// value is not finite.
std::string format_bvh(const Bvh& bvh);

// Global placement of every joint in every frame. A point v of joint j's frame is at rotation*v +
// position.
struct BvhGlobals {
    int64_t frames = 0;
    int64_t joints = 0;
    std::vector<Vec3> positions;  // (frames, joints)
    std::vector<Mat3> rotations;  // (frames, joints)

    const Vec3& position(int64_t frame, int64_t joint) const {
        return positions[static_cast<size_t>(frame * joints + joint)];
    }
    const Mat3& rotation(int64_t frame, int64_t joint) const {
        return rotations[static_cast<size_t>(frame * joints + joint)];
    }
    // Where a point given in the joint's frame is, e.g. its end site.
    Vec3 point(int64_t frame, int64_t joint, Vec3 v) const {
        return rotation(frame, joint) * v + position(frame, joint);
    }
};

// Forward kinematics: local rotation = product of the rotation channels from left to right. A
// position channel replaces that component of OFFSET; with add_root_offset the root's OFFSET is
// added to it instead (some writers mean that).
BvhGlobals bvh_forward(const Bvh& bvh, bool add_root_offset = false);

}  // namespace mc::motion
