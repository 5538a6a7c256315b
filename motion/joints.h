// A clip of joint positions: what motion capture gives, what features are made of, what exporters write.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mc::motion {

struct JointSequence {
    int64_t frames = 0;
    int64_t joints = 0;       // 22 (HumanML3D) or 21 (KIT)
    double fps = 20.0;        // 20 (HumanML3D) or 12.5 (KIT)
    std::vector<float> xyz;   // (frames, joints, 3), metres, Y up, right-handed, facing +Z has left at +X

    float* at(int64_t frame, int64_t joint) { return xyz.data() + (frame * joints + joint) * 3; }
    const float* at(int64_t frame, int64_t joint) const {
        return xyz.data() + (frame * joints + joint) * 3;
    }
};

// Feature rows as the generators speak them (motion_data.md, 10.4): 263 columns for 22 joints, 251 for 21.
struct FeatureSequence {
    int64_t frames = 0;
    int64_t dims = 0;         // 263 or 251
    double fps = 20.0;
    std::vector<float> rows;  // (frames, dims)

    float* at(int64_t frame) { return rows.data() + frame * dims; }
    const float* at(int64_t frame) const { return rows.data() + frame * dims; }
};

}  // namespace mc::motion
