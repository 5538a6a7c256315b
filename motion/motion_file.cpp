#include "motion/motion_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "kernels/error.h"
#include "motion/features.h"
#include "motion/skeleton.h"

namespace mc::motion {

namespace {

void check_array(const NpyArray& array, bool shape_fits, const char* want) {
    if (array.kind() != 'f' || array.item_size() < 4)
        throw Error(fmt::format("{}: got '{}' elements, want float32 or float64", array.source,
                                array.descr));
    if (!shape_fits)
        throw Error(fmt::format("{}: got shape ({}), want {}", array.source,
                                fmt::join(array.shape, ", "), want));
    if (array.shape[0] < 1 || array.shape[0] > kMaxFrames)
        throw Error(fmt::format("{}: got {} frames, want 1 to {}", array.source, array.shape[0],
                                kMaxFrames));
}

}  // namespace

JointSequence joints_of_array(const NpyArray& array) {
    const auto& shape = array.shape;
    check_array(array, shape.size() == 3 && (shape[1] == 22 || shape[1] == 21) && shape[2] == 3,
                "(frames, 22, 3), or (frames, 21, 3) for KIT, of joints");
    const Skeleton& skeleton = skeleton_for_joints(shape[1]);
    JointSequence joints;
    joints.frames = shape[0];
    joints.joints = shape[1];
    joints.fps = skeleton.fps;
    joints.xyz = array.as_f32();
    check_joints(joints, skeleton, 1, array.source);
    return joints;
}

FeatureSequence features_of_array(const NpyArray& array) {
    const auto& shape = array.shape;
    check_array(array, shape.size() == 2 && (shape[1] == 263 || shape[1] == 251),
                "(frames, 263), or (frames, 251) for KIT, of features");
    FeatureSequence features;
    features.frames = shape[0];
    features.dims = shape[1];
    features.fps = skeleton_for_dims(shape[1]).fps;
    features.rows = array.as_f32();
    check_features(features, array.source);
    return features;
}

JointSequence read_joints(const std::filesystem::path& path) {
    return joints_of_array(read_npy(path));
}
FeatureSequence read_features(const std::filesystem::path& path) {
    return features_of_array(read_npy(path));
}

std::string encode_joints(const JointSequence& joints) {
    return encode_npy({joints.frames, joints.joints, 3}, joints.xyz.data());
}
std::string encode_features(const FeatureSequence& features) {
    return encode_npy({features.frames, features.dims}, features.rows.data());
}
void write_joints(const std::filesystem::path& path, const JointSequence& joints, bool flush) {
    write_npy(path, {joints.frames, joints.joints, 3}, joints.xyz.data(), flush);
}
void write_features(const std::filesystem::path& path, const FeatureSequence& features,
                    bool flush) {
    write_npy(path, {features.frames, features.dims}, features.rows.data(), flush);
}

}  // namespace mc::motion
