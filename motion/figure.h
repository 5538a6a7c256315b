// The figure that pictures, the web page and glTF draw: tapered bodies around the bones of a
// skeleton.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "motion/joints.h"
#include "motion/quaternion.h"

namespace mc::motion {

enum class FigureSide : uint8_t {
    kMiddle,
    kLeft,
    kRight
};  // middle 0, left 1, right 2 on the page too

// The hull of two spheres. From joint `from` to joint `to`; with a non-zero `reach` from `to`
// onwards by that much in the direction from -> to: hands, toes, the skull.
struct FigurePart {
    int from;
    int to;
    double radius_from;  // metres on a figure of HumanML3D's size, like reach
    double radius_to;
    double reach;
    FigureSide side;
};

// Parts for 22 or 21 joints. Error for any other number.
std::span<const FigurePart> figure_parts(int64_t joints);

// How large this figure is beside HumanML3D's (1 for its own; about 600 for KIT's units), by the
// mean length of thighs and shanks over the clip; 1 if the clip is empty or has none.
double figure_scale(const JointSequence& joints);

struct Capsule {
    Vec3 a;
    Vec3 b;
    double radius_a = 0;
    double radius_b = 0;
    FigureSide side = FigureSide::kMiddle;
};

// The bodies of one frame.
std::vector<Capsule> figure_capsules(const JointSequence& joints, int64_t frame, double scale);

// Lowest point of the bodies over the clip: the soles of who stands, and where the floor is.
double figure_floor(const JointSequence& joints);

// The way the figure faces in a frame, horizontal and of length 1; +Z if hips and shoulders do not
// tell.
Vec3 figure_forward(const JointSequence& joints, int64_t frame);

// Whether the feet point, all in all, against the way that hips and shoulders face: then left and
// right are exchanged, as in a clip that was mirrored, or taken from a left-handed system, without
// its joints' names. On our 2,544 clips of motion capture the mean cosine is 0.11 to 0.9.
bool is_mirrored(const JointSequence& joints);

}  // namespace mc::motion
