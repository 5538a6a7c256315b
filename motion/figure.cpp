#include "motion/figure.h"

#include <algorithm>

#include "motion/skeleton.h"

namespace mc::motion {
namespace {

constexpr FigureSide M = FigureSide::kMiddle;
constexpr FigureSide L = FigureSide::kLeft;
constexpr FigureSide R = FigureSide::kRight;

constexpr FigurePart kHumanParts[] = {
    {1, 2, 0.080, 0.080, 0, M},       {0, 3, 0.110, 0.104, 0, M},
    {3, 6, 0.104, 0.104, 0, M},       {6, 9, 0.104, 0.108, 0, M},
    {9, 13, 0.100, 0.068, 0, M},      {9, 14, 0.100, 0.068, 0, M},
    {9, 12, 0.104, 0.056, 0, M},      {12, 15, 0.052, 0.056, 0, M},
    {9, 15, 0.082, 0.096, 0.075, M},  {13, 16, 0.062, 0.058, 0, L},
    {16, 18, 0.054, 0.040, 0, L},     {18, 20, 0.042, 0.028, 0, L},
    {18, 20, 0.031, 0.026, 0.085, L}, {1, 4, 0.090, 0.056, 0, L},
    {4, 7, 0.056, 0.038, 0, L},       {7, 10, 0.043, 0.034, 0, L},
    {7, 10, 0.034, 0.024, 0.045, L},  {14, 17, 0.062, 0.058, 0, R},
    {17, 19, 0.054, 0.040, 0, R},     {19, 21, 0.042, 0.028, 0, R},
    {19, 21, 0.031, 0.026, 0.085, R}, {2, 5, 0.090, 0.056, 0, R},
    {5, 8, 0.056, 0.038, 0, R},       {8, 11, 0.043, 0.034, 0, R},
    {8, 11, 0.034, 0.024, 0.045, R},
};

constexpr FigurePart kKitParts[] = {
    {11, 16, 0.080, 0.080, 0, M},    {0, 1, 0.110, 0.104, 0, M},   {1, 2, 0.104, 0.112, 0, M},
    {2, 3, 0.112, 0.072, 0, M},      {3, 4, 0.056, 0.060, 0, M},   {2, 4, 0.082, 0.096, 0.060, M},
    {3, 8, 0.072, 0.058, 0, L},      {8, 9, 0.054, 0.040, 0, L},   {9, 10, 0.042, 0.028, 0, L},
    {9, 10, 0.031, 0.026, 0.085, L}, {16, 17, 0.090, 0.056, 0, L}, {17, 18, 0.056, 0.038, 0, L},
    {18, 19, 0.043, 0.034, 0, L},    {19, 20, 0.034, 0.026, 0, L}, {3, 5, 0.072, 0.058, 0, R},
    {5, 6, 0.054, 0.040, 0, R},      {6, 7, 0.042, 0.028, 0, R},   {6, 7, 0.031, 0.026, 0.085, R},
    {11, 12, 0.090, 0.056, 0, R},    {12, 13, 0.056, 0.038, 0, R}, {13, 14, 0.043, 0.034, 0, R},
    {14, 15, 0.034, 0.026, 0, R},
};

constexpr double kLegLength = 0.8158;  // thigh and shank of HumanML3D's figure, metres

Vec3 at(const JointSequence& joints, int64_t t, int j) {
    const float* p = joints.at(t, j);
    return {p[0], p[1], p[2]};
}

}  // namespace

std::span<const FigurePart> figure_parts(int64_t joints) {
    skeleton_for_joints(joints);  // refuses other numbers
    if (joints == 21) return kKitParts;
    return kHumanParts;
}

double figure_scale(const JointSequence& joints) {
    const Skeleton& skeleton = skeleton_for_joints(joints.joints);
    const auto below = [&](int joint) {
        const auto found = std::find(skeleton.parents.begin(), skeleton.parents.end(), joint);
        return static_cast<int>(found - skeleton.parents.begin());
    };
    double sum = 0;
    for (int hip : {skeleton.face_joints[0], skeleton.face_joints[1]}) {
        const int knee = below(hip);
        const int ankle = below(knee);
        for (int64_t t = 0; t < joints.frames; ++t) {
            sum += length(at(joints, t, knee) - at(joints, t, hip)) +
                   length(at(joints, t, ankle) - at(joints, t, knee));
        }
    }
    const double mean = joints.frames > 0 ? sum / (2 * static_cast<double>(joints.frames)) : 0.0;
    return mean > 1e-9 ? mean / kLegLength : 1.0;
}

std::vector<Capsule> figure_capsules(const JointSequence& joints, int64_t frame, double scale) {
    std::vector<Capsule> capsules;
    for (const FigurePart& part : figure_parts(joints.joints)) {
        Vec3 a = at(joints, frame, part.from);
        Vec3 b = at(joints, frame, part.to);
        if (part.reach > 0) {
            const Vec3 tip = b + scale * part.reach * normalise(b - a);
            a = b;
            b = tip;
        }
        capsules.push_back({a, b, scale * part.radius_from, scale * part.radius_to, part.side});
    }
    return capsules;
}

double figure_floor(const JointSequence& joints) {
    if (joints.frames == 0) return 0;
    const double scale = figure_scale(joints);
    double low = 1e300;
    for (int64_t t = 0; t < joints.frames; ++t) {
        for (const Capsule& c : figure_capsules(joints, t, scale)) {
            low = std::min({low, c.a.y - c.radius_a, c.b.y - c.radius_b});
        }
    }
    return low;
}

Vec3 figure_forward(const JointSequence& joints, int64_t frame) {
    const Skeleton& skeleton = skeleton_for_joints(joints.joints);
    const auto [right_hip, left_hip, right_shoulder, left_shoulder] = skeleton.face_joints;
    const Vec3 across = at(joints, frame, left_hip) - at(joints, frame, right_hip) +
                        at(joints, frame, left_shoulder) - at(joints, frame, right_shoulder);
    const Vec3 forward = normalise(cross(across, {0, 1, 0}));
    return length(forward) > 0 ? forward : Vec3{0, 0, 1};
}

bool is_mirrored(const JointSequence& joints) {
    const Skeleton& skeleton = skeleton_for_joints(joints.joints);
    double ahead = 0, whole = 0;
    for (int64_t t = 0; t < joints.frames; ++t)
        for (const auto& [ankle, toe] : {skeleton.left_foot, skeleton.right_foot}) {
            const Vec3 foot = at(joints, t, toe) - at(joints, t, ankle);
            ahead += dot(foot, figure_forward(joints, t));
            whole += length(foot);
        }
    return ahead < -0.1 * whole;
}

}  // namespace mc::motion
