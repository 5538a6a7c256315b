// An arm or a leg as two bones of fixed length: where the joint between them is when the end
// reaches for a place.
#pragma once

#include <algorithm>
#include <cmath>

namespace mc::motion {

// The middle joint, seen from the root of the limb: `along` the way to the end and `aside` of it,
// never negative; and how far the end comes.
struct TwoBone {
    double along = 0;
    double aside = 0;
    double reach = 0;
};

// `distance` to the place; beyond what the bones reach, or nearer than they fold, the end stays on
// the line to it. `longest` below 0: as far as the bones reach.
inline TwoBone two_bone(double distance, double upper, double lower, double longest = -1) {
    TwoBone limb;
    if (longest < 0) longest = upper + lower;
    limb.reach = std::clamp(distance, std::min(std::fabs(upper - lower), longest), longest);
    if (limb.reach > 1e-9) {
        limb.along = (upper * upper - lower * lower + limb.reach * limb.reach) / (2 * limb.reach);
    }
    limb.aside = std::sqrt(std::max(0.0, upper * upper - limb.along * limb.along));
    return limb;
}

}  // namespace mc::motion
