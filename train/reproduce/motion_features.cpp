// motion_features: joints to HumanML3D features and back, as the data set's own scripts do it.
#include "motion/features.h"
#include "train/reproduce/runners.h"

namespace mc::train {
namespace {

using namespace motion;

Tensor as_tensor(const std::vector<float>& values, const Shape& shape) {
    return Tensor::from_span<float>(values, shape);
}

}  // namespace

void run_motion_features(Checks& checks) {
    const ReferenceCase& recorded = checks.recorded();
    const Skeleton& skeleton =
        recorded.size("joints") == 21 ? kit_skeleton() : humanml3d_skeleton();
    JointSequence joints;
    joints.joints = recorded.size("joints");
    joints.xyz = recorded.floats("input.joints");
    joints.frames = static_cast<int64_t>(joints.xyz.size()) / (3 * joints.joints);
    FeatureSequence vec;
    vec.dims = 12 * joints.joints - 1;
    vec.rows = recorded.floats("input.vec");
    vec.frames = static_cast<int64_t>(vec.rows.size()) / vec.dims;
    std::vector<Vec3> offsets, scaled;
    const std::vector<double> target = recorded.values("input.tgt_offsets");
    for (size_t i = 0; i + 2 < target.size(); i += 3) {
        offsets.push_back({target[i], target[i + 1], target[i + 2]});
        scaled.push_back(1.1 * offsets.back());
    }
    const auto joint_tensor = [&](const JointSequence& s) {
        return as_tensor(s.xyz, {s.frames, s.joints, 3});
    };
    const auto feature_tensor = [&](const FeatureSequence& f) {
        return as_tensor(f.rows, {f.frames, f.dims});
    };
    checks.compare("output.recover_from_ric", joint_tensor(joints_from_features(vec)));
    const JointSequence moved = process(joints, skeleton, offsets);
    checks.compare("output.process_file.global_positions", joint_tensor(moved));
    const FeatureSequence features = extract_features(moved, skeleton);
    checks.compare("output.process_file.data", feature_tensor(features));
    checks.compare("output.extract_features.data",
                   feature_tensor(extract_features(joints, skeleton)));
    checks.compare("output.process_file_scaled.data",
                   feature_tensor(extract_features(process(joints, skeleton, scaled), skeleton)));
    std::vector<float> velocity;  // (T, 2)
    for (int64_t t = 0; t < features.frames; ++t)
        velocity.insert(velocity.end(), features.at(t) + 1, features.at(t) + 3);
    checks.compare("output.process_file.l_velocity", as_tensor(velocity, {features.frames, 2}));
    checks.skip("output.process_file.positions",
                "an intermediate value that the features are made of here without being stored");

    std::vector<double> speed;  // (T, 4): left ankle, left toe, right ankle, right toe
    const bool feet = checks.wants("output.feet_speed2");
    std::vector<int64_t> foot_joints;
    for (const char* side : {"/fid_l/", "/fid_r/"})
        for (const char* which : {"0", "1"})
            if (feet) foot_joints.push_back(recorded.size(std::string(side) + which));
    for (int64_t t = 0; t < features.frames && feet; ++t)
        for (const int64_t j : foot_joints) {
            double sum = 0;
            for (int k = 0; k < 3; ++k) {
                const double step = static_cast<double>(moved.at(t + 1, j)[k]) -
                                    static_cast<double>(moved.at(t, j)[k]);
                sum += step * step;
            }
            speed.push_back(sum);
        }
    // d(v^2) <= 2 v dp, twice for two positions: p is off by as much as the positions are allowed.
    const double position = recorded.own_error("output.process_file.global_positions");
    if (feet) {
        const std::vector<double> want = recorded.values("output64.feet_speed2");
        double fastest = 0;
        for (const double v : want) fastest = std::max(fastest, v);
        checks.compare_values("output.feet_speed2", {}, speed, want,
                              4 * std::sqrt(fastest) * position);
    }
    const RootPath path = recover_root(vec);
    std::vector<double> quaternions, positions;
    for (int64_t t = 0; t < vec.frames; ++t) {
        const Quat q = path.heading(t);
        const Vec3 p = path.positions[static_cast<size_t>(t)];
        quaternions.insert(quaternions.end(), {q.w, q.x, q.y, q.z});
        positions.insert(positions.end(), {p.x, p.y, p.z});
    }
    const double own = recorded.own_error("output.recover_from_ric");
    if (checks.wants("output.root_quat"))
        checks.compare_values("output.root_quat", {}, quaternions,
                              recorded.values("output64.root_quat"), own);
    if (checks.wants("output.root_pos"))
        checks.compare_values("output.root_pos", {}, positions,
                              recorded.values("output64.root_pos"), own);
}

}  // namespace mc::train
