#include "tools/common/motion_input.h"

#include "motion/bvh.h"
#include "motion/features.h"
#include "motion/ik.h"
#include "motion/motion_file.h"

namespace mc::tools {
namespace {

bool is_bvh(const std::filesystem::path& path) {
    return path.extension() == ".bvh" || path.extension() == ".BVH";
}

}  // namespace

motion::JointSequence read_motion(const std::filesystem::path& path) {
    if (is_bvh(path)) return motion::bvh_joints(motion::read_bvh(path.string()));
    const NpyArray array = read_npy(path);
    if (array.shape.size() != 2) return motion::joints_of_array(array);
    return motion::joints_from_features(motion::features_of_array(array));
}

motion::FeatureSequence read_motion_features(const std::filesystem::path& path) {
    if (!is_bvh(path)) {
        const NpyArray array = read_npy(path);
        if (array.shape.size() == 2) return motion::features_of_array(array);
    }
    return motion::motion_features(read_motion(path));
}

}  // namespace mc::tools
